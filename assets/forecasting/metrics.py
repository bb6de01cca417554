"""Forecast metrics as pure functions over arrays. An undefined score is NaN.

Losses are in per cent of the close at the origin, so that symbols are comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd

from assets.forecasting.intervals import MEDIAN, nominal_coverage, scored_intervals

# "crps", "absolute_error", "mase", "direction", "rank_ic", "pit", and the coverages of `scored_intervals`.
Metric: TypeAlias = str
# A change of less than this, relative to the last close, is no direction: it may be rounding.
FLAT = 1e-9
MIN_SYMBOLS = 3
LOSSES: tuple[Metric, ...] = ("crps", "absolute_error", "mase")
# A random walk predicts neither direction nor rank: its score is the expected score of guessing.
CHANCE_LEVEL: dict[Metric, float] = {"direction": 0.5, "rank_ic": 0.0}
# The baselines of the scoreboard, and the horizon that stands for all steps together.
BASELINES = ("random_walk", "random_walk_ewma")
ALL_STEPS = 0


def score(
    quantiles: np.ndarray, levels: np.ndarray, actual: np.ndarray, last_close: np.ndarray, scale: np.ndarray
) -> dict[Metric, np.ndarray]:
    """All metrics but rank_ic of n forecasts of one value each: (n,) arrays by name.

    Args:
        quantiles: (n, levels), increasing.
        levels: (levels,), increasing; 0.5 is one of them.
        actual: (n,) the close at the target.
        last_close: (n,) the close at the origin.
        scale: (n,) mean absolute one-bar change up to the origin.
    """
    place = {float(level): number for number, level in enumerate(levels)}
    median = quantiles[:, place[MEDIAN]]
    coverages = {
        one.metric: covered(quantiles[:, place[one.low]], quantiles[:, place[one.high]], actual)
        for one in reversed(scored_intervals(levels.tolist()))
    }
    error = np.abs(actual - median)
    return {
        "crps": crps(quantiles, levels, actual) / last_close * 100,
        "absolute_error": error / last_close * 100,
        "mase": np.divide(error, scale, out=np.full(len(error), np.nan), where=scale > 0),
        **coverages,
        "direction": direction(median, actual, last_close),
        "pit": pit(quantiles, levels, actual),
    }


def crps(quantiles: np.ndarray, levels: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score, in the unit of the actual: (n,).

    CRPS = 2 ∫ pinball loss d level (Laio and Tamea, 2007), by the trapezoidal rule over the levels; the loss is 0 at
    the levels 0 and 1. With levels k / (K + 1) that is 2 / (K + 1) × the sum of the losses.
    """
    actuals = actual[:, None]
    losses = ((actuals < quantiles) - levels) * (quantiles - actuals)
    edges = np.r_[0.0, levels, 1.0]
    integral: np.ndarray = losses @ ((edges[2:] - edges[:-2]) / 2)
    return 2 * integral


def covered(low: np.ndarray, high: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """1 where low ≤ actual ≤ high, else 0."""
    return ((low <= actual) & (actual <= high)).astype(np.float64)


def direction(median: np.ndarray, actual: np.ndarray, last_close: np.ndarray) -> np.ndarray:
    """1 where median and actual lie on the same side of the last close, else 0; NaN where either equals it."""
    predicted_side, actual_side = _side(median, last_close), _side(actual, last_close)
    undefined = (predicted_side == 0) | (actual_side == 0)
    return np.where(undefined, np.nan, (predicted_side == actual_side).astype(np.float64))


def pit(quantiles: np.ndarray, levels: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Probability integral transform: the level at which the actual lies, by linear interpolation.

    Beyond the outermost levels: the middle of the remaining interval. So pit ≤ level exactly where actual ≤ quantile.
    """
    above = (quantiles < actual[:, None]).sum(axis=1)
    upper = np.clip(above, 1, len(levels) - 1)
    rows = np.arange(len(actual))
    low, high = quantiles[rows, upper - 1], quantiles[rows, upper]
    width = high - low
    part = np.divide(actual - low, width, out=np.ones(len(actual)), where=width > 0)
    within = levels[upper - 1] + part * (levels[upper] - levels[upper - 1])
    return np.select([above == 0, above == len(levels)], [levels[0] / 2, (1 + levels[-1]) / 2], within)


def rank_ic(predicted: pd.DataFrame, actual: pd.DataFrame) -> pd.Series:
    """Spearman's rank correlation across symbols, one value per row of the frames (groups × symbols).

    NaN where undefined: fewer than three symbols with both, or all predicted or all actual returns equal.

    Args:
        predicted: predicted returns, NaN where there is no forecast.
        actual: actual returns.
    """
    both = predicted.notna() & actual.notna()
    ranks = [frame.where(both).rank(axis=1) for frame in (predicted.round(12), actual.round(12))]
    first, second = (rank.sub(rank.mean(axis=1), axis=0) for rank in ranks)
    spread = ((first**2).sum(axis=1) * (second**2).sum(axis=1)) ** 0.5
    defined = (both.sum(axis=1) >= MIN_SYMBOLS) & (spread > 0)
    return ((first * second).sum(axis=1) / spread.where(defined)).clip(-1, 1)


def is_share(metric: Metric) -> bool:
    """Whether every single score is 0 or 1."""
    return metric == "direction" or nominal_coverage(metric) is not None


def as_levels(levels: Sequence[float]) -> np.ndarray:
    """Levels as an array, rounded so that they compare equal."""
    return np.round(np.asarray(levels, dtype=np.float64), 6)


def _side(value: np.ndarray, last_close: np.ndarray) -> np.ndarray:
    change = value / last_close - 1
    return np.where(np.abs(change) < FLAT, 0, np.sign(change))
