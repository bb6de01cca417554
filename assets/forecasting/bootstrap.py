"""Confidence intervals of means over origins, from a circular block bootstrap in time.

Forecasts of neighbouring origins share sessions, and their losses rise and fall with volatility for months. So whole
blocks of time are drawn (Politis and Romano, 1992), a fifth of the whole each: however long the history is, blocks of
this length keep its slowest dependence, where a block length that is estimated from the autocorrelation (Politis and
White, 2004) came out ten times too short and covered no more than blocks of twice the horizon. Time is measured in
sessions, not in origins: an origin stands for the sessions until the next one (`origin_weights`), so that a stretch
with an origin in every session weighs no more than one with an origin a week.

Five blocks estimate the spread of a mean badly, so the ends are moved away from the estimate by `widening`. Coverage
as measured by `python -m benchmarks.interval_coverage` is listed in docs/explanation/scoring.md.
"""

from __future__ import annotations

import numpy as np

MIN_BLOCKS = 5


def origin_weights(times: np.ndarray, longest: float) -> np.ndarray:
    """The time that each origin stands for: (n,).

    That is the time until the next one, but no more than `longest`: nothing is known of a gap. The last one stands for
    as much as the one before it.

    Args:
        times: (n,) increasing.
        longest: in the unit of `times`.
    """
    if len(times) < 2:
        return np.full(len(times), float(longest))
    gaps = np.minimum(np.diff(times), longest).astype(np.float64)
    return np.append(gaps, gaps[-1])


def weighted_means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n, columns) → (columns,). Equal weights give the same bits as none, and a column the same beside any others."""
    relative = weights / weights.max()
    # Summed along the contiguous axis: otherwise the order of the sum depends on the number of columns.
    means: np.ndarray = np.ascontiguousarray((values * relative[:, None]).T).sum(axis=1) / relative.sum()
    return means


def block_count(weights: np.ndarray, shortest: float, fixed: float | None = None) -> int:
    """The number of blocks in a resample; 0: too few origins for an interval.

    Args:
        weights: (n,) the time that each origin stands for.
        shortest: the shortest block that is allowed, in the unit of the weights.
        fixed: the length of the blocks; None: a fifth of the time.
    """
    total = float(weights.sum())
    count = MIN_BLOCKS if fixed is None else int(total / fixed + 1e-9)
    return count if count >= MIN_BLOCKS and total / count >= shortest - 1e-9 else 0


def block_draws(values: np.ndarray, weights: np.ndarray, blocks: int, draws: int, seed: int) -> np.ndarray:
    """Weighted means of `draws` resampled histories: (draws, columns). The same blocks are drawn for all columns.

    A block begins at an origin, drawn by its weight, and is as long as the whole time over `blocks`.

    Args:
        values: (n, columns), one row per origin.
        weights: (n,) the time that each origin stands for.
    """
    means = _block_means(values, weights, blocks)
    # Blocks begin at origins, so those near a change of the spacing are drawn a little too often or too rarely.
    means += weighted_means(values, weights) - weighted_means(means, weights)
    starts = np.random.default_rng(seed).choice(len(values), size=(blocks, draws), p=weights / weights.sum())
    # Not a matrix product: its bits depend on the number of columns.
    drawn = np.zeros((draws, values.shape[1]))
    for block in starts:
        drawn += means[block]
    return drawn / blocks


def bootstrap_interval(
    drawn: np.ndarray, estimate: float, alpha: float, block: float, count: float
) -> tuple[float, float]:
    """The 1 − `alpha` interval of an estimate; NaN for fewer than five blocks.

    Args:
        drawn: (draws,) the estimate from resampled histories.
        block: length of a block.
        count: length of the history.
    """
    low, high = bootstrap_intervals(drawn[:, None], np.array([estimate]), alpha, block, count)
    return float(low[0]), float(high[0])


def bootstrap_intervals(
    drawn: np.ndarray, estimates: np.ndarray, alpha: float, block: float, count: float
) -> tuple[np.ndarray, np.ndarray]:
    """`bootstrap_interval` of several estimates: lower and upper ends, (columns,) each.

    Args:
        drawn: (draws, columns).
        estimates: (columns,).
    """
    known = np.isfinite(estimates)
    low, high = np.full((2, len(estimates)), np.nan)
    if count < MIN_BLOCKS * block or not known.any():
        return low, high
    own, centre = drawn[:, known], estimates[known]
    # The same numbers, column by column where some are missing.
    quantile = np.nanquantile if np.isnan(own).any() else np.quantile
    ends = quantile(own, [alpha / 2, 1 - alpha / 2], axis=0)
    low[known], high[known] = centre + widening(alpha, count / block) * (ends - centre)
    return low, high


def widening(alpha: float, blocks: float) -> float:
    """The factor by which the ends of a 1 − `alpha` interval are moved away from the estimate.

    Student's t with two degrees of freedom fewer than there are blocks, and a share of 1 / blocks of the variance is
    lost with the mean. For overlapping forecasts of constant volatility this is wider than needed: fixed-b theory has
    1.5 degrees of freedom per block (Lazarus, Lewis, Stock and Watson, 2018). Where losses are as skewed as those of
    volatility models, that covered 79 to 86 % at a nominal 96.7 %.
    """
    from scipy.special import ndtri, stdtrit

    return float(stdtrit(blocks - 2, alpha / 2) / ndtri(alpha / 2) / np.sqrt(1 - 1 / blocks))


def _block_means(values: np.ndarray, weights: np.ndarray, blocks: int) -> np.ndarray:
    """Means of the circular blocks that begin at each origin: (n, columns)."""
    ends = np.concatenate([[0.0], np.cumsum(np.tile(weights, 2))])
    sums = np.concatenate(
        [np.zeros((1, values.shape[1])), np.cumsum(np.tile(values * weights[:, None], (2, 1)), axis=0)]
    )
    length = weights.sum() / blocks
    until = ends[: len(weights)] + length
    last = np.clip(np.searchsorted(ends, until, side="right") - 1, 0, 2 * len(weights) - 1)
    part = (until - ends[last]) / (ends[last + 1] - ends[last])
    whole = sums[last] + part[:, None] * (sums[last + 1] - sums[last])
    means: np.ndarray = (whole - sums[: len(weights)]) / length
    return means
