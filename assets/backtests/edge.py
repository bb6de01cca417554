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
    """Excess growth and alpha as annual log returns, and beta: (3,). NaN: the benchmark has no variance.

    Args:
        returns: (sessions, 2) daily returns of the portfolio, net, and of the benchmark.
    """
    net, benchmark = returns.T
    centred = benchmark - benchmark.mean()
    variance = centred @ centred
    beta = (centred @ net) / variance if variance > 0 else np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = (np.log1p(net) - np.log1p(benchmark)).mean()
        alpha = np.log1p(net.mean() - beta * benchmark.mean())
    return np.array([year * excess, year * alpha, beta])


def edge(net: np.ndarray, benchmark: np.ndarray, resampling: BootstrapOptions, year: int) -> dict[str, float]:
    """Excess return, alpha and beta, intervals of the first two, and the smallest alpha that would have been detected.

    The excess return is the difference of the compounded annual returns, alpha the daily intercept compounded.
    `minimum_detectable_alpha` is the true alpha whose interval lies above 0 in 80 % of such histories. Intervals are
    computed in log returns, so that none reaches below a total loss; NaN for fewer than five blocks.
    """
    returns = np.column_stack([net, benchmark])
    estimates, draws = edge_statistics(returns, year), resampled(returns, resampling, year)
    found = {"beta": float(estimates[2])}
    for place, (name, scale) in enumerate({"excess_return": 1 + annual_return(benchmark, year), "alpha": 1.0}.items()):
        ends = bootstrap_interval(
            draws[:, place], float(estimates[place]), 1 - resampling.confidence, resampling.block, len(net)
        )
        values = scale * np.expm1([estimates[place], *ends])
        found |= dict(zip((name, f"{name}_low", f"{name}_high"), map(float, values), strict=True))
    # The bootstrap loses the share of one block of the variance with the mean.
    error = np.std(draws[:, 1], ddof=1) / np.sqrt(1 - min(resampling.block / len(net), 0.5))
    detectable = estimates[1] - np.log1p(found["alpha_low"]) + NormalDist().inv_cdf(POWER) * error
    return found | {"minimum_detectable_alpha": float(np.expm1(detectable))}


def resampled(returns: np.ndarray, resampling: BootstrapOptions, year: int) -> np.ndarray:
    """The statistics of resampled histories: (draws, 3).

    They are those of arch's CircularBlockBootstrap. It takes a second to import.
    """
    count = len(returns)
    if count < MIN_BLOCKS * resampling.block:
        return np.full((2, 3), np.nan)
    random, within = np.random.default_rng(resampling.seed), np.arange(resampling.block)
    drawn = np.empty((resampling.draws, 3))
    for draw in range(resampling.draws):
        starts = random.integers(count, size=-(-count // resampling.block))
        sessions = (starts[:, None] + within).ravel()[:count] % count
        drawn[draw] = edge_statistics(returns[sessions], year)
    return drawn
