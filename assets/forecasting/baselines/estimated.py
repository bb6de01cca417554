"""The baselines whose parameters are estimated: garch, gjr_garch and har, as models that forecast the close.

Their median is the last close: they forecast how far a price moves, and not where to. The estimates are of the training
range (`parameters`); a forecast reads them, the symbol's own bars up to its origin, and for har the market's
ranges up to it. Where nothing could be estimated, every forecast is that of FALLBACK, and is reported as such.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from assets.forecasting.baselines.closed_form import BATCH_SIZE, ESTIMATED, EstimatedBaseline, closed_form
from assets.forecasting.baselines.garch import GarchLaw, garch_quantiles, log_returns
from assets.forecasting.baselines.har import MarketRanges, har_quantiles
from assets.forecasting.baselines.parameters import Estimates, read_market, stored_estimates
from assets.forecasting.forecaster import (
    ForecastModel,
    ForecastTask,
    Predict,
    Prediction,
    forecast_checkpoint,
    market_recipe,
)
from assets.forecasting.models.garch import LEAST_RETURNS
from assets.forecasting.models.series import FALLBACK
from assets.forecasting.volatility.regression import VolatilityWeights
from assets.market.history import CLOSE, BarHistory
from resources.publish import digest_of
from resources.settings import Settings
from resources.warehouse import Warehouse

VERSION = 1
# A history, numbers of its bars → quantiles of the log return from each, (bars, steps, levels).
SeriesQuantiles = Callable[[BarHistory, np.ndarray], np.ndarray]


def estimated_baselines(
    settings: Settings, estimates: Estimates | None = None, market: Callable[[], MarketRanges] | None = None
) -> list[ForecastModel]:
    """The baselines with estimated parameters.

    Args:
        estimates: None: those that are stored.
        market: None: the ranges of the symbols in the warehouse.
    """
    found = stored_estimates(settings) if estimates is None else estimates
    read = cache(market or (lambda: read_market(settings, Warehouse.of(settings))))
    return [_model(settings, model, found, read) for model in ESTIMATED]


def _model(
    settings: Settings, model: EstimatedBaseline, estimates: Estimates, market: Callable[[], MarketRanges]
) -> ForecastModel:
    numbers, own = estimates.numbers(model), getattr(estimates, model)
    horizon, levels = settings.windows.predict_window, settings.forecasts.levels
    recipe = {
        "model": model,
        "version": VERSION,
        "predict_window": horizon,
        "levels": levels,
        "train": [str(day) for day in settings.windows.train],
        # Forecasts by other estimates are stored beside these.
        "estimates": None if numbers is None else digest_of(numbers),
        "fallback": FALLBACK,
        **market_recipe(settings.market),
    }

    def load() -> Predict:
        if isinstance(own, GarchLaw):
            return _by_series(_garch(own, horizon, levels))
        if isinstance(own, VolatilityWeights):
            return _by_series(_har(own, market(), horizon, levels))
        reason = f"windows.train holds too few bars to estimate it ({LEAST_RETURNS} returns of a symbol, more for har)"
        return _fallback(levels, f"{reason}, so it is that of {FALLBACK}")

    def data(last: np.datetime64) -> Sequence[str]:
        return (market().digest(last),) if isinstance(own, VolatilityWeights) else ()

    return ForecastModel(
        model=model,
        checkpoint=forecast_checkpoint(recipe),
        weights=None,
        recipe=recipe,
        trained_until=None if numbers is None else settings.windows.train[1],
        load=cache(load),
        batch_size=BATCH_SIZE,
        family="baseline",
        licence="MIT",
        data=data,
    )


def _garch(law: GarchLaw, steps: int, levels: Sequence[float]) -> SeriesQuantiles:
    shapes = law.shapes(steps, levels)

    def quantiles(history: BarHistory, at: np.ndarray) -> np.ndarray:
        return garch_quantiles(law, shapes, log_returns(history, int(at.max())), at - 1)

    return quantiles


def _har(weights: VolatilityWeights, market: MarketRanges, steps: int, levels: Sequence[float]) -> SeriesQuantiles:
    return lambda history, at: har_quantiles(weights, market, history, at, steps, levels)


def _fallback(levels: Sequence[float], reason: str) -> Predict:
    predict = closed_form(FALLBACK, levels)
    return lambda tasks, targets: replace(predict(tasks, targets), fallbacks=dict.fromkeys(range(len(tasks)), reason))


def _by_series(quantiles: SeriesQuantiles) -> Predict:
    """The forecasts of tasks: all origins of a history in one pass over its bars."""

    def predict(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        by_history: dict[int, list[int]] = {}
        for row, task in enumerate(tasks):
            by_history.setdefault(id(task.history), []).append(row)
        found: dict[int, np.ndarray] = {}
        for rows in by_history.values():
            history, at = tasks[rows[0]].history, np.array([tasks[row].index for row in rows])
            prices = history.quoted[at, CLOSE][:, None, None] * np.exp(quantiles(history, at))
            found |= dict(zip(rows, prices[:, : targets.shape[1]], strict=True))
        ordered = np.stack([found[row] for row in range(len(tasks))])[:, :, None]
        return Prediction(("close",), ordered, np.zeros(len(tasks)))

    return predict
