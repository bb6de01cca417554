"""Outcomes of forecasts: the log of the close at a target over that at the origin, from the bars."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from assets.market.history import CLOSE, BarHistory


def known_outcomes(
    origins: np.ndarray, symbols: np.ndarray, targets: np.ndarray, histories: Mapping[str, BarHistory]
) -> tuple[np.ndarray, np.ndarray]:
    """Closes at the origins (n,), and outcomes at the targets (n, steps); NaN: no bar."""
    closes, outcomes = np.full(len(origins), np.nan), np.full(targets.shape, np.nan)
    order = pd.Series(np.arange(len(symbols))).groupby(symbols)
    for symbol, rows in order.indices.items():
        history = histories.get(str(symbol))
        if history is None or not len(history):
            continue
        at_origin = _found(history.stamps, origins[rows])
        at_target = _found(history.stamps, targets[rows])
        closes[rows] = np.where(at_origin >= 0, history.quoted[at_origin, CLOSE], np.nan)
        known = (at_origin >= 0)[:, None] & (at_target >= 0)
        logs = log_closes(history, at_target) - log_closes(history, at_origin)[:, None]
        outcomes[rows] = np.where(known, logs, np.nan)
    return closes, outcomes


def log_closes(history: BarHistory, places: np.ndarray) -> np.ndarray:
    """Logs of the closes of some bars, comparable with each other: adjusted from the first bar on, so that no later
    action counts."""
    return np.asarray(np.log(history.quoted[places, CLOSE]) + np.log(history.growth[places]))


def same_closes(one: BarHistory, other: BarHistory, last: np.datetime64 | None = None) -> bool:
    """Whether two histories have equal closes and actions up to a timestamp; None: in all bars."""
    if one is other:
        return True
    ends = [None if last is None else int(np.searchsorted(own.stamps, last, side="right")) for own in (one, other)]
    return (
        np.array_equal(one.stamps[: ends[0]], other.stamps[: ends[1]])
        and np.array_equal(one.quoted[: ends[0], CLOSE], other.quoted[: ends[1], CLOSE], equal_nan=True)
        and np.array_equal(one.growth[: ends[0]], other.growth[: ends[1]])
    )


def _found(stamps: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The place of each wanted timestamp, -1: not there."""
    place = np.minimum(np.searchsorted(stamps, wanted), len(stamps) - 1)
    return np.where(stamps[place] == wanted, place, -1)
