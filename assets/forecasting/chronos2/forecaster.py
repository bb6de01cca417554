"""Chronos-2's forecasts: marginal quantiles of the close, and of range and volume where the settings name them.

By default the input is the log of the adjusted close, adjusted as of the origin. Not here: the rows of the input
(inputs), groups of symbols (groups), forward passes (batches), and the corrections of the
output (outputs).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from assets.forecasting.chronos2.batches import Series, SeriesForecaster
from assets.forecasting.chronos2.groups import Histories, complete_groups, read_groups
from assets.forecasting.chronos2.input_settings import inputs_recipe, with_inputs_of
from assets.forecasting.chronos2.inputs import Chronos2Inputs
from assets.forecasting.chronos2.outputs import field_quantiles
from assets.forecasting.chronos2.pipeline import load_pipeline, series_at_once, steps_at_once
from assets.forecasting.companion import network
from assets.forecasting.cross_section import MarketReturns, market_of
from assets.forecasting.forecaster import (
    ForecastModel,
    ForecastTask,
    NetworkPredict,
    Prediction,
    Prepared,
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
    load, compute = partial(_load, settings, weights.folder), Compute(settings.compute)
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
        load=cache(
            lambda: NetworkPredict(
                MODEL,
                Chronos2Rows.of(settings, weights, others or OtherSymbols.stored(settings)).prepare,
                network(load, compute, weights.folder),
            )
        ),
        batch_size=BATCH_SIZE,
        family="foundation model",
        licence=settings.chronos2.licence or str(weights.card.get("licence", UNKNOWN)),
        # Groups may read the warehouse, which threads that wait for workers must not.
        in_worker=load if compute.one_thread(weights.folder) and not groups else None,
        data=lambda last: Chronos2Inputs.of(settings, OtherSymbols.stored(settings).market).data_version(last),
    )


# Steps of one pass, and the series.
Passes = tuple[int, Sequence[Series]]


def _load(settings: Settings, folder: Path) -> Callable[[Passes], np.ndarray]:
    from chronos import Chronos2Pipeline

    compute = Compute(settings.compute)
    forecaster = SeriesForecaster(
        load_pipeline(Chronos2Pipeline, folder, compute),
        len(settings.chronos2.targets),
        steps_at_once(folder),
        settings.forecasts.levels,
        series_at_once(settings, folder, compute.device_name()),
    )
    return lambda item: replace(forecaster, steps=item[0]).quantiles(item[1])


@dataclass(frozen=True)
class Chronos2Rows:
    """The input of tasks, and their forecasts. One that cannot be forecast has a reason, and changes no other.

    Attributes:
        steps: at most what the weights forecast in one pass.
        groups: the group of each symbol that has one.
        histories: reads the histories of all symbols of the settings.
    """

    settings: Settings
    steps: int
    inputs: Chronos2Inputs
    groups: Mapping[str, str]
    fill: GapFill
    histories: Histories

    @classmethod
    def of(cls, settings: Settings, weights: Checkpoint, others: OtherSymbols) -> Chronos2Rows:
        """Those of some weights under some settings."""
        return cls(
            settings,
            steps_at_once(weights.folder),
            Chronos2Inputs.of(settings, others.market),
            read_groups(settings),
            GapFill.of(settings, weights.card.get("training")),
            others.histories,
        )

    def prepare(self, tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prepared:
        """The input of some tasks.

        Raises:
            CandlecastError: covariates that are known over the horizon, and a horizon beyond what the weights forecast
                in one pass.
        """
        steps = self._steps(targets.shape[1])
        completed = complete_groups(tasks, targets, self.groups, self.settings.windows.lookback_window, self.histories)
        found = [
            self._series(task, completed.targets[place], completed.groups[place])
            for place, task in enumerate(fill_lookbacks(completed.tasks, self.fill))
        ]
        usable = [one for one in found if isinstance(one, Series)]
        wanted = [found[place] for place in completed.places]

        def finish(quantiles: np.ndarray) -> Prediction:
            rows = np.full((len(found), *quantiles.shape[1:]), np.nan)
            rows[[place for place, one in enumerate(found) if isinstance(one, Series)]] = quantiles
            return self._prediction(tasks, wanted, rows[list(completed.places)], targets.shape[1])

        return Prepared((steps, usable), finish)

    def _prediction(
        self, tasks: Sequence[ForecastTask], found: Sequence[Series | str], raw: np.ndarray, horizon: int
    ) -> Prediction:
        """The forecasts of tasks, of what the weights return for their series: (tasks, targets, steps, levels)."""
        forecasts = self.settings.forecasts
        scales = np.array([one.scale if isinstance(one, Series) else np.nan for one in found])
        with np.errstate(divide="ignore", invalid="ignore"):
            last_close = np.log([task.history.quoted[task.index, CLOSE] for task in tasks])
        median = forecasts.levels.index(0.5)
        fields, quantiles = field_quantiles(
            raw, self.inputs.targets, last_close, scales, horizon, median, forecasts.recentre
        )
        crossed = (np.diff(raw, axis=-1) < 0).mean(axis=(1, 2, 3))
        failures = {number: one for number, one in enumerate(found) if isinstance(one, str)}
        return Prediction(fields, quantiles, crossed, failures=failures)

    def _steps(self, horizon: int) -> int:
        most = self.steps
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
