"""Train, validation and test ranges, purged and embargoed, and the rows at which their windows start.

A window is `lookback` bars of input and `horizon` bars of target. All bars of a window are inside its range, so no
window shares a bar with a window of another range. `embargo` sessions are left out before a range begins, and its first
target comes more than `horizon` bars after the last bar of the range before.
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
class WindowShape:
    """The two parts of a window, in bars."""

    lookback: int
    horizon: int

    @property
    def length(self) -> int:
        return self.lookback + self.horizon


@dataclass(frozen=True)
class SplitRange:
    """The days of a split, both ends included.

    Attributes:
        first: the first day of its windows, after the embargo.
        previous_last: the last day of the range before; none for the first range.
    """

    split: Split
    first: date
    last: date
    previous_last: date | None


def split_ranges(settings: WindowSettings, sessions: np.ndarray) -> dict[Split, SplitRange]:
    """The three ranges, with the embargo counted in sessions.

    Args:
        sessions: (n,) datetime64[D], ascending: every day on which any symbol has a bar.
    """
    spans = {"train": settings.train, "validation": settings.validation, "test": settings.test}
    found: dict[Split, SplitRange] = {}
    previous_last: date | None = None
    for split in SPLITS:
        first, last = spans[split]
        if previous_last is not None:
            first = max(first, _after_embargo(previous_last, settings.embargo, sessions))
        found[split] = SplitRange(split, first, last, previous_last)
        previous_last = last
    return found


def window_starts(days: np.ndarray, within: SplitRange, shape: WindowShape) -> np.ndarray:
    """The rows at which the windows of one symbol start in a range: (m,) int64.

    Args:
        days: (n,) datetime64[D], the session of each bar of one symbol, ascending.
    """
    low = int(np.searchsorted(days, np.datetime64(within.first), side="left"))
    high = int(np.searchsorted(days, np.datetime64(within.last), side="right"))
    if within.previous_last is not None:
        end_before = int(np.searchsorted(days, np.datetime64(within.previous_last), side="right"))
        low = max(low, end_before + max(0, shape.horizon - shape.lookback))
    return np.arange(low, high - shape.length + 1, dtype=np.int64)


def origin_rows(days: np.ndarray, first: date, last: date, lookback: int) -> np.ndarray:
    """The rows of one symbol that can be forecast origins: (m,) int64, with `lookback` bars up to each."""
    low = int(np.searchsorted(days, np.datetime64(first), side="left"))
    high = int(np.searchsorted(days, np.datetime64(last), side="right"))
    return np.arange(max(low, lookback - 1), high, dtype=np.int64)


def _after_embargo(last: date, embargo: int, sessions: np.ndarray) -> date:
    later = sessions[sessions > np.datetime64(last)]
    if len(later) <= embargo:
        return date.max
    first: date = later[embargo].astype(object)
    return first
