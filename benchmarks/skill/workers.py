"""Processes that run the parts of a benchmark, with progress, time and memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from resources.child_process import exit_with_parent
from resources.worker import ONE_THREAD

SECONDS_BETWEEN_LINES, SECONDS_BETWEEN_SAMPLES = 10, 0.25


@dataclass(frozen=True)
class Call:
    """A function, its arguments, and the label that it is reported under."""

    work: Callable[..., object]
    arguments: tuple[object, ...]
    label: str


@dataclass(frozen=True)
class Result:
    """What a call returned, and its processor time in seconds."""

    label: str
    value: object
    seconds: float


@dataclass
class Workers:
    """Processes of one thread each; one process: this one, with its threads. Use as a context.

    They end with this process, however it ends, and at once where the context ends by an exception.

    Attributes:
        results: of all calls until now.
        peak: the most memory that this process and its workers had together, in MiB.
    """

    processes: int
    results: list[Result] = field(default_factory=list)
    peak: float = 0.0
    _pool: ProcessPoolExecutor | None = None
    _ended: threading.Event = field(default_factory=threading.Event)
    _watch: threading.Thread | None = None

    def __enter__(self) -> Workers:
        if self.processes > 1:
            # New processes, not copies of this one, whose threads they would not have.
            self._pool = ProcessPoolExecutor(self.processes, multiprocessing.get_context("spawn"), _begin)
        self._watch = threading.Thread(target=self._measure, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        if self._watch:
            self._watch.join()
        if self._pool:
            for process in multiprocessing.active_children() if kind else ():
                process.terminate()
            self._pool.shutdown(cancel_futures=True)

    def run(self, calls: Sequence[Call], title: str) -> list[Result]:
        """Run the calls in any order, with progress on stderr."""
        left = Counter(call.label for call in calls)
        began = shown = time.perf_counter()
        results = list[Result]()
        for result in self._each(calls):
            results.append(result)
            left[result.label] -= 1
            now = time.perf_counter()
            if now - shown > SECONDS_BETWEEN_LINES or len(results) == len(calls):
                waiting = ", ".join(f"{label} {count}" for label, count in left.items() if count)
                done = f"{title}: {len(results)} of {len(calls)} parts, {now - began:,.0f} s"
                sys.stderr.write(f"{done}; left: {waiting}\n" if waiting else f"{done}\n")
                shown = now
        self.results += results
        return results

    def seconds(self) -> dict[str, float]:
        """Processor seconds by label, added over the processes."""
        found: dict[str, float] = {}
        for one in self.results:
            found[one.label] = found.get(one.label, 0.0) + one.seconds
        return {label: round(value, 1) for label, value in found.items()}

    @property
    def memory_text(self) -> str:
        """The peak memory in words."""
        return f"{self.peak:,.0f} MiB" if self.peak else "memory not measured: no /proc"

    def _measure(self) -> None:
        while True:
            processes = [os.getpid(), *(child.pid for child in multiprocessing.active_children() if child.pid)]
            self.peak = max(self.peak, sum(map(memory, processes)))
            if self._ended.wait(SECONDS_BETWEEN_SAMPLES):
                return

    def _each(self, calls: Sequence[Call]) -> Iterator[Result]:
        if self._pool is None:
            yield from map(_run, calls)
            return
        before = {name: os.environ.get(name) for name in ONE_THREAD}
        os.environ.update(ONE_THREAD)
        try:
            for future in as_completed([self._pool.submit(_run, call) for call in calls]):
                yield future.result()
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def memory(process: int) -> float:
    """Resident memory of a process in MiB, pages that it shares counted in part; 0 where /proc does not tell."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _begin() -> None:
    """In a worker: Ctrl-C, which reaches all processes of a terminal, is for the parent to act on."""
    exit_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run(call: Call) -> Result:
    began = time.process_time()
    value = call.work(*call.arguments)
    return Result(call.label, value, time.process_time() - began)
