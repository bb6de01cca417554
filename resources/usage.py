"""Memory of processes, and the time and memory of a part of their work."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

SAMPLE_SECONDS = 0.25


class UsageMeter:
    """Measures what happens inside `measuring()`.

    Attributes:
        seconds: measured until now.
        peak_mib: highest resident memory of the process and its children meanwhile.
    """

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self.peak_mib = resident_mib(self._process)
        self.seconds = 0.0

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Add the time of the block, and sample its memory."""
        stop = threading.Event()
        sampler = threading.Thread(target=self._sample, args=(stop,), daemon=True)
        sampler.start()
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began
            stop.set()
            sampler.join()

    def _sample(self, stop: threading.Event) -> None:
        stopped = False
        while not stopped:
            stopped = stop.wait(SAMPLE_SECONDS)
            self.peak_mib = max(self.peak_mib, resident_mib(self._process))


def own_mib() -> float:
    """Resident memory of this process, in MiB."""
    return _resident_bytes(os.getpid()) / 2**20


def resident_mib(process: psutil.Process) -> float:
    """Resident memory of a process and its children, in MiB."""
    return sum(map(_resident_bytes, (process.pid, *_descendants(process)))) / 2**20


def _resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0: it has ended. Read where Linux lists it: psutil takes ten times as long."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_bytes().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        import psutil

        try:
            return int(psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            return 0


def _descendants(process: psutil.Process) -> list[int]:
    """The children of a process and theirs, without a look at every process of the machine where Linux lists them."""
    pids, found = [process.pid], list[int]()
    while pids:
        pid = pids.pop()
        try:
            listed = [child for task in Path(f"/proc/{pid}/task").iterdir() for child in _children(task)]
        except OSError:
            if pid == process.pid:
                return [one.pid for one in process.children(recursive=True)]
            continue  # ended meanwhile
        pids += listed
        found += listed
    return found


def _children(task: Path) -> list[int]:
    return [int(child) for child in (task / "children").read_bytes().split()]
