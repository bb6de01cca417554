"""The volatility model's forecasts: quantiles of the close about the last close, from a scale and an empirical shape.

The model reads the symbol's bars and those of its market, the symbols of the settings: all of them at every origin,
whatever the run forecasts, so that a forecast does not depend on what is forecast beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from assets.forecasting.forecaster import (
    ForecastModel,
    ForecastTask,
    Predict,
    Prediction,
    forecast_checkpoint,
    market_recipe,
    trained_until,
)
from assets.forecasting.volatility.features import BARS_READ, PanelFeatures
from assets.forecasting.volatility.panel import panel_up_to
from assets.forecasting.volatility.regression import VolatilityWeights, design_of
from assets.market.history import BarHistory, read_histories
from assets.market.selection import source_filter, wanted_symbols
from resources.checkpoints import Checkpoint, CheckpointStore
from resources.errors import CandlecastError
from resources.settings import Settings
from resources.warehouse import Warehouse

MODEL = "volatility"
BATCH_SIZE = 10_000


def volatility_forecaster(settings: Settings, checkpoints: CheckpointStore) -> ForecastModel:
    """The forecaster of the volatility model in use.

    Raises:
        CandlecastError: there is no checkpoint yet.
    """
    weights = checkpoints.current("volatility_model")
    if weights is None:
        raise CandlecastError("no volatility model yet: materialise volatility_model first")
    recipe: dict[str, Any] = {
        "model": MODEL,
        "predict_window": settings.windows.predict_window,
        "levels": settings.forecasts.levels,
        "bars": BARS_READ,
        **market_recipe(settings.market),
    }
    return ForecastModel(
        model=MODEL,
        checkpoint=forecast_checkpoint(recipe, weights),
        weights=weights.digest,
        recipe=recipe,
        trained_until=trained_until(weights),
        load=cache(lambda: _load(settings, weights)),
        batch_size=BATCH_SIZE,
        family="volatility model",
        licence="MIT",
    )


def _load(settings: Settings, checkpoint: Checkpoint) -> Predict:
    warehouse = Warehouse.of(settings)
    market = read_histories(
        warehouse,
        settings.market.frequency,
        wanted_symbols(settings),
        sources=source_filter(settings, warehouse),
    )
    return volatility_predictor(VolatilityWeights.load(checkpoint.folder), market, settings.forecasts.levels)


def volatility_predictor(
    weights: VolatilityWeights, market: Mapping[str, BarHistory], levels: Sequence[float]
) -> Predict:
    """Predict with some weights, in some market."""

    def predict(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        quantiles = np.full((len(tasks), targets.shape[1], 1, len(levels)), np.nan)
        failures: dict[int, str] = {}
        for origin in sorted({task.origin for task in tasks}):
            rows = [row for row, task in enumerate(tasks) if task.origin == origin]
            # A symbol asked for by hand may be none of the market's.
            histories = {**market, **{tasks[row].symbol: tasks[row].history for row in rows}}
            names = sorted(histories)
            panel = panel_up_to([histories[name] for name in names], origin, BARS_READ)
            columns = np.array([names.index(tasks[row].symbol) for row in rows])
            design, level = design_of(PanelFeatures(panel), len(panel.stamps) - 1, columns, origin, targets[rows[0]])
            logs = weights.quantiles(weights.deviations(design, level), levels)
            for row, own in zip(rows, logs, strict=True):
                task = tasks[row]
                if np.isfinite(own).all():
                    quantiles[row, :, 0] = task.history.closes_as_of(task.index, task.index)[-1] * np.exp(own)
                else:
                    failures[row] = "no log return at the origin: its close, or the one before, is not positive"
        return Prediction(("close",), quantiles, np.zeros(len(tasks)), failures=failures)

    return predict
