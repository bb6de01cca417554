"""Locks between the processes of one machine, on files. The kernel releases the lock of a process that dies.

All locks of candlecast are `flock` locks taken here: the run lock and the lock on Dagster's records (one process per
home), the lake's commit lock, the promotion ledger's lock, and one lock per GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from resources.errors import CandlecastError

# Keeps claimed locks from being garbage-collected, which would release them.
_claimed: list[FileLock] = []


class LockHeldError(CandlecastError):
    """Another process holds the lock."""


@contextmanager
def exclusive_lock(file: Path, wait: float | None = None) -> Iterator[None]:
    """Hold the lock on `file` for the length of the block. The file and its folder are created when missing.

    Args:
        wait: seconds to wait for another holder; 0: do not wait; None: without limit.

    Raises:
        LockHeldError: another process held the lock for longer than `wait`.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, timeout=-1 if wait is None else wait)
    try:
        lock.acquire()
    except Timeout:
        raise LockHeldError(f"{file} is locked by another process") from None
    try:
        yield
    finally:
        lock.release()


def claim_lock(file: Path) -> bool:
    """Take the lock on `file` until this process ends; False if another process holds it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return False
    _claimed.append(lock)
    return True
