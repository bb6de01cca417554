"""Performance measures of a backtest: pure functions of daily returns.

Returns are fractions per session, compounded; a year has 252 sessions, or 365 for a calendar without closed days; the
risk-free rate is 0. Sharpe and information ratios are arithmetic means over standard deviations. The Deflated Sharpe
ratio is the probability that a Sharpe ratio is above the maximum expected from as many models without skill (Bailey
and López de Prado, 2014, doi:10.3905/jpm.2014.40.5.094). Not here: excess return, alpha and beta (edge).
"""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pandas as pd

from assets.backtests.edge import BootstrapOptions, annual_return, edge
from assets.backtests.tradability import REFUSED

YEAR = 252
EULER = 0.5772156649015329
BENCHMARK = "benchmark"


def measure(days: pd.DataFrame, resampling: BootstrapOptions, year: int = YEAR) -> pd.DataFrame:
    """All measures of all models and of the benchmark: columns model, metric, value. Undefined measures have no row.

    Args:
        days: columns model, session, gross, cost, net, benchmark, turnover, and the refused orders by reason; the same
            sessions for every model.
        year: sessions per year.
    """
    # Bonferroni correction for the number of models.
    shared = replace(resampling, confidence=1 - (1 - resampling.confidence) / days["model"].nunique())
    found = {str(model): _model_measures(own, shared, year) for model, own in days.groupby("model")}
    sharpes = {model: sharpe(_excess(own)) for model, own in days.groupby("model")}
    trials = np.array([value for value in sharpes.values() if np.isfinite(value)])
    for model, own in days.groupby("model"):
        found[str(model)]["deflated_sharpe"] = deflated_sharpe(_excess(own), expected_best_sharpe(trials))
        found[str(model)]["models_tried"] = float(len(sharpes))
    first = days[days["model"] == days["model"].iloc[0]]
    found[BENCHMARK] = _return_measures(first["benchmark"].to_numpy(), "net", year) | {"sessions": float(len(first))}
    rows = [(model, metric, value) for model, own in found.items() for metric, value in own.items()]
    table = pd.DataFrame(rows, columns=["model", "metric", "value"])
    defined: pd.DataFrame = table[np.isfinite(table["value"])]
    return defined.sort_values(["model", "metric"], ignore_index=True)


def by_model(measures: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The measures of each model by name."""
    found: dict[str, dict[str, float]] = {}
    for model, metric, value in zip(*(measures[name].tolist() for name in ("model", "metric", "value")), strict=True):
        found.setdefault(model, {})[metric] = value
    return found


def _model_measures(days: pd.DataFrame, resampling: BootstrapOptions, year: int) -> dict[str, float]:
    net, excess = days["net"].to_numpy(), _excess(days)
    years = len(days) / year
    return {
        "sessions": float(len(days)),
        **_return_measures(days["gross"].to_numpy(), "gross", year),
        **_return_measures(net, "net", year),
        "information_ratio": sharpe(excess) * np.sqrt(year),
        "tracking_error": float(np.std(excess, ddof=1) * np.sqrt(year)) if len(excess) > 1 else np.nan,
        **edge(net, days["benchmark"].to_numpy(), resampling, year),
        "turnover": float(days["turnover"].sum() / years),
        "cost": float(days["cost"].sum() / years),
        "traded_days": float((days["turnover"] > 0).mean()),
        "refused_orders": float(days[list(REFUSED)].to_numpy().sum()),
        **{name: float(days[name].sum()) for name in REFUSED},
    }


def _return_measures(returns: np.ndarray, name: str, year: int) -> dict[str, float]:
    return {
        f"total_return_{name}": float(np.prod(1 + returns) - 1),
        f"annual_return_{name}": annual_return(returns, year),
        f"volatility_{name}": float(np.std(returns, ddof=1) * np.sqrt(year)) if len(returns) > 1 else np.nan,
        f"sharpe_{name}": sharpe(returns) * np.sqrt(year),
        f"max_drawdown_{name}": float(drawdown(returns).min()),
    }


def equity(returns: np.ndarray) -> np.ndarray:
    """Growth of 1 unit, before the first session and after each: (sessions + 1,)."""
    return np.concatenate([[1.0], np.cumprod(1 + returns)])


def drawdown(returns: np.ndarray) -> np.ndarray:
    """Distance below the running maximum, as a fraction ≤ 0: (sessions + 1,)."""
    curve = equity(returns)
    return curve / np.maximum.accumulate(curve) - 1


def sharpe(returns: np.ndarray) -> float:
    """Mean over standard deviation, per session. NaN for fewer than two sessions or zero variance."""
    spread = np.std(returns, ddof=1) if len(returns) > 1 else 0.0
    return float(np.mean(returns) / spread) if spread > 0 else np.nan


def expected_best_sharpe(trials: np.ndarray) -> float:
    """The expected best Sharpe ratio of as many trials without skill and with this spread. One trial: 0."""
    if len(trials) < 2:
        return 0.0
    return expected_maximum(float(np.std(trials, ddof=1)), len(trials))


def expected_maximum(spread: float, trials: int) -> float:
    """The expected maximum of `trials` normal draws of standard deviation `spread` and mean 0."""
    quantile = NormalDist().inv_cdf
    return spread * ((1 - EULER) * quantile(1 - 1 / trials) + EULER * quantile(1 - 1 / (trials * np.e)))


def deflated_sharpe(returns: np.ndarray, threshold: float) -> float:
    """The probability that the true Sharpe ratio, per session, exceeds `threshold`."""
    ratio = sharpe(returns)
    if not np.isfinite(ratio):
        return np.nan
    centred = (returns - returns.mean()) / returns.std()
    return probability_above(ratio, threshold, len(returns), float((centred**3).mean()), float((centred**4).mean()))


def probability_above(ratio: float, threshold: float, sessions: int, skewness: float, kurtosis: float) -> float:
    """The probabilistic Sharpe ratio: `ratio` and `threshold` per session, `kurtosis` 3 for a normal distribution."""
    error = np.sqrt(1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2)
    return NormalDist().cdf((ratio - threshold) * np.sqrt(sessions - 1) / error)


def _excess(days: pd.DataFrame) -> np.ndarray:
    return (days["net"] - days["benchmark"]).to_numpy()
