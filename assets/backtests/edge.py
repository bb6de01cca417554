"""The edge of a portfolio over its benchmark: excess return, alpha and beta, their intervals, and the power to see one.

Alpha is the intercept of a regression of the portfolio's daily net returns on the benchmark's, so that more market
exposure alone is no edge. Annual values are compounded; the risk-free rate is 0. Intervals come from a circular block
bootstrap of whole sessions. Not here: measures of a single series of returns (measures).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from assets.forecasting.bootstrap import MIN_BLOCKS, bootstrap_interval

# Short enough for many blocks, long enough to keep the dependence of two weeks.
BLOCK_SESSIONS = 10
POWER = 0.8
STATISTICS = ("excess_return", "alpha", "beta")


@dataclass(frozen=True)
class BootstrapOptions:
    """Parameters of the bootstrap intervals."""

    draws: int
    confidence: float
    seed: int
    block: int = BLOCK_SESSIONS


def annual_return(returns: np.ndarray, year: int) -> float:
    """The compounded annual return. `year`: sessions per year."""
    return float(np.prod(1 + returns) ** (year / len(returns)) - 1)


def edge_statistics(returns: np.ndarray, year: int) -> np.ndarray:
    """Excess return, alpha and beta: (3,). Alpha and beta are NaN for a benchmark without variance.

    The excess return is the difference of the compounded annual returns, alpha the daily intercept compounded.

    Args:
        returns: (sessions, 2) daily returns of the portfolio, net, and of the benchmark.
    """
    net, benchmark = returns.T
    excess = annual_return(net, year) - annual_return(benchmark, year)
    centred = benchmark - benchmark.mean()
    variance = centred @ centred
    if variance <= 0:
        return np.array([excess, np.nan, np.nan])
    beta = (centred @ net) / variance
    alpha = (1 + net.mean() - beta * benchmark.mean()) ** year - 1
    return np.array([excess, alpha, beta])


def edge(net: np.ndarray, benchmark: np.ndarray, resampling: BootstrapOptions, year: int) -> dict[str, float]:
    """Excess return, alpha and beta, intervals of the first two, and the smallest alpha that would have been detected.

    `minimum_detectable_alpha` is the true alpha whose interval lies above 0 in 80 % of such histories. Intervals and
    power are NaN for fewer than five blocks.
    """
    returns = np.column_stack([net, benchmark])
    found = dict(zip(STATISTICS, map(float, edge_statistics(returns, year)), strict=True))
    draws = _draws(returns, resampling, year)
    for place, name in enumerate(STATISTICS[:2]):
        found[f"{name}_low"], found[f"{name}_high"] = bootstrap_interval(
            draws[:, place], found[name], 1 - resampling.confidence, resampling.block, len(net)
        )
    found["minimum_detectable_alpha"] = _detectable(
        found["alpha"], found["alpha_low"], draws[:, 1], resampling, len(net)
    )
    return found


def _detectable(alpha: float, low: float, draws: np.ndarray, resampling: BootstrapOptions, sessions: int) -> float:
    """The true alpha that exceeds half an interval in 80 % of histories. In log returns, whose errors do not grow with
    alpha."""
    if not np.isfinite(low) or min(low, draws.min()) <= -1:
        return np.nan
    # The bootstrap loses the share of one block of the variance with the mean.
    error = np.std(np.log1p(draws), ddof=1) / np.sqrt(1 - resampling.block / sessions)
    return float(np.expm1(np.log1p(alpha) - np.log1p(low) + NormalDist().inv_cdf(POWER) * error))


def _draws(returns: np.ndarray, resampling: BootstrapOptions, year: int) -> np.ndarray:
    """The statistics of resampled histories: (draws, 3)."""
    from arch.bootstrap import CircularBlockBootstrap

    if len(returns) < MIN_BLOCKS * resampling.block:
        return np.full((2, len(STATISTICS)), np.nan)
    bootstrap = CircularBlockBootstrap(resampling.block, returns, seed=np.random.default_rng(resampling.seed))
    drawn: np.ndarray = bootstrap.apply(lambda sessions: edge_statistics(sessions, year), resampling.draws)
    return drawn
