"""Forecast generation: forecasts that are missing are generated in batches, and each batch is stored before the next.

A killed run loses one batch at most, and a rerun continues from there. If nothing is missing, no weights are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from assets.forecasting.forecaster import ForecastModel, ForecastTask
from assets.forecasts.forecast_store import (
    PredictionBatch,
    existing_forecasts,
    mark_in_sample,
    validate_batch,
    write_forecasts,
)
from assets.forecasts.sample_paths import origins_without_paths, paths_file, write_paths
from assets.forecasts.summary import ForecastRange
from resources.calendar import TradingCalendar
from resources.candlecast import Candlecast
from resources.layout import Home
from resources.progress import Progress, silent


@dataclass(frozen=True)
class ForecastResult:
    """The number of forecasts of some tasks that one forecaster created, and of those that existed."""

    forecaster: ForecastModel
    tasks: Sequence[ForecastTask]
    created: int
    existing: int

    @property
    def range(self) -> ForecastRange:
        """All stored forecasts of the forecaster between the first and the last origin of the tasks."""
        return ForecastRange(self.forecaster, sorted({task.origin for task in self.tasks}))


def generate_forecasts(
    candlecast: Candlecast, forecaster: ForecastModel, tasks: Sequence[ForecastTask], progress: Progress = silent
) -> ForecastResult:
    """Generate and store the forecasts of the tasks that have none from this forecaster yet.

    Args:
        tasks: ordered by origin.

    Raises:
        CandlecastError: the model's output is invalid; earlier batches stay stored.
    """
    mark_in_sample(candlecast.warehouse, forecaster)
    known = existing_forecasts(candlecast.warehouse, forecaster, [task.origin for task in tasks])
    # Generated again for their sample paths; stored quantiles stay as they are.
    lost = origins_without_paths(
        candlecast.home, forecaster.model, forecaster.checkpoint, {origin for _, origin in known}
    )
    lost &= {task.origin for task in tasks}
    missing = [task for task in tasks if (task.symbol, task.origin) not in known or task.origin in lost]
    progress(len(tasks) - len(missing), len(tasks), forecaster.model)
    if not missing:
        return ForecastResult(forecaster, tasks, 0, len(tasks))
    predict, created = forecaster.load(), 0
    done = len(tasks) - len(missing)
    for batch_tasks in batches_by_origin(missing, forecaster.batch_size):
        targets = target_timestamps(batch_tasks, candlecast.calendar, candlecast.settings.windows.predict_window)
        prediction = predict(batch_tasks, targets)
        batch = PredictionBatch(batch_tasks, targets, candlecast.settings.forecasts.levels, prediction)
        validate_batch(forecaster.model, batch)
        if prediction.paths is not None:
            _write_paths(candlecast.home, forecaster, batch_tasks, prediction.paths)
        created += write_forecasts(candlecast.warehouse, forecaster, batch)
        done += len(batch_tasks)
        progress(done, len(tasks), forecaster.model)
    return ForecastResult(forecaster, tasks, created, len(tasks) - created)


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


def _write_paths(home: Home, forecaster: ForecastModel, tasks: Sequence[ForecastTask], paths: np.ndarray) -> None:
    """Write the sample paths, (tasks, paths, steps, 6), one file per origin."""
    for origin, rows in _rows_by_origin(tasks).items():
        file = paths_file(home, forecaster.model, forecaster.checkpoint, origin)
        write_paths(file, [tasks[row].symbol for row in rows], paths[rows])


def _rows_by_origin(tasks: Sequence[ForecastTask]) -> Mapping[np.datetime64, list[int]]:
    rows: dict[np.datetime64, list[int]] = {}
    for row, task in enumerate(tasks):
        rows.setdefault(task.origin, []).append(row)
    return rows
