"""Actuals: the closes after an origin, in prices as quoted at the origin, and the scale of MASE."""

from __future__ import annotations

import numpy as np

from assets.market.history import BarHistory

YEAR = 252


def actual_closes(history: BarHistory, index: int, targets: np.ndarray) -> np.ndarray:
    """The closes at `targets` (n,), increasing, in prices of bar `index`; NaN without a bar: (n,) float64."""
    last = int(np.searchsorted(history.stamps, targets[-1], side="right")) - 1
    actual = np.full(len(targets), np.nan)
    if last <= index:
        return actual
    stamps = history.stamps[index + 1 : last + 1]
    closes = history.closes_as_of(index, first=index + 1, last=last)
    place = np.searchsorted(stamps, targets)
    found = np.flatnonzero(place < len(stamps))
    found = found[stamps[place[found]] == targets[found]]
    actual[found] = closes[place[found]]
    return actual


def naive_scale(history: BarHistory, index: int) -> float:
    """The denominator of MASE: mean absolute one-bar change of the close over the 252 bars up to bar `index`.

    In prices of bar `index`. Hyndman and Koehler (2006) use the whole history; a price that grew a hundredfold has no
    single scale.
    """
    closes = history.closes_as_of(index, first=max(0, index - YEAR))
    return float(np.abs(np.diff(closes)).mean()) if len(closes) > 1 else np.nan
