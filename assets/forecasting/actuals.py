"""What then happened: the closes after an origin, in the prices of the origin's day."""

from __future__ import annotations

import numpy as np

from assets.market.history import History

YEAR = 252


def closes_after(history: History, index: int, targets: np.ndarray) -> np.ndarray:
    """The closes at `targets` (n,), rising, as seen from bar `index`; NaN where there is no bar (yet): (n,) float64."""
    last = int(np.searchsorted(history.stamps, targets[-1], side="right")) - 1
    truth = np.full(len(targets), np.nan)
    if last <= index:
        return truth
    stamps = history.stamps[index + 1 : last + 1]
    closes = history.closes_seen_from(index, first=index + 1, last=last)
    place = np.searchsorted(stamps, targets)
    found = np.flatnonzero(place < len(stamps))
    found = found[stamps[place[found]] == targets[found]]
    truth[found] = closes[place[found]]
    return truth


def naive_scale(history: History, index: int) -> float:
    """Mean absolute one-bar change of the close over the year up to bar `index`, in its prices: MASE's denominator.

    A year, not the whole history as Hyndman and Koehler (2006) have it: a price that grew a hundredfold has no one
    scale.
    """
    closes = history.closes_seen_from(index, first=max(0, index - YEAR))
    return float(np.abs(np.diff(closes)).mean()) if len(closes) > 1 else np.nan
