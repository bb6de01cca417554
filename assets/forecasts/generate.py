"""Forecast generation: forecasts that are missing are generated in batches, and each batch is stored before the next.

The last batch of a model, and what it tried, are stored with those of the next models if they are quick. A killed run
loses one batch, and what took less than HOLD_SECONDS; a rerun continues from there. If nothing is missing, no weights
are read. Outdated derived forecasts are generated again.
A forecast that fails is left out with its reason; the others are stored, and a rerun tries it again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence, Set
from contextlib import closing
from dataclasses import dataclass

from assets.forecasting.forecaster import ForecastKey, ForecastModel, ForecastTask
from assets.forecasting.path_files import paths_file
from assets.forecasts.attempts import Attempt, FailedForecast
from assets.forecasts.batches import batches_of, key_of, missing_tasks, rows_by_origin
from assets.forecasts.cost import CostMeter, ForecastCost
from assets.forecasts.forecast_store import (
    NewForecasts,
    PredictionBatch,
    existing_forecasts,
    invalid_forecasts,
    mark_in_sample,
    write_forecasts,
)
from assets.forecasts.lookahead_check import MadeForecast, made_forecast, tasks_to_repeat
from assets.forecasts.sample_paths import write_paths
from assets.forecasts.summary import ForecastRange
from assets.forecasts.workers import predictions
from resources.candlecast import Candlecast
from resources.compute import Compute
from resources.layout import Home
from resources.progress import Progress, silent
from resources.warehouse import Warehouse

# Readers of other processes wait for a transaction: one of three thousand forecasts takes about half a second.
HOLD_SECONDS, MOST_HELD = 1.0, 3_000


@dataclass(frozen=True)
class FallbackForecast:
    """A stored forecast that is of a simpler model than the one it is stored under."""

    task: ForecastTask
    reason: str


@dataclass(frozen=True)
class ForecastResult:
    """The number of forecasts of some tasks that one forecaster created, and of those that existed.

    Attributes:
        cost: time and memory of those that were created, and of those that failed.
        fallbacks: those of the created ones that are of a simpler model.
        replaced: how many of the created ones replace an outdated forecast.
        sample: some of the created ones, in order of their origins.
    """

    forecaster: ForecastModel
    tasks: Sequence[ForecastTask]
    created: int
    existing: int
    failures: Sequence[FailedForecast] = ()
    cost: ForecastCost | None = None
    fallbacks: Sequence[FallbackForecast] = ()
    replaced: int = 0
    sample: Sequence[MadeForecast] = ()

    @property
    def forecast(self) -> list[ForecastTask]:
        """The tasks whose forecasts did not fail."""
        failed = {(one.task.symbol, one.task.origin) for one in self.failures}
        return [task for task in self.tasks if (task.symbol, task.origin) not in failed]

    @property
    def range(self) -> ForecastRange:
        """All stored forecasts of the forecaster between the first and the last origin of the tasks."""
        return range_of(self.forecaster, self.tasks)


def range_of(forecaster: ForecastModel, tasks: Sequence[ForecastTask]) -> ForecastRange:
    """The range of the origins of some tasks."""
    return ForecastRange(forecaster, sorted({task.origin for task in tasks}))


def generate_forecasts(
    candlecast: Candlecast, forecaster: ForecastModel, tasks: Sequence[ForecastTask], progress: Progress = silent
) -> ForecastResult:
    """`generate_all` of one model."""
    return generate_all(candlecast, [(forecaster, tasks)], progress)[0]


def generate_all(
    candlecast: Candlecast,
    models: Sequence[tuple[ForecastModel, Sequence[ForecastTask]]],
    progress: Progress = silent,
) -> list[ForecastResult]:
    """Generate and store the forecasts of the tasks that have none from their forecaster yet, or an outdated one.

    Args:
        models: forecasters in the order in which they forecast, each with its tasks, ordered by origin.

    Raises:
        CandlecastError: a model cannot be loaded, or its output has another shape; earlier batches stay stored.
    """
    warehouse = candlecast.warehouse
    with warehouse.shared_reads():
        mark_in_sample(warehouse, [forecaster for forecaster, _ in models])
        existing = existing_forecasts(warehouse, [range_of(*own) for own in models])
    writer, made = _Writer(warehouse), list[_Generated]()
    try:
        for (forecaster, tasks), known in zip(models, existing, strict=True):
            made.append(_generate(candlecast, forecaster, tasks, known, writer, progress))
    finally:
        writer.flush()
    return [own.result(writer.created[own.forecaster.model, own.forecaster.checkpoint]) for own in made]


class _Writer:
    """Stores batches: in one transaction those of several models that took less than HOLD_SECONDS together, up to
    MOST_HELD forecasts.

    Attributes:
        created: the number of forecasts that were written, by model and checkpoint.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._waiting, self._attempts = list[NewForecasts](), list[Attempt]()
        self._flushed = time.monotonic()
        self.created = Counter[tuple[str, str]]()

    def add(self, new: NewForecasts, hold: bool) -> None:
        """Store a batch, now or, if it may be held, with the next ones."""
        held = sum(len(one.batch.tasks) for one in self._waiting)
        if held + len(new.batch.tasks) > MOST_HELD:
            self.flush()
        self._waiting.append(new)
        if not hold:
            self.flush()

    def end(self, attempt: Attempt) -> None:
        """Store what a model tried, whose batches were added, now or with those of the next models."""
        self._attempts.append(attempt)
        if time.monotonic() - self._flushed > HOLD_SECONDS:
            self.flush()

    def store_bases_of(self, forecaster: ForecastModel) -> None:
        """Store what a model reads from the warehouse: forecasts, and why others failed."""
        bases = forecaster.recipe.get("derived_from", ())
        held = [own.forecaster.model for own in self._waiting] + [own.forecaster.model for own in self._attempts]
        if not set(bases).isdisjoint(held):
            self.flush()

    def flush(self) -> None:
        """Store what is held."""
        if self._waiting or self._attempts:
            counts = write_forecasts(self._warehouse, self._waiting, self._attempts)
            for new, count in zip(self._waiting, counts, strict=True):
                self.created[new.forecaster.model, new.forecaster.checkpoint] += count
        self._waiting, self._attempts, self._flushed = [], [], time.monotonic()


@dataclass(frozen=True)
class _Generated:
    """What a forecaster made, whether it is stored already or not. Attributes as of `ForecastResult`.

    Attributes:
        attempt: None: no forecast was missing.
    """

    forecaster: ForecastModel
    tasks: Sequence[ForecastTask]
    attempt: Attempt | None = None
    fallbacks: Sequence[FallbackForecast] = ()
    replaced: int = 0
    sample: Sequence[MadeForecast] = ()

    def result(self, created: int) -> ForecastResult:
        failures, cost = (self.attempt.failures, self.attempt.cost) if self.attempt else ((), None)
        existing, counts = len(self.tasks) - created - len(failures), (self.fallbacks, self.replaced, self.sample)
        return ForecastResult(self.forecaster, self.tasks, created, existing, failures, cost, *counts)


def _generate(
    candlecast: Candlecast,
    forecaster: ForecastModel,
    tasks: Sequence[ForecastTask],
    known: Set[ForecastKey],
    writer: _Writer,
    progress: Progress,
) -> _Generated:
    """Generate what is missing of one forecaster's tasks."""
    writer.store_bases_of(forecaster)
    outdated = known & forecaster.outdated()
    missing = missing_tasks(candlecast.home, forecaster, tasks, known, outdated)
    progress(len(tasks) - len(missing), len(tasks), forecaster.model)
    if not missing:
        return _Generated(forecaster, tasks)
    meter, batches = CostMeter(), batches_of(candlecast, forecaster, missing)
    replaced, done, left = 0, len(tasks) - len(missing), len(batches)
    failures, fallbacks = list[FailedForecast](), list[FallbackForecast]()
    sampled, sample = set(map(key_of, tasks_to_repeat(missing))), list[MadeForecast]()
    with closing(predictions(forecaster, batches, Compute(candlecast.settings.compute), meter)) as made:
        for (batch_tasks, targets), prediction in made:
            batch = PredictionBatch(batch_tasks, targets, candlecast.settings.forecasts.levels, prediction)
            failed = {**invalid_forecasts(forecaster.name, batch), **prediction.failures}
            failures += [
                FailedForecast(batch_tasks[row], reason, row in prediction.inherited)
                for row, reason in sorted(failed.items())
            ]
            fallbacks += [
                FallbackForecast(batch_tasks[row], reason)
                for row, reason in prediction.fallbacks.items()
                if row not in failed
            ]
            valid = batch.only([row for row in range(len(batch_tasks)) if row not in failed]) if failed else batch
            sample += [
                made_forecast(task, valid.prediction, row)
                for row, task in enumerate(valid.tasks)
                if key_of(task) in sampled
            ]
            if valid.tasks and prediction.paths is not None:
                _write_paths(candlecast.home, forecaster, valid)
            left -= 1
            if valid.tasks:
                writer.add(NewForecasts(forecaster, valid, outdated), hold=left == 0)
                replaced += sum((task.symbol, task.origin) in outdated for task in valid.tasks)
            done += len(batch_tasks)
            progress(done, len(tasks), forecaster.model)
    attempt = Attempt(forecaster, missing, failures, meter.cost(len(missing)))
    writer.end(attempt)
    return _Generated(forecaster, tasks, attempt, fallbacks, replaced, sample)


def _write_paths(home: Home, forecaster: ForecastModel, batch: PredictionBatch) -> None:
    """Write the sample paths of a batch, one file per origin."""
    assert batch.prediction.paths is not None
    for origin, rows in rows_by_origin(batch.tasks).items():
        file = paths_file(home, forecaster.model, forecaster.checkpoint, origin)
        write_paths(file, [batch.tasks[row].symbol for row in rows], batch.prediction.paths[rows])
