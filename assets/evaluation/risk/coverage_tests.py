"""Tests of exceptions, the outcomes beyond the value at risk: how many there are, and whether they cluster.

- Unconditional coverage: Kupiec (1995), Techniques for verifying the accuracy of risk measurement models.
- Independence and conditional coverage: Christoffersen (1998), Evaluating interval forecasts.

Both assume independent outcomes. So they are of forecasts whose horizons do not overlap (`non_overlapping`); across
symbols outcomes depend on each other all the same, which `block_test` allows for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Not scipy.stats, whose import takes longer than all tests.
from scipy.special import chdtrc, stdtr, xlogy

from assets.forecasting.bootstrap import bootstrap_interval


@dataclass(frozen=True)
class ChristoffersenTest:
    """p-values of independence, and of independence with correct coverage; NaN: no exception was followed by a
    forecast."""

    independence: float
    conditional: float


@dataclass(frozen=True)
class BlockTest:
    """The interval of an estimate from resampled blocks of dates, and the p-value of an expected one; NaN: too few."""

    low: float
    high: float
    p: float


def kupiec_ratio(exceptions: int, n: int, level: float) -> float:
    """Kupiec's likelihood ratio of `exceptions` in `n` outcomes against a probability of `level`: chi-squared, 1."""
    rate = exceptions / n
    free = xlogy(exceptions, rate) + xlogy(n - exceptions, 1 - rate)
    return max(0.0, float(2 * (free - xlogy(exceptions, level) - xlogy(n - exceptions, 1 - level))))


def kupiec_p(exceptions: int, n: int, level: float) -> float:
    """p-value of Kupiec's test; NaN without outcomes."""
    return float(chdtrc(1, kupiec_ratio(exceptions, n, level))) if n else np.nan


def transitions(hits: np.ndarray, series: np.ndarray) -> np.ndarray:
    """Counts of (hit, next hit) over neighbours of the same series: (2, 2).

    Args:
        hits: (n,) bool, ordered by series, then by time.
        series: (n,) the series of each.
    """
    same = series[1:] == series[:-1]
    before, after = hits[:-1][same].astype(int), hits[1:][same].astype(int)
    return np.bincount(2 * before + after, minlength=4).reshape(2, 2)


def independence_ratio(counts: np.ndarray) -> float:
    """Christoffersen's likelihood ratio of independence from the (2, 2) counts of `transitions`: chi-squared, 1."""
    after, before = counts.sum(axis=0), counts.sum(axis=1)
    free = xlogy(counts, counts / np.maximum(before, 1)[:, None]).sum()
    return max(0.0, float(2 * (free - xlogy(after, after / max(1, counts.sum())).sum())))


def christoffersen_test(hits: np.ndarray, series: np.ndarray, level: float) -> ChristoffersenTest:
    """Christoffersen's tests of hits, as `transitions` takes them."""
    counts = transitions(hits, series)
    if not counts[1].sum():
        return ChristoffersenTest(np.nan, np.nan)
    ratio = independence_ratio(counts)
    both = ratio + kupiec_ratio(int(hits.sum()), len(hits), level)
    return ChristoffersenTest(float(chdtrc(1, ratio)), float(chdtrc(2, both)))


def non_overlapping(origins: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The forecasts of one series that begin no earlier than the one before ends, from the first on: (n,) bool.

    Args:
        origins, targets: (n,) increasing.
    """
    chosen, row = np.zeros(len(origins), dtype=bool), 0
    following: list[int] = np.searchsorted(origins, targets, side="left").tolist()
    while row < len(origins):
        chosen[row] = True
        row = max(row + 1, following[row])
    return chosen


def block_test(drawn: np.ndarray, estimate: float, expected: float, alpha: float, blocks: int) -> BlockTest:
    """Whether an estimate is the expected one, by its spread over resampled blocks.

    Student's t with two degrees of freedom fewer than there are blocks, as for intervals (bootstrap.widening).

    Args:
        drawn: (draws,) the estimate from resampled histories.
        blocks: in a resample; 0: too few origins.
    """
    if not blocks or not np.isfinite(estimate):
        return BlockTest(np.nan, np.nan, np.nan)
    low, high = bootstrap_interval(drawn, estimate, alpha, 1, blocks)
    spread = float(np.nanstd(drawn)) / np.sqrt(1 - 1 / blocks)
    if not spread > 0:
        return BlockTest(low, high, np.nan)
    return BlockTest(low, high, float(2 * stdtr(blocks - 2, -abs(estimate - expected) / spread)))
