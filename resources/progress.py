"""Progress of long work, told by whoever does it and shown by whoever watches.

Plain functions take a `Progress` and call it; the assets hand them one that reaches the observers registered
here (the command line's progress bar, Dagster's log). Not here: how anything is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """Called as the work goes on: `done` of `total` units, and a short note such as a loss."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


@dataclass(frozen=True)
class Report:
    """One step of one asset's work."""

    asset: str
    done: int
    total: int
    note: str = ""


Observer = Callable[[Report], None]
_observers: list[Observer] = []


def silent(done: int, total: int, note: str = "") -> None:
    """The progress that nobody watches."""


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Every report made inside the block reaches `observer`."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def progress_of(asset: str) -> Progress:
    """The progress of one asset, told to every observer."""

    def tell(done: int, total: int, note: str = "") -> None:
        for observer in tuple(_observers):
            observer(Report(asset, done, total, note))

    return tell
