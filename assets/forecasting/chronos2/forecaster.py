"""Chronos-2's forecasts: marginal quantiles of the close, and of range and volume where the settings name them.

By default the input is the log of the adjusted close, adjusted as of the origin. Not here: the rows of the input
(inputs), groups of symbols (groups), forward passes (batches), and the corrections of the
output (outputs).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from assets.forecasting.chronos2.batches import Series, SeriesForecaster
from assets.forecasting.chronos2.groups import Histories, complete_groups, read_groups
from assets.forecasting.chronos2.input_settings import inputs_recipe, with_inputs_of
from assets.forecasting.chronos2.inputs import Chronos2Inputs
from assets.forecasting.chronos2.outputs import field_quantiles
from assets.forecasting.chronos2.pipeline import load_pipeline, series_at_once, steps_at_once
from assets.forecasting.cross_section import MarketReturns, market_of
from assets.forecasting.forecaster import (
    ForecastModel,
    ForecastTask,
    Predict,
    Prediction,
    forecast_checkpoint,
    market_recipe,
    trained_until,
)
from assets.forecasting.lookbacks import fill_lookbacks
from assets.market.gaps import GapFill
from assets.market.history import CLOSE, stored_histories
from resources.checkpoints import Checkpoint, CheckpointStore
from resources.compute import Compute
from resources.errors import CandlecastError
from resources.licences import UNKNOWN
from resources.publish import digest_of
from resources.settings import Settings

MODEL = "chronos2"
VERSION = 1
BATCH_SIZE = 1024


@dataclass(frozen=True)
class OtherSymbols:
    """What the forecasts of a symbol read of others.

    Attributes:
        histories: reads the histories that groups are completed from.
        market: the mean return of all symbols.
    """

    histories: Histories
    market: Callable[[], MarketReturns]

    @classmethod
    def stored(cls, settings: Settings) -> OtherSymbols:
        """The symbols of the settings, read from the warehouse once they are needed."""
        histories = cache(lambda: stored_histories(settings))
        return cls(histories, lambda: market_of(histories().values()))


def chronos2_forecaster(
    settings: Settings, checkpoints: CheckpointStore, others: OtherSymbols | None = None
) -> ForecastModel:
    """The forecaster of the Chronos-2 checkpoint in use.

    Args:
        others: None: those of the warehouse.

    Raises:
        CandlecastError: there is no checkpoint yet.
    """
    weights = checkpoints.current("chronos2_model")
    if weights is None:
        vintage = f" of the vintage {checkpoints.vintage}" if checkpoints.vintage else ""
        raise CandlecastError(f"no Chronos-2 checkpoint{vintage} yet: materialise chronos2_model first")
    settings = with_inputs_of(weights.card, settings)
    recipe: dict[str, Any] = {
        "model": MODEL,
        "version": VERSION,
        "lookback_window": settings.windows.lookback_window,
        "predict_window": settings.windows.predict_window,
        "context_length": settings.chronos2.context_length,
        "levels": settings.forecasts.levels,
        "recentre": settings.forecasts.recentre,
        "series_at_once": series_at_once(settings, weights.folder),
        **market_recipe(settings.market),
        **GapFill.of(settings, weights.card.get("training")).recipe,
        **inputs_recipe(settings),
    }
    groups = read_groups(settings)
    if groups:
        recipe["groups"] = digest_of(groups)
    steps = steps_at_once(weights.folder)
    if steps < settings.windows.predict_window:
        # Left out elsewhere: a new key would change the `checkpoint` of every stored forecast.
        recipe["independent_blocks"] = steps
    return ForecastModel(
        model=MODEL,
        checkpoint=forecast_checkpoint(recipe, weights),
        weights=weights.digest,
        recipe=recipe,
        trained_until=trained_until(weights),
        load=cache(lambda: _load(settings, weights, others or OtherSymbols.stored(settings))),
        batch_size=BATCH_SIZE,
        family="foundation model",
        licence=settings.chronos2.licence or str(weights.card.get("licence", UNKNOWN)),
        data=lambda last: Chronos2Inputs.of(settings, OtherSymbols.stored(settings).market).data_version(last),
    )


def _load(settings: Settings, weights: Checkpoint, others: OtherSymbols) -> Predict:
    from chronos import Chronos2Pipeline

    pipeline = load_pipeline(Chronos2Pipeline, weights.folder, Compute(settings.compute))
    return Chronos2Predictor(
        settings,
        SeriesForecaster(
            pipeline,
            len(settings.chronos2.targets),
            steps_at_once(weights.folder),
            settings.forecasts.levels,
            series_at_once(settings, weights.folder),
        ),
        Chronos2Inputs.of(settings, others.market),
        read_groups(settings),
        GapFill.of(settings, weights.card.get("training")),
        others.histories,
    ).predict


@dataclass(frozen=True)
class Chronos2Predictor:
    """Forecasts of tasks. One that cannot be forecast has a reason, and changes no other.

    Attributes:
        groups: the group of each symbol that has one.
        histories: reads the histories of all symbols of the settings.
    """

    settings: Settings
    forecaster: SeriesForecaster
    inputs: Chronos2Inputs
    groups: Mapping[str, str]
    fill: GapFill
    histories: Histories

    def predict(self, tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        """The forecasts of some tasks.

        Raises:
            CandlecastError: covariates that are known over the horizon, and a horizon beyond what the weights forecast
                in one pass.
        """
        horizon, levels = targets.shape[1], self.settings.forecasts.levels
        forecaster = replace(self.forecaster, steps=self._steps(horizon))
        completed = complete_groups(tasks, targets, self.groups, self.settings.windows.lookback_window, self.histories)
        found = [
            self._series(task, completed.targets[place], completed.groups[place])
            for place, task in enumerate(fill_lookbacks(completed.tasks, self.fill))
        ]
        usable = [place for place, one in enumerate(found) if isinstance(one, Series)]
        scales = np.array([one.scale if isinstance(one, Series) else np.nan for one in found])
        raw = np.full((len(found), forecaster.targets, forecaster.steps, len(levels)), np.nan)
        if usable:
            raw[usable] = forecaster.quantiles([one for one in found if isinstance(one, Series)])
        raw, scales = raw[list(completed.places)], scales[list(completed.places)]
        with np.errstate(divide="ignore", invalid="ignore"):
            last_close = np.log([task.history.quoted[task.index, CLOSE] for task in tasks])
        fields, quantiles = field_quantiles(
            raw, self.inputs.targets, last_close, scales, horizon, levels.index(0.5), self.settings.forecasts.recentre
        )
        crossed = (np.diff(raw, axis=-1) < 0).mean(axis=(1, 2, 3))
        reasons = {number: found[place] for number, place in enumerate(completed.places)}
        failures = {number: reason for number, reason in reasons.items() if isinstance(reason, str)}
        return Prediction(fields, quantiles, crossed, failures=failures)

    def _steps(self, horizon: int) -> int:
        most = self.forecaster.steps
        if self.inputs.future and most < horizon:
            raise CandlecastError(
                f"chronos2.future_covariates: these weights forecast {most} steps in one pass, and covariates reach no "
                f"further: set windows.predict_window to {most} at most, or remove the covariates"
            )
        return min(horizon, most)

    def _series(self, task: ForecastTask, targets: np.ndarray, group: Hashable) -> Series | str:
        """The input of a task, or why there is none."""
        history, last = task.history, task.index
        first = max(0, last + 1 - self.settings.chronos2.context_length)
        # A bar more, where there is one, for the return of the first.
        before = min(first, 1)
        bars = history.bars_as_of(last, first - before)
        try:
            rows = self.inputs.rows(task.symbol, history.stamps[first - before : last + 1], bars, targets, first=before)
        except CandlecastError as error:
            return str(error)
        return Series(*rows, group, self.inputs.scale(bars[before:]))
