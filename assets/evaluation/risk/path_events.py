"""Probabilities of drawdowns and touched prices from sample paths, and how often the events occur in bars.

A path's highs and lows are mapped per step from the law of its closes to a stored law of the close, by quantiles: x →
Q(F(x)), F the law of the sampled closes at that step and Q the stored quantiles (of the model itself, or of one that is
derived from it). Between levels the map is linear, beyond the outermost ones it has the slope from the median to them.
So the events have the scale of the stored law; the dependence over steps and the range of a bar relative to that scale
remain those that the model sampled.

Within a bar it is unknown whether the high or the low came first: a drawdown is measured from the highest price up to
the bar before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from assets.forecasting.forecaster import path_quantiles
from assets.market.history import CLOSE, HIGH, LOW, BarHistory
from resources.settings_risk import RiskSettings

DRAWDOWN, TOUCH = "drawdown", "touch"
# (measure, level)
Event = tuple[str, float]
# Beyond every log return: the map is a straight line up to here.
_FAR = 20.0


def wanted_events(risk: RiskSettings) -> list[Event]:
    """(measure, level) of every probability: drawdowns, and touches below and above the last close."""
    touches = [sign * distance for distance in risk.touches for sign in (-1, 1)]
    return [*((DRAWDOWN, size) for size in risk.drawdowns), *((TOUCH, level) for level in touches)]


def occurs(event: Event, highs: np.ndarray, lows: np.ndarray) -> np.ndarray:
    """Whether an event occurs: (…, steps) → (…) bool.

    Args:
        highs, lows: of the bars after the origin, as multiples of the close at the origin.
    """
    measure, level = event
    if measure == TOUCH:
        touched: np.ndarray = np.any(lows <= 1 + level if level < 0 else highs >= 1 + level, axis=-1)
        return touched
    before = np.concatenate([np.ones((*highs.shape[:-1], 1)), highs[..., :-1]], axis=-1)
    peaks = np.maximum.accumulate(before, axis=-1)
    fallen: np.ndarray = np.any(lows <= (1 - level) * peaks, axis=-1)
    return fallen


def mapped(values: np.ndarray, closes: np.ndarray, stored: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Log returns of paths, mapped from the law of the sampled closes to a stored one.

    Args:
        values: (paths, steps, fields) what to map, such as highs and lows.
        closes: (paths, steps) the sampled closes.
        stored: (steps, levels) quantiles of the stored law.
        levels: (levels,) increasing, with 0.5.

    Returns:
        As `values`.
    """
    sampled = path_quantiles(closes[None, :, :, None], levels.tolist())[0, :, 0]
    middle = int(np.argmin(np.abs(levels - 0.5)))
    found = np.empty(values.shape)
    for step, (x, y) in enumerate(zip(sampled, stored, strict=True)):
        low, high = (_slope(x, y, middle, end) for end in (0, -1))
        nodes = np.r_[x[0] - _FAR, x, x[-1] + _FAR]
        images = np.r_[y[0] - low * _FAR, y, y[-1] + high * _FAR]
        found[:, step] = np.interp(values[:, step], nodes, images)
    return found


def bar_events(history: BarHistory, horizon: int, events: Sequence[Event]) -> Iterator[np.ndarray]:
    """Whether each event occurs in the `horizon` bars after each bar: (bars − horizon,) bool per event."""
    adjusted = history.quoted * history.growth[:, None]
    if len(adjusted) <= horizon:
        yield from (np.zeros(0, dtype=bool) for _ in events)
        return
    base = adjusted[:-horizon, CLOSE, None]
    highs, lows = (
        np.lib.stride_tricks.sliding_window_view(adjusted[1:, field], horizon) / base for field in (HIGH, LOW)
    )
    yield from (occurs(event, highs, lows) for event in events)


def _slope(x: np.ndarray, y: np.ndarray, middle: int, end: int) -> float:
    """The slope of the map from the median to an outermost level; 1 where all paths are equal."""
    width = x[end] - x[middle]
    return float((y[end] - y[middle]) / width) if abs(width) > 1e-12 else 1.0
