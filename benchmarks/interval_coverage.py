"""How often the scoreboard's intervals contain the true skill: `python -m benchmarks.interval_coverage [histories]`.

Simulated daily returns with clusters of volatility, five symbols that share a part of it, and forecasts of ten steps:

- volatility: a random walk with EWMA volatility against one with that of 252 sessions. The difference of their losses
  lasts as long as an episode of volatility, and rests on few of them.
- twins: two walks whose volatilities are off by persistent errors of the same distribution. The true skill is 0, so
  every verdict is false.

Two processes: GARCH with leverage and t(5) shocks, whose returns have an infinite fourth moment, and stochastic
volatility with half-lives of 23 and 138 sessions.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from assets.evaluation.origin_times import OriginTimes
from assets.forecasting.bootstrap import block_draws, bootstrap_interval, weighted_means
from resources.settings import EvaluationSettings

HORIZON, EVERY, SYMBOLS = 10, 5, 5
WARM_UP, WALK = 600, 252
# One of three models: 90 % with the correction of the scoreboard.
LEVELS = {"volatility": 0.9 + 0.2 / 3, "twins": 0.9}
BATCH = 100


@dataclass(frozen=True)
class Spacing:
    """Origins of a simulated history.

    Attributes:
        origins: (n,) sessions from the first origin.
    """

    name: str
    origins: np.ndarray


SPACINGS = (
    Spacing("25 weekly", np.arange(25) * EVERY),
    Spacing("50 weekly", np.arange(50) * EVERY),
    Spacing("100 weekly", np.arange(100) * EVERY),
    Spacing("300 weekly", np.arange(300) * EVERY),
    Spacing("80 weekly, 75 daily", np.r_[np.arange(80) * EVERY, 80 * EVERY + np.arange(75)]),
)


@dataclass(frozen=True)
class Coverage:
    """Shares of intervals that contain the true skill, or lie above it, and the median half width."""

    covered: float
    above: float
    width: float


def garch_returns(rng: np.random.Generator, sessions: int, histories: int) -> np.ndarray:
    """(sessions, histories, symbols) in per cent: GJR-GARCH of persistence 0.985, t(5) shocks."""
    shape, scale = (histories, SYMBOLS), np.sqrt(5 / 3)
    returns, variance = np.empty((sessions, *shape)), np.ones(shape)
    for session in range(sessions):
        common, own = rng.standard_t(5, (histories, 1)) / scale, rng.standard_t(5, shape) / scale
        now = np.sqrt(variance) * (np.sqrt(0.35) * common + np.sqrt(0.65) * own)
        returns[session] = now
        variance = 0.015 + (0.03 + 0.08 * (now < 0)) * now**2 + 0.915 * variance
    return returns


def stochastic_volatility_returns(rng: np.random.Generator, sessions: int, histories: int) -> np.ndarray:
    """(sessions, histories, symbols) in per cent: the log volatility is the sum of two autoregressions."""
    kept = np.array([0.97, 0.995])[:, None, None]
    news, shape = np.sqrt(1 - kept**2), (2, histories, SYMBOLS)
    common, own = rng.standard_normal((2, histories, 1)), rng.standard_normal(shape)
    returns = np.empty((sessions, histories, SYMBOLS))
    for session in range(sessions):
        common = kept * common + news * rng.standard_normal(common.shape)
        own = kept * own + news * rng.standard_normal(shape)
        volatility = np.exp(0.3 * (np.sqrt(0.7) * common + np.sqrt(0.3) * own).sum(axis=0))
        shocks = rng.standard_normal((histories, 1)), rng.standard_normal(shape[1:])
        returns[session] = volatility * (np.sqrt(0.35) * shocks[0] + np.sqrt(0.65) * shocks[1])
    return returns


PROCESSES = {"GARCH": garch_returns, "stochastic volatility": stochastic_volatility_returns}


def losses(rng: np.random.Generator, returns: np.ndarray, origins: np.ndarray) -> dict[str, np.ndarray]:
    """Mean CRPS over steps and symbols: (2, origins, histories), the model's and the baseline's, by comparison.

    Args:
        returns: (sessions, histories, symbols).
        origins: (n,) sessions from the end of the warm-up.
    """
    at = WARM_UP + origins
    sums, squares = np.cumsum(returns, axis=0), np.cumsum(returns**2, axis=0)
    ewma, errors = np.empty((len(at), *returns.shape[1:])), np.empty((2, len(at), *returns.shape[1:]))
    variance, error = np.mean(returns[:WALK] ** 2, axis=0), np.zeros((2, *returns.shape[1:]))
    places = {int(session): place for place, session in enumerate(at)}
    for session in range(at[-1] + 1):
        variance = 0.94 * variance + 0.06 * returns[session] ** 2
        error = 0.97 * error + 0.3 * np.sqrt(1 - 0.97**2) * rng.standard_normal(error.shape)
        if session in places:
            ewma[places[session]], errors[:, places[session]] = variance, error
    spreads = [np.sqrt(ewma), np.sqrt((squares[at] - squares[at - WALK]) / WALK), *(np.sqrt(ewma) * np.exp(errors))]
    found = np.zeros((4, len(at), returns.shape[1]))
    for step in range(1, HORIZON + 1):
        change = sums[at + step] - sums[at]
        for model, spread in enumerate(spreads):
            found[model] += normal_crps(change, spread * np.sqrt(step)).mean(axis=-1) / HORIZON
    return {"volatility": found[:2], "twins": found[2:]}


def normal_crps(actual: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """CRPS of a normal forecast of mean 0 (Gneiting and Raftery, 2007)."""
    z = actual / spread
    crps: np.ndarray = spread * (z * (2 * ndtr(z) - 1) + np.exp(-(z**2) / 2) * np.sqrt(2 / np.pi) - 1 / np.sqrt(np.pi))
    return crps


def coverage(found: np.ndarray, origins: np.ndarray, level: float, skill: float, draws: int = 500) -> Coverage:
    """Coverage of the true skill by the scoreboard's intervals at a nominal `level`.

    Args:
        found: (2, origins, histories) losses of the model and of the baseline.
    """
    times = OriginTimes(origins.astype(np.float64), HORIZON, EVERY)
    weights, histories = times.weights(), found.shape[2]
    blocks = times.blocks(weights, EvaluationSettings())
    both = np.hstack(list(found))
    drawn, means = block_draws(both, weights, blocks, draws, seed=7), weighted_means(both, weights)
    estimates = 1 - means[:histories] / means[histories:]
    skills = 1 - drawn[:, :histories] / drawn[:, histories:]
    ends = np.array(
        [bootstrap_interval(skills[:, place], estimates[place], 1 - level, 1, blocks) for place in range(histories)]
    )
    low, high = ends.T
    return Coverage(
        float(((low <= skill) & (skill <= high)).mean()), float((low > skill).mean()), float(np.median(high - low) / 2)
    )


def measure(process: str, histories: int, seed: int = 1) -> Iterator[tuple[str, Spacing, Coverage]]:
    """Coverage for all spacings; the true skill is that over all histories and origins of the longest one."""
    rng = np.random.default_rng(seed)
    longest = max(int(spacing.origins[-1]) for spacing in SPACINGS)
    everywhere = np.unique(np.concatenate([spacing.origins for spacing in SPACINGS]))
    parts = []
    for first in range(0, histories, BATCH):
        returns = PROCESSES[process](rng, WARM_UP + longest + HORIZON + 1, min(BATCH, histories - first))
        parts.append(losses(rng, returns, everywhere))
    for comparison in LEVELS:
        found = np.concatenate([part[comparison] for part in parts], axis=2)
        means = found[:, np.isin(everywhere, SPACINGS[3].origins)].mean(axis=(1, 2))
        skill = 0.0 if comparison == "twins" else float(1 - means[0] / means[1])
        for spacing in SPACINGS:
            own = found[:, np.isin(everywhere, spacing.origins)]
            yield comparison, spacing, coverage(own, spacing.origins, LEVELS[comparison], skill)


def main(histories: int) -> None:
    started = time.perf_counter()
    print(f"{'process':<23}{'comparison':<12}{'origins':<21}{'nominal':>8}{'covered':>9}{'above':>7}{'± skill':>9}")
    for process in PROCESSES:
        for comparison, spacing, result in measure(process, histories):
            print(
                f"{process:<23}{comparison:<12}{spacing.name:<21}{LEVELS[comparison]:>8.1%}{result.covered:>9.1%}"
                f"{result.above:>7.1%}{result.width:>9.2%}"
            )
    print(f"{histories} histories each, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
