"""Chronos-2's rows for the target standardised_close: the units are the symbol's own volatility at the origin.

The target row holds past log returns divided by the scale at the origin; what is forecast is the log return over h bars
divided by the scale and the root of h. So a forecast of the same quantiles everywhere is a random walk with that
volatility, centred on the last close, and weights spend their capacity on what differs from it.

Chronos-2 subtracts the mean of each row and divides by its standard deviation, which removes the level of volatility
and shifts the centre. Against that, the oldest `ANCHORS` bars of each row are replaced by two values, half of them
each, that make the mean 0 and the standard deviation `SIZE`, whatever the other values are.

The scale is the geometric mean of the variances of bars (Parkinson's from high and low, and the squared gap): the last
few bars count `RECENT`, all bars of the context the rest. Alone, with the shape of past outcomes, it has a CRPS 0.8 to
1.4 % below that of an EWMA of squared returns (2000–2010, US stocks that it was not fitted to).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from assets.forecasting.recursion import first_order
from assets.forecasting.volatility.panel import PARKINSON
from assets.market.history import CLOSE, HIGH, LOW, OPEN, VOLUME

TARGET = "standardised_close"
ANCHORS, SIZE = 8, 2.5
RECENT, DECAY = 0.6, 0.8
# A bar without any movement has no log variance: a share of the mean squared return, and of a variance of 1.
FLOOR, SMALLEST = 0.02, 1e-12
# The scale is that of log variances; the mean squared return of stocks is larger by this factor's square.
RATIO = 1.1


def log_variances(bars: np.ndarray) -> np.ndarray:
    """The log of the variance of each bar, from its range and its gap: (n,) of bars (n, 6).

    The first bar has no gap. Where a bar has no usable open, high and low, its squared return stands for both.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(np.where(bars[:, : CLOSE + 1] > 0, bars[:, : CLOSE + 1], np.nan))
    squares = log_returns(bars) ** 2
    gaps = np.r_[0.0, logs[1:, OPEN] - logs[:-1, CLOSE]]
    known = (logs[:, HIGH] - logs[:, LOW]) ** 2 * PARKINSON + gaps**2
    variances = np.where(np.isfinite(known), known, squares)
    return np.asarray(np.log(variances + FLOOR * squares.mean() + SMALLEST))


def log_returns(bars: np.ndarray) -> np.ndarray:
    """Log returns of the close: (n,), of the first bar 0."""
    return np.diff(np.log(bars[:, CLOSE]), prepend=np.log(bars[0, CLOSE]))


def origin_scale(bars: np.ndarray) -> float:
    """The volatility per bar at the origin, the last bar: the unit of the target. bars: (n, 6), closes positive."""
    variances = log_variances(bars)
    recent = first_order((1 - DECAY) * (variances - variances[0]), DECAY)[-1] + variances[0]
    return float(np.exp((RECENT * recent + (1 - RECENT) * variances.mean()) / 2) * RATIO)


def _clipped(values: np.ndarray, limit: float) -> np.ndarray:
    """Values within ± limit; those that are missing are 0, their mean."""
    return np.asarray(np.clip(np.nan_to_num(values, posinf=limit, neginf=-limit), -limit, limit))


def _volume(bars: np.ndarray) -> np.ndarray:
    logs = np.log(np.where(bars[:, VOLUME] > 0, bars[:, VOLUME], np.nan))
    known = np.isfinite(logs)
    return 2 * (logs - (logs[known].mean() if known.any() else 0.0))


# What a row holds, of bars (n, 6) and the scale at the last of them: (n,) float64 of a size of about 1.
ROWS: Mapping[str, Callable[[np.ndarray, float], np.ndarray]] = {
    TARGET: lambda bars, scale: _clipped(log_returns(bars) / scale, 6),
    "range": lambda bars, scale: _clipped(log_variances(bars) - 2 * np.log(scale), 4),
    "volume": lambda bars, scale: _clipped(_volume(bars), 4),
}


def market_row(returns: np.ndarray) -> np.ndarray:
    """Market returns divided by their own volatility in the context: (n,)."""
    known = returns[np.isfinite(returns)]
    size = float(np.sqrt(np.mean(known**2))) if len(known) else 0.0
    return _clipped(returns / size if size > 0 else np.zeros(len(returns)), 6)


def anchored(rows: np.ndarray) -> np.ndarray:
    """Rows (rows, n) whose first values are replaced, so that the mean is 0 and the standard deviation `SIZE`.

    Rows that are too large for that are shrunk; n is at least 2 × `ANCHORS`.
    """
    kept, n, half = rows[:, ANCHORS:], rows.shape[1], ANCHORS / 2
    room = n * SIZE**2
    size = (kept**2).sum(axis=1) + kept.sum(axis=1) ** 2 / ANCHORS
    kept = kept * np.sqrt(np.minimum(1.0, 0.99 * room / np.maximum(size, SMALLEST)))[:, None]
    centre = -kept.sum(axis=1, keepdims=True) / ANCHORS
    spread = np.sqrt((room - (kept**2).sum(axis=1, keepdims=True) - ANCHORS * centre**2) / ANCHORS)
    anchors = np.repeat([1.0, -1.0], int(half)) * spread + centre
    return np.concatenate([anchors, kept], axis=1)


def input_mismatch(card: Mapping[str, Any], targets: Sequence[str]) -> str | None:
    """Why weights with this card cannot read the rows of these targets; None: they can."""
    learnt = tuple((card.get("settings") or {}).get("targets") or ("close",))
    if (TARGET in learnt) == (TARGET in targets):
        return None
    return f"the weights were trained on targets = {list(learnt)}, and chronos2.targets = {list(targets)}"


def mirrored_bars(bars: np.ndarray) -> np.ndarray:
    """Bars (n, 6) with falls for rises: prices are their reciprocals, and the high is that of the low."""
    mirrored = bars.copy()
    with np.errstate(divide="ignore"):
        mirrored[:, : CLOSE + 1] = 1 / bars[:, [OPEN, LOW, HIGH, CLOSE]]
    return mirrored


def standardised_outcome(last_close: float, closes: np.ndarray, scale: float) -> np.ndarray:
    """The log returns from the last close to the next (steps,) closes, in units of the forecast: (steps,)."""
    steps = np.sqrt(np.arange(1, len(closes) + 1))
    return np.asarray(np.log(closes / last_close) / (scale * steps))


def log_quantiles(values: np.ndarray, last_close: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Quantiles (series, steps, levels) in units of the forecast as those of the log close.

    Args:
        last_close: (series,) log of the close at the origin. scale: (series,).
    """
    steps = np.sqrt(np.arange(1, values.shape[1] + 1))
    return np.asarray(last_close[:, None, None] + values * scale[:, None, None] * steps[:, None])
