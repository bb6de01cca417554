"""How good a forecast was: pure functions over arrays. Undefined is NaN, never a zero or a guess.

Losses are in per cent of the origin's close, so that symbols compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd
import scoringrules

Metric = Literal["crps", "absolute_error", "mase", "coverage_80", "coverage_90", "direction", "rank_ic", "pit"]
METRICS: tuple[Metric, ...] = get_args(Metric)
# A median within this of the last close, relatively, says "unchanged": rounding must not make it an opinion.
FLAT = 1e-9
FEWEST_SYMBOLS = 3
LOSSES: tuple[Metric, ...] = ("crps", "absolute_error", "mase")
COVERAGES: tuple[Metric, ...] = ("coverage_80", "coverage_90")
SHARES: tuple[Metric, ...] = (*COVERAGES, "direction")
# A random walk has no view on direction or rank: it is represented by the score of guessing.
CHANCE: dict[Metric, float] = {"direction": 0.5, "rank_ic": 0.0}
# The models that every other is compared with, and the horizon that stands for all steps together.
BASELINES = ("random_walk", "random_walk_ewma")
ALL_STEPS = 0


def score(
    quantiles: np.ndarray, levels: np.ndarray, truth: np.ndarray, last: np.ndarray, scale: np.ndarray
) -> dict[Metric, np.ndarray]:
    """Every metric of n forecasts of one value each, but for rank_ic: (n,) arrays by name.

    Args:
        quantiles: (n, levels), rising.
        levels: (levels,), rising; .05, .1, .5, .9 and .95 among them.
        truth: (n,) what then was.
        last: (n,) the close at the origin.
        scale: (n,) mean absolute one-bar change up to the origin.
    """
    place = {float(level): number for number, level in enumerate(levels)}
    median = quantiles[:, place[0.5]]
    error = np.abs(truth - median)
    return {
        "crps": crps(quantiles, levels, truth) / last * 100,
        "absolute_error": error / last * 100,
        "mase": np.divide(error, scale, out=np.full(len(error), np.nan), where=scale > 0),
        "coverage_80": inside(quantiles[:, place[0.1]], quantiles[:, place[0.9]], truth),
        "coverage_90": inside(quantiles[:, place[0.05]], quantiles[:, place[0.95]], truth),
        "direction": direction(median, truth, last),
        "pit": pit(quantiles, levels, truth),
    }


def crps(quantiles: np.ndarray, levels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score, in the unit of the truth: (n,).

    CRPS = 2 ∫ pinball loss d level (Laio and Tamea, 2007), by the trapezoidal rule over the levels; the loss is 0 at
    the levels 0 and 1. With levels k / (K + 1) that is 2 / (K + 1) × the sum of the losses.
    """
    losses = scoringrules.quantile_score(truth[:, None], quantiles, levels)
    edges = np.r_[0.0, levels, 1.0]
    return 2 * losses @ ((edges[2:] - edges[:-2]) / 2)


def inside(low: np.ndarray, high: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """1 where low ≤ truth ≤ high, else 0."""
    return ((low <= truth) & (truth <= high)).astype(np.float64)


def direction(median: np.ndarray, truth: np.ndarray, last: np.ndarray) -> np.ndarray:
    """1 where median and truth lie on the same side of the last close, else 0; NaN where either lies on it."""
    said, was = _side(median, last), _side(truth, last)
    return np.where((said == 0) | (was == 0), np.nan, (said == was).astype(np.float64))


def pit(quantiles: np.ndarray, levels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Probability integral transform: the level at which the truth lies, by linear interpolation.

    Beyond the outermost levels: the middle of what is left. So pit ≤ level exactly where truth ≤ quantile.
    """
    above = (quantiles < truth[:, None]).sum(axis=1)
    upper = np.clip(above, 1, len(levels) - 1)
    rows = np.arange(len(truth))
    low, high = quantiles[rows, upper - 1], quantiles[rows, upper]
    width = high - low
    part = np.divide(truth - low, width, out=np.ones(len(truth)), where=width > 0)
    within = levels[upper - 1] + part * (levels[upper] - levels[upper - 1])
    return np.select([above == 0, above == len(levels)], [levels[0] / 2, (1 + levels[-1]) / 2], within)


def rank_ic(said: pd.DataFrame, was: pd.DataFrame) -> pd.Series:
    """Spearman's correlation across symbols, a row of the frames (groups × symbols) each; NaN where undefined.

    Undefined: fewer than three symbols with both, or all forecasts or all outcomes equal.

    Args:
        said: forecast returns, NaN where there is none.
        was: the returns that came.
    """
    both = said.notna() & was.notna()
    ranks = [frame.where(both).rank(axis=1) for frame in (said.round(12), was.round(12))]
    first, second = (rank.sub(rank.mean(axis=1), axis=0) for rank in ranks)
    spread = ((first**2).sum(axis=1) * (second**2).sum(axis=1)) ** 0.5
    defined = (both.sum(axis=1) >= FEWEST_SYMBOLS) & (spread > 0)
    return ((first * second).sum(axis=1) / spread.where(defined)).clip(-1, 1)


def nominal(metric: Metric) -> float | None:
    """What a perfect forecaster's coverage would be; None: the metric is no coverage."""
    return {"coverage_80": 0.8, "coverage_90": 0.9}.get(metric)


def _side(value: np.ndarray, last: np.ndarray) -> np.ndarray:
    change = value / last - 1
    return np.where(np.abs(change) < FLAT, 0, np.sign(change))


def as_levels(levels: Sequence[float]) -> np.ndarray:
    """Levels as an array, rounded as they are compared."""
    return np.round(np.asarray(levels, dtype=np.float64), 6)
