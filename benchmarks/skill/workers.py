"""Processes that run the parts of a benchmark, with progress, time and memory."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from types import TracebackType

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

SECONDS_BETWEEN_LINES = 10


@dataclass(frozen=True)
class Call:
    """A function, its arguments, and the label that it is reported under."""

    work: Callable[..., object]
    arguments: tuple[object, ...]
    label: str


@dataclass(frozen=True)
class Result:
    """What a call returned, its seconds, and the peak memory of its process until then in MiB."""

    label: str
    value: object
    seconds: float
    process: int
    peak: float


@dataclass
class Workers:
    """Processes of one thread each; one process: this one, with its threads. Use as a context.

    Attributes:
        results: of all calls until now.
    """

    processes: int
    results: list[Result] = field(default_factory=list)
    _pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        if self.processes > 1:
            # New processes, not copies of this one, whose threads they would not have.
            self._pool = ProcessPoolExecutor(self.processes, multiprocessing.get_context("spawn"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._pool:
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
        """Seconds by label, added over the processes."""
        found: dict[str, float] = {}
        for one in self.results:
            found[one.label] = found.get(one.label, 0.0) + one.seconds
        return {label: round(value, 1) for label, value in found.items()}

    def peak(self) -> float:
        """The sum of the peak memories of all processes in MiB, this one included."""
        peaks = {os.getpid(): resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
        for one in self.results:
            peaks[one.process] = max(one.peak, peaks.get(one.process, 0.0))
        return sum(peaks.values())

    def _each(self, calls: Sequence[Call]) -> Iterator[Result]:
        if self._pool is None:
            yield from map(_run, calls)
            return
        before = {name: os.environ.get(name) for name in ONE_THREAD}
        os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
        try:
            for future in as_completed([self._pool.submit(_run, call) for call in calls]):
                yield future.result()
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def _run(call: Call) -> Result:
    began = time.perf_counter()
    value = call.work(*call.arguments)
    seconds = time.perf_counter() - began
    return Result(call.label, value, seconds, os.getpid(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
