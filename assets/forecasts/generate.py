"""Forecast generation: forecasts that are missing are generated in batches, and each batch is stored before the next.

A killed run loses one batch at most, and a rerun continues from there. If nothing is missing, no weights are read.
Outdated derived forecasts are generated again.
A forecast that fails is left out with its reason; the others are stored, and a rerun tries it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from assets.forecasting.forecaster import ForecastKey, ForecastModel, ForecastTask
from assets.forecasting.path_files import paths_file
from assets.forecasts.cost import CostMeter, ForecastCost, write_cost
from assets.forecasts.forecast_store import (
    FailedForecast,
    PredictionBatch,
    existing_forecasts,
    invalid_forecasts,
    mark_in_sample,
    write_failures,
    write_forecasts,
)
from assets.forecasts.lookahead_check import content_digest, tasks_to_repeat
from assets.forecasts.sample_paths import origins_without_paths, write_paths
from assets.forecasts.summary import ForecastRange
from assets.forecasts.workers import Batch, predictions
from resources.calendar import TradingCalendar
from resources.candlecast import Candlecast
from resources.compute import Compute
from resources.layout import Home
from resources.progress import Progress, silent


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
        sample: some of the created ones, in order of their origins, each with its `content_digest`.
    """

    forecaster: ForecastModel
    tasks: Sequence[ForecastTask]
    created: int
    existing: int
    failures: Sequence[FailedForecast] = ()
    cost: ForecastCost | None = None
    fallbacks: Sequence[FallbackForecast] = ()
    replaced: int = 0
    sample: Sequence[tuple[ForecastTask, bytes]] = ()

    @property
    def forecast(self) -> list[ForecastTask]:
        """The tasks whose forecasts did not fail."""
        failed = {(one.task.symbol, one.task.origin) for one in self.failures}
        return [task for task in self.tasks if (task.symbol, task.origin) not in failed]

    @property
    def range(self) -> ForecastRange:
        """All stored forecasts of the forecaster between the first and the last origin of the tasks."""
        return ForecastRange(self.forecaster, sorted({task.origin for task in self.tasks}))


def generate_forecasts(
    candlecast: Candlecast, forecaster: ForecastModel, tasks: Sequence[ForecastTask], progress: Progress = silent
) -> ForecastResult:
    """Generate and store the forecasts of the tasks that have none from this forecaster yet, or an outdated one.

    Args:
        tasks: ordered by origin.

    Raises:
        CandlecastError: the model cannot be loaded, or its output has another shape; earlier batches stay stored.
    """
    with candlecast.warehouse.shared_reads():
        mark_in_sample(candlecast.warehouse, forecaster)
        known = existing_forecasts(candlecast.warehouse, forecaster, [task.origin for task in tasks])
    # Generated again for their sample paths; stored quantiles stay as they are.
    lost = origins_without_paths(
        candlecast.home, forecaster.model, forecaster.checkpoint, {origin for _, origin in known}
    )
    lost &= {task.origin for task in tasks}
    outdated = known & forecaster.outdated()
    missing = [task for task in tasks if _is_missing(task, known - outdated, lost)]
    progress(len(tasks) - len(missing), len(tasks), forecaster.model)
    if not missing:
        return ForecastResult(forecaster, tasks, 0, len(tasks))
    meter, horizon = CostMeter(), candlecast.settings.windows.predict_window
    batches = [
        Batch(own, target_timestamps(own, candlecast.calendar, horizon))
        for own in batches_by_origin(missing, forecaster.batch_size)
    ]
    created, replaced, done = 0, 0, len(tasks) - len(missing)
    failures, fallbacks = list[FailedForecast](), list[FallbackForecast]()
    sampled, sample = {_key(task) for task in tasks_to_repeat(missing)}, list[tuple[ForecastTask, bytes]]()
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
                (task, content_digest(valid.prediction, row))
                for row, task in enumerate(valid.tasks)
                if _key(task) in sampled
            ]
            if valid.tasks and prediction.paths is not None:
                _write_paths(candlecast.home, forecaster, valid)
            if valid.tasks:
                created += write_forecasts(candlecast.warehouse, forecaster, valid, outdated)
                replaced += sum((task.symbol, task.origin) in outdated for task in valid.tasks)
            done += len(batch_tasks)
            progress(done, len(tasks), forecaster.model)
    cost = meter.cost(len(missing))
    write_cost(candlecast.warehouse, forecaster, cost)
    write_failures(candlecast.warehouse, forecaster, missing, failures)
    existing = len(tasks) - created - len(failures)
    return ForecastResult(forecaster, tasks, created, existing, failures, cost, fallbacks, replaced, sample)


def _is_missing(task: ForecastTask, known: Set[ForecastKey], lost: Set[np.datetime64]) -> bool:
    return _key(task) not in known or task.origin in lost


def _key(task: ForecastTask) -> ForecastKey:
    return task.symbol, task.origin


def target_timestamps(tasks: Sequence[ForecastTask], calendar: TradingCalendar, horizon: int) -> np.ndarray:
    """The calendar's next `horizon` timestamps after each task's origin: (tasks, horizon) datetime64[s]."""
    following = {origin: calendar.following(origin, horizon) for origin in {task.origin for task in tasks}}
    return np.stack([following[task.origin] for task in tasks])


def batches_by_origin(tasks: Sequence[ForecastTask], size: int) -> Iterator[list[ForecastTask]]:
    """Batches of about `size` tasks that never split an origin. Tasks are ordered by origin."""
    counts = Counter(task.origin for task in tasks)
    batch: list[ForecastTask] = []
    start = 0
    for count in counts.values():
        if batch and len(batch) + count > size:
            yield batch
            batch = []
        batch = [*batch, *tasks[start : start + count]]
        start += count
    yield batch


def _write_paths(home: Home, forecaster: ForecastModel, batch: PredictionBatch) -> None:
    """Write the sample paths of a batch, one file per origin."""
    assert batch.prediction.paths is not None
    for origin, rows in rows_by_origin(batch.tasks).items():
        file = paths_file(home, forecaster.model, forecaster.checkpoint, origin)
        write_paths(file, [batch.tasks[row].symbol for row in rows], batch.prediction.paths[rows])


def rows_by_origin(tasks: Sequence[ForecastTask]) -> Mapping[np.datetime64, list[int]]:
    """The places of the tasks of each origin."""
    rows: dict[np.datetime64, list[int]] = {}
    for row, task in enumerate(tasks):
        rows.setdefault(task.origin, []).append(row)
    return rows
