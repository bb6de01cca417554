"""The volatility model's forecasts: quantiles of the close about the last close, from a scale and an empirical shape.

The model reads the symbol's bars and those of its market, the symbols of the settings: all of them at every origin,
whatever the run forecasts, so that a forecast does not depend on what is forecast beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from assets.forecasting.volatility.features import BARS_READ, SMALLEST, PanelFeatures
from assets.forecasting.volatility.panel import digest_of_bars, panel_up_to
from assets.forecasting.volatility.regression import INPUTS_VERSION, VolatilityWeights, design_of
from assets.market.history import CLOSE, BarHistory, stored_histories
from resources.checkpoints import Checkpoint, CheckpointStore
from resources.errors import CandlecastError
from resources.licences import UNKNOWN
from resources.settings import Settings

MODEL = "volatility"
BATCH_SIZE = 10_000
Market = Mapping[str, BarHistory]


def volatility_forecaster(
    settings: Settings, checkpoints: CheckpointStore, market: Callable[[], Market] | None = None
) -> ForecastModel:
    """The forecaster of the volatility model in use.

    Args:
        market: reads the histories of all symbols of the settings; None: from the warehouse.

    Raises:
        CandlecastError: there is no checkpoint yet.
    """
    weights = checkpoints.current("volatility_model")
    if weights is None:
        vintage = f" of the vintage {checkpoints.vintage}" if checkpoints.vintage else ""
        raise CandlecastError(f"no volatility model{vintage} yet: materialise volatility_model first")
    recipe: dict[str, Any] = {
        "model": MODEL,
        "inputs_version": INPUTS_VERSION,
        "predict_window": settings.windows.predict_window,
        "levels": settings.forecasts.levels,
        "bars": BARS_READ,
        **market_recipe(settings.market),
    }
    stored = market or cache(lambda: stored_histories(settings))
    return ForecastModel(
        model=MODEL,
        checkpoint=forecast_checkpoint(recipe, weights),
        weights=weights.digest,
        recipe=recipe,
        trained_until=trained_until(weights),
        load=cache(lambda: _load(weights, stored(), settings.forecasts.levels)),
        batch_size=BATCH_SIZE,
        family="volatility model",
        licence=settings.volatility.licence or str(weights.card.get("licence", UNKNOWN)),
        data=lambda last: [digest_of_bars(stored().values(), last)],
    )


def _load(checkpoint: Checkpoint, market: Market, levels: Sequence[float]) -> Predict:
    return VolatilityPredictor(VolatilityWeights.load(checkpoint.folder), market, tuple(levels)).predict


@dataclass(frozen=True)
class VolatilityPredictor:
    """Forecasts of tasks by some weights, in some market. One that cannot be forecast has a reason.

    Attributes:
        market: histories by symbol. Of a task's symbol the history of the task is read; one that is no symbol of the
            market reads the market and itself.
    """

    weights: VolatilityWeights
    market: Market
    levels: tuple[float, ...]

    def predict(self, tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        """The forecasts of some tasks."""
        deviations = self.deviations(tasks, targets)
        logs = self.weights.quantiles(deviations, self.levels)
        closes = np.array([task.history.quoted[task.index, CLOSE] for task in tasks])
        failures = {
            row: _reason(task)
            for row, task in enumerate(tasks)
            if not np.isfinite(deviations[row]).all() or not closes[row] > 0
        }
        quantiles = (closes[:, None, None] * np.exp(logs))[:, :, None]
        return Prediction(("close",), quantiles, np.zeros(len(tasks)), failures=failures)

    def deviations(self, tasks: Sequence[ForecastTask], targets: np.ndarray) -> np.ndarray:
        """Standard deviations of the log return over 1 … k bars, (tasks, k); NaN: not known.

        Args:
            targets: (tasks, k) datetime64.
        """
        result = np.full(targets.shape, np.nan)
        for rows, histories in self._together(tasks):
            origin, names = tasks[rows[0]].origin, sorted(histories)
            panel = panel_up_to([histories[name] for name in names], origin, BARS_READ)
            columns = np.array([names.index(tasks[row].symbol) for row in rows])
            design, level = design_of(PanelFeatures(panel), len(panel.stamps) - 1, columns, origin, targets[rows])
            moved = np.where(level > np.log(SMALLEST), level, np.nan)
            result[rows] = self.weights.deviations(design, moved)
        return result

    def _together(self, tasks: Sequence[ForecastTask]) -> Iterator[tuple[list[int], dict[str, BarHistory]]]:
        """The tasks that one panel serves, and its histories: those of an origin, each stranger to the market alone."""
        for origin in sorted({task.origin for task in tasks}):
            rows = [row for row, task in enumerate(tasks) if task.origin == origin]
            own = [row for row in rows if tasks[row].symbol in self.market]
            groups = [own, *([row] for row in rows if tasks[row].symbol not in self.market)]
            for group in filter(None, groups):
                yield group, {**self.market, **{tasks[row].symbol: tasks[row].history for row in group}}


def _reason(task: ForecastTask) -> str:
    with np.errstate(invalid="ignore"):
        priced = task.history.quoted[max(task.index - 1, 0) : task.index + 1, CLOSE] > 0
    if task.index == 0:
        return "it is the first bar of the symbol: no return is known"
    if not priced.all():
        return "the close of the origin, or the one before, is not positive: see the asset checks on bars"
    return "the close has not changed for a year: its volatility is not known"
