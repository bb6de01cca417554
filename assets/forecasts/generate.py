"""Making forecasts: what is missing is forecast, batch by batch, and each batch is kept before the next begins.

A killed run therefore loses one batch at most, and a rerun goes on from there. Without anything missing no weights are
read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from assets.forecasting.forecaster import Forecaster, Prediction, Task
from assets.forecasts.path_files import paths_file, write_paths
from assets.forecasts.store import Batch, already_made, refuse_impossible, write
from resources.calendar import TradingCalendar
from resources.layout import Home
from resources.progress import Progress, silent
from resources.settings import Settings
from resources.warehouse import Warehouse


@dataclass(frozen=True)
class Made:
    """What became of the tasks of one forecaster."""

    forecaster: Forecaster
    made: int
    there_before: int


@dataclass(frozen=True)
class ForecastRoom:
    """Where forecasts are made and kept."""

    settings: Settings
    warehouse: Warehouse
    home: Home
    calendar: TradingCalendar


def make_forecasts(
    room: ForecastRoom, forecaster: Forecaster, tasks: Sequence[Task], progress: Progress = silent
) -> Made:
    """Forecast the tasks that this forecaster has not forecast yet.

    Raises:
        CandlecastError: the model said something impossible; batches before it are kept.
    """
    known = already_made(room.warehouse, forecaster, [task.origin for task in tasks])
    missing = [task for task in tasks if (task.symbol, task.origin) not in known]
    progress(len(tasks) - len(missing), len(tasks), forecaster.model)
    if not missing:
        return Made(forecaster, 0, len(tasks))
    predict, made = forecaster.load(), 0
    done = len(tasks) - len(missing)
    for batch_tasks in whole_origins(missing, forecaster.tasks_at_once):
        targets = target_stamps(batch_tasks, room.calendar, room.settings.windows.predict_window)
        prediction = predict(batch_tasks, targets)
        batch = Batch(batch_tasks, targets, room.settings.forecasts.levels, prediction)
        refuse_impossible(forecaster.model, batch)
        if prediction.paths is not None:
            _keep_paths(room.home, forecaster, batch_tasks, prediction)
        made += write(room.warehouse, forecaster, batch)
        done += len(batch_tasks)
        progress(done, len(tasks), forecaster.model)
    return Made(forecaster, made, len(tasks) - made)


def target_stamps(tasks: Sequence[Task], calendar: TradingCalendar, horizon: int) -> np.ndarray:
    """The stamps that each task forecasts, from the calendar: (tasks, horizon) datetime64[s]."""
    following = {origin: calendar.following(origin, horizon) for origin in {task.origin for task in tasks}}
    return np.stack([following[task.origin] for task in tasks])


def whole_origins(tasks: Sequence[Task], at_once: int) -> Iterator[list[Task]]:
    """Batches of about `at_once` tasks that never split an origin. Tasks come ordered by origin."""
    counts = Counter(task.origin for task in tasks)
    batch: list[Task] = []
    start = 0
    for count in counts.values():
        if batch and len(batch) + count > at_once:
            yield batch
            batch = []
        batch = [*batch, *tasks[start : start + count]]
        start += count
    yield batch


def _keep_paths(home: Home, forecaster: Forecaster, tasks: Sequence[Task], prediction: Prediction) -> None:
    assert prediction.paths is not None
    for origin, rows in _rows_by_origin(tasks).items():
        file = paths_file(home, forecaster.model, forecaster.checkpoint, origin)
        write_paths(file, [tasks[row].symbol for row in rows], prediction.paths[rows])


def _rows_by_origin(tasks: Sequence[Task]) -> Mapping[np.datetime64, list[int]]:
    rows: dict[np.datetime64, list[int]] = {}
    for row, task in enumerate(tasks):
        rows.setdefault(task.origin, []).append(row)
    return rows
