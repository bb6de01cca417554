"""The baselines in closed form: log-normal forecasts of the close.

A model that does not beat them has no skill. All four assume that the log return over h sessions is normal. They differ
in its mean and its variance:

- random_walk: mean 0; variance h·σ², σ² the mean squared log return of the last 252 sessions.
- random_walk_ewma: mean 0; σ² by exponential weights, λ = .94 (RiskMetrics Technical Document, 1996).
- drift: mean h·μ, μ the mean log return of the whole history; variance σ²·h·(1 + h/n), which includes the estimation
  error of μ (Hyndman and Athanasopoulos, Forecasting: Principles and Practice, 5.5).
- momentum: mean h·m, m the mean log return from 252 to 21 sessions ago (Jegadeesh and Titman, 1993, skipping the
  last month as they do); variance as for random_walk.

Not here: those whose parameters are estimated (estimated).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Literal, get_args

import numpy as np

from assets.forecasting.forecaster import (
    ForecastModel,
    ForecastTask,
    Predict,
    Prediction,
    forecast_checkpoint,
    market_recipe,
)
from resources.settings import Settings

Baseline = Literal["random_walk", "random_walk_ewma", "drift", "momentum"]
EstimatedBaseline = Literal["garch", "gjr_garch", "har"]
ESTIMATED: tuple[EstimatedBaseline, ...] = get_args(EstimatedBaseline)
YEAR, MONTH = 252, 21
DECAY = 0.94
VERSION = 1
BATCH_SIZE = 10_000


def random_walk(returns: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance, (steps,) each, of the log return over `steps` sessions, from (n,) past log returns."""
    return np.zeros(len(steps)), steps * _variance(returns)


def random_walk_ewma(returns: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `random_walk`, with exponential weights over the last year (λ^252 = 2e-7)."""
    recent = returns[-YEAR:]
    weights = DECAY ** np.arange(len(recent) - 1, -1, -1)
    return np.zeros(len(steps)), steps * float(weights @ recent**2 / weights.sum())


def drift(returns: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `random_walk`, with the mean log return of the whole history as drift."""
    return steps * returns.mean(), _variance(returns) * steps * (1 + steps / len(returns))


def momentum(returns: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `random_walk`, with the mean log return of the last year without the last month as drift."""
    past = returns[-YEAR:-MONTH]
    return steps * (past.mean() if len(past) else returns.mean()), steps * _variance(returns)


Moments = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
MODELS: dict[Baseline, Moments] = {
    "random_walk": random_walk,
    "random_walk_ewma": random_walk_ewma,
    "drift": drift,
    "momentum": momentum,
}


def baseline_forecasters(settings: Settings) -> list[ForecastModel]:
    """The baselines in closed form."""
    return [_forecaster(model, settings) for model in MODELS]


def _forecaster(model: Baseline, settings: Settings) -> ForecastModel:
    horizon, levels = settings.windows.predict_window, settings.forecasts.levels
    recipe = {
        "model": model,
        "version": VERSION,
        "predict_window": horizon,
        "levels": levels,
        "year": YEAR,
        "month": MONTH,
        "decay": DECAY,
        **market_recipe(settings.market),
    }
    return ForecastModel(
        model=model,
        checkpoint=forecast_checkpoint(recipe),
        weights=None,
        recipe=recipe,
        trained_until=None,
        load=cache(lambda: closed_form(model, levels)),
        batch_size=BATCH_SIZE,
        family="baseline",
        licence="MIT",
    )


def closed_form(model: Baseline, levels: Sequence[float]) -> Predict:
    """The forecasts of one of the baselines in closed form."""
    from scipy.special import ndtri

    return partial(_quantiles, MODELS[model], ndtri(np.asarray(levels)))


def _quantiles(
    moments: Moments,
    normal_quantiles: np.ndarray,
    tasks: Sequence[ForecastTask],
    targets: np.ndarray,
) -> Prediction:
    steps = np.arange(1, targets.shape[1] + 1, dtype=np.float64)
    quantiles = np.empty((len(tasks), len(steps), 1, len(normal_quantiles)))
    for row, task in enumerate(tasks):
        closes = task.history.closes_as_of(task.index)
        mean, variance = moments(np.diff(np.log(closes)), steps)
        quantiles[row, :, 0] = closes[-1] * np.exp(mean[:, None] + np.sqrt(variance)[:, None] * normal_quantiles)
    return Prediction(("close",), quantiles, np.zeros(len(tasks)))


def _variance(returns: np.ndarray) -> float:
    return float(np.mean(returns[-YEAR:] ** 2))
