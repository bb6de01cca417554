"""Where windows may start: three ranges of time that share nothing which could tell the future.

A window is `lookback` bars that are seen and `horizon` bars that are forecast. Every bar of a window lies in the
window's own range, so no window shares a bar with a window of another range. Before a range begins, `embargo`
sessions are left out, and its first target comes more than `horizon` bars after the last bar of the range before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np

from resources.settings import WindowSettings

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Shape:
    """A window's two parts, in bars."""

    lookback: int
    horizon: int

    @property
    def length(self) -> int:
        return self.lookback + self.horizon


@dataclass(frozen=True)
class Range:
    """A split's days. `first` is the first day of its windows, after the embargo; both are inside."""

    split: Split
    first: date
    last: date
    before: date | None
    """The last day of the range before; none for the first range."""


def ranges(settings: WindowSettings, sessions: np.ndarray) -> dict[Split, Range]:
    """The three ranges on the sessions that there are.

    Args:
        sessions: (n,) datetime64[D], rising: every day on which any symbol has a bar.
    """
    spans = {"train": settings.train, "validation": settings.validation, "test": settings.test}
    found: dict[Split, Range] = {}
    before: date | None = None
    for split in SPLITS:
        first, last = spans[split]
        if before is not None:
            first = max(first, _after_embargo(before, settings.embargo, sessions))
        found[split] = Range(split, first, last, before)
        before = last
    return found


def starts(days: np.ndarray, within: Range, shape: Shape) -> np.ndarray:
    """The rows at which one symbol's windows of a range start: (m,) int64.

    Args:
        days: (n,) datetime64[D], the session of each bar of one symbol, rising.
    """
    low = int(np.searchsorted(days, np.datetime64(within.first), side="left"))
    high = int(np.searchsorted(days, np.datetime64(within.last), side="right"))
    if within.before is not None:
        end_before = int(np.searchsorted(days, np.datetime64(within.before), side="right"))
        low = max(low, end_before + max(0, shape.horizon - shape.lookback))
    return np.arange(low, high - shape.length + 1, dtype=np.int64)


def origins(days: np.ndarray, first: date, last: date, lookback: int) -> np.ndarray:
    """The rows from which one symbol can be forecast: inside the days, with a whole lookback up to them."""
    low = int(np.searchsorted(days, np.datetime64(first), side="left"))
    high = int(np.searchsorted(days, np.datetime64(last), side="right"))
    return np.arange(max(low, lookback - 1), high, dtype=np.int64)


def _after_embargo(before: date, embargo: int, sessions: np.ndarray) -> date:
    later = sessions[sessions > np.datetime64(before)]
    if len(later) > embargo:
        return later[embargo].astype(object)
    return date.max
