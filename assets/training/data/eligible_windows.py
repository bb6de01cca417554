"""Which windows and origins of a range are used: none whose targets are filled, and those with events by a rule.

Belongs here: the choices of `windows.fill` and `windows.events`. Not here: how gaps are filled (assets.market.gaps),
what an event is (assets.market.events), the ranges (splits).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from assets.market.gaps import fill_recipe
from assets.market.history import BarHistory
from assets.training.data.splits import SplitRange, WindowShape, origin_rows, window_starts
from resources.settings import WindowSettings

# Windows start one bar after another, so an event is in a hundred of them: each fourth has the weight of a quarter.
DOWNWEIGHT_EVERY = 4


def eligible_windows(history: BarHistory, within: SplitRange, settings: WindowSettings) -> np.ndarray:
    """The rows at which the used windows of one symbol start in a range: (n,) int64.

    The origin and the targets of each are bars; filled ones are in lookbacks alone. Only training leaves out events.
    """
    shape = WindowShape(settings.lookback_window, settings.predict_window)
    starts: np.ndarray = window_starts(history.days, within, shape)
    if history.filled is not None:
        starts = starts[~_holds_any(history.filled, starts + shape.lookback - 1, shape.horizon + 1)]
    if within.split != "train" or settings.events == "keep" or history.events is None:
        return starts
    held = _holds_any(history.events, starts, shape.length)
    if settings.events == "downweight":
        held &= starts % DOWNWEIGHT_EVERY != 0
    kept: np.ndarray = starts[~held]
    return kept


def eligible_origins(history: BarHistory, settings: WindowSettings) -> np.ndarray:
    """The rows of one symbol that are forecast origins of the test range: (n,) int64. None is a filled bar."""
    rows: np.ndarray = origin_rows(history.days, *settings.test, settings.lookback_window)
    return rows if history.filled is None else rows[~history.filled[rows]]


def preparation(settings: WindowSettings) -> dict[str, Any]:
    """The choices that differ from the defaults, as manifests and cards name them; with the defaults digests stay."""
    chosen = fill_recipe(settings.fill, settings.fill_limit)
    if settings.events != "keep":
        chosen["events"] = settings.events
    return chosen


def _holds_any(marked: np.ndarray, first: np.ndarray, length: int) -> np.ndarray:
    """Whether any of the `length` rows from each of `first` on is marked: (n,) bool."""
    before = np.concatenate([[0], np.cumsum(marked)])
    held: np.ndarray = before[first + length] > before[first]
    return held
