"""Progress of long-running work, from the functions that do it to the observers that display it.

Plain functions take a `Progress` and call it. Assets pass one that reaches the observers registered here (the command
line's progress bar, Dagster's log). Not here: how progress is displayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """Called during the work: `done` of `total` units, and a short note such as a loss."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


@dataclass(frozen=True)
class ProgressUpdate:
    """The progress of one asset: `done` of `total` units."""

    asset: str
    done: int
    total: int
    note: str = ""


Observer = Callable[[ProgressUpdate], None]
_observers: list[Observer] = []


def silent(done: int, total: int, note: str = "") -> None:
    """A `Progress` that reports to nobody."""


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Every update inside the block is passed to `observer`."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def progress_of(asset: str) -> Progress:
    """A `Progress` that passes the updates of one asset to all observers."""

    def update(done: int, total: int, note: str = "") -> None:
        for observer in tuple(_observers):
            observer(ProgressUpdate(asset, done, total, note))

    return update
