"""What a backtest amounts to: pure functions of daily returns.

Returns are fractions a session, compounded; a year is 252 sessions, or 365 where no day is left out; no interest on
cash and none taken off. Sharpe and information ratios are arithmetic means over standard deviations. The Deflated
Sharpe ratio asks whether the best of the models tried would look this good by luck alone (Bailey and López de Prado,
2014, doi:10.3905/jpm.2014.40.5.094).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import pandas as pd

from assets.forecasting.bootstrap import FEWEST_BLOCKS, interval_of

YEAR = 252
EULER = 0.5772156649015329
# Short enough to leave many blocks, long enough to keep two weeks' dependence.
BLOCK_SESSIONS = 10
BENCHMARK = "benchmark"


@dataclass(frozen=True)
class Resampling:
    """How the interval of the mean excess return is drawn."""

    draws: int
    confidence: float
    seed: int
    block: int = BLOCK_SESSIONS


def measure(days: pd.DataFrame, resampling: Resampling, year: int = YEAR) -> pd.DataFrame:
    """Every measure of every model and of the benchmark: columns model, metric, value. Undefined ones have no row.

    Args:
        days: columns model, session, gross, cost, net, benchmark, turnover; the same sessions for every model.
        year: sessions in one.
    """
    # Bonferroni's: one of several models is not "better" by luck.
    shared = replace(resampling, confidence=1 - (1 - resampling.confidence) / days["model"].nunique())
    found = {str(model): _of_model(own, shared, year) for model, own in days.groupby("model")}
    sharpes = {model: sharpe(_excess(own)) for model, own in days.groupby("model")}
    trials = np.array([value for value in sharpes.values() if np.isfinite(value)])
    for model, own in days.groupby("model"):
        found[str(model)]["deflated_sharpe"] = deflated_sharpe(_excess(own), luckiest_sharpe(trials))
        found[str(model)]["models_tried"] = float(len(sharpes))
    first = days[days["model"] == days["model"].iloc[0]]
    found[BENCHMARK] = _of_returns(first["benchmark"].to_numpy(), "net", year) | {"sessions": float(len(first))}
    rows = [(model, metric, value) for model, own in found.items() for metric, value in own.items()]
    table = pd.DataFrame(rows, columns=["model", "metric", "value"])
    return table[np.isfinite(table["value"])].sort_values(["model", "metric"], ignore_index=True)


def by_model(measures: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The measures of each model by name."""
    found: dict[str, dict[str, float]] = {}
    for model, metric, value in zip(*(measures[name].tolist() for name in ("model", "metric", "value")), strict=True):
        found.setdefault(model, {})[metric] = value
    return found


def _of_model(days: pd.DataFrame, resampling: Resampling, year: int) -> dict[str, float]:
    net, excess = days["net"].to_numpy(), _excess(days)
    low, high = mean_interval(excess, resampling)
    years = len(days) / year
    return {
        "sessions": float(len(days)),
        **_of_returns(days["gross"].to_numpy(), "gross", year),
        **_of_returns(net, "net", year),
        "information_ratio": sharpe(excess) * np.sqrt(year),
        "tracking_error": float(np.std(excess, ddof=1) * np.sqrt(year)) if len(excess) > 1 else np.nan,
        "excess_return": float(excess.mean() * year),
        "excess_return_low": low * year,
        "excess_return_high": high * year,
        "turnover": float(days["turnover"].sum() / years),
        "cost": float(days["cost"].sum() / years),
        "traded_days": float((days["turnover"] > 0).mean()),
    }


def _of_returns(returns: np.ndarray, name: str, year: int) -> dict[str, float]:
    return {
        f"total_return_{name}": float(np.prod(1 + returns) - 1),
        f"annual_return_{name}": float(np.prod(1 + returns) ** (year / len(returns)) - 1),
        f"volatility_{name}": float(np.std(returns, ddof=1) * np.sqrt(year)) if len(returns) > 1 else np.nan,
        f"sharpe_{name}": sharpe(returns) * np.sqrt(year),
        f"max_drawdown_{name}": float(drawdown(returns).min()),
    }


def equity(returns: np.ndarray) -> np.ndarray:
    """Growth of 1, before the first session and after each: (sessions + 1,)."""
    return np.r_[1.0, np.cumprod(1 + returns)]


def drawdown(returns: np.ndarray) -> np.ndarray:
    """Distance below the highest point so far, as a fraction, ≤ 0: (sessions + 1,)."""
    curve = equity(returns)
    return curve / np.maximum.accumulate(curve) - 1


def sharpe(returns: np.ndarray) -> float:
    """Mean over standard deviation, a session. NaN for fewer than two sessions or none that moves."""
    spread = np.std(returns, ddof=1) if len(returns) > 1 else 0.0
    return float(np.mean(returns) / spread) if spread > 0 else np.nan


def luckiest_sharpe(trials: np.ndarray) -> float:
    """The best Sharpe ratio to expect of as many worthless trials with this spread. One trial: 0."""
    if len(trials) < 2:
        return 0.0
    return expected_maximum(float(np.std(trials, ddof=1)), len(trials))


def expected_maximum(spread: float, trials: int) -> float:
    """The expected maximum of `trials` normal draws of standard deviation `spread` and mean 0."""
    quantile = NormalDist().inv_cdf
    return spread * ((1 - EULER) * quantile(1 - 1 / trials) + EULER * quantile(1 - 1 / (trials * np.e)))


def deflated_sharpe(returns: np.ndarray, threshold: float) -> float:
    """The probability that the true Sharpe ratio, a session, exceeds `threshold`."""
    ratio = sharpe(returns)
    if not np.isfinite(ratio):
        return np.nan
    centred = (returns - returns.mean()) / returns.std()
    return probability_above(ratio, threshold, len(returns), float((centred**3).mean()), float((centred**4).mean()))


def probability_above(ratio: float, threshold: float, sessions: int, skewness: float, kurtosis: float) -> float:
    """The probabilistic Sharpe ratio: `ratio` and `threshold` a session, `kurtosis` 3 for a normal law."""
    error = np.sqrt(1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2)
    return NormalDist().cdf((ratio - threshold) * np.sqrt(sessions - 1) / error)


def mean_interval(values: np.ndarray, resampling: Resampling) -> tuple[float, float]:
    """The interval of the mean by a circular block bootstrap; NaN from fewer than five blocks."""
    from arch.bootstrap import CircularBlockBootstrap

    if len(values) < FEWEST_BLOCKS * resampling.block:
        return np.nan, np.nan
    bootstrap = CircularBlockBootstrap(resampling.block, values, seed=np.random.default_rng(resampling.seed))
    means = bootstrap.apply(np.mean, resampling.draws)
    return interval_of(means[:, 0], float(values.mean()), 1 - resampling.confidence, resampling.block, len(values))


def _excess(days: pd.DataFrame) -> np.ndarray:
    return (days["net"] - days["benchmark"]).to_numpy()
