"""Which forecasts are missing, and the batches in which a forecaster makes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set

import numpy as np

from assets.forecasting.forecaster import ForecastKey, ForecastModel, ForecastTask
from assets.forecasts.sample_paths import origins_without_paths
from assets.forecasts.workers import Batch
from resources.calendar import TradingCalendar
from resources.candlecast import Candlecast
from resources.layout import Home


def key_of(task: ForecastTask) -> ForecastKey:
    """Its symbol and origin."""
    return task.symbol, task.origin


def missing_tasks(
    home: Home,
    forecaster: ForecastModel,
    tasks: Sequence[ForecastTask],
    known: Set[ForecastKey],
    outdated: Set[ForecastKey],
) -> list[ForecastTask]:
    """The tasks without forecasts, with outdated ones, or with lost sample paths: quantiles stay as they are then."""
    lost = origins_without_paths(home, forecaster.model, forecaster.checkpoint, {origin for _, origin in known})
    lost &= {task.origin for task in tasks}
    return [task for task in tasks if key_of(task) not in known - outdated or task.origin in lost]


def batches_of(candlecast: Candlecast, forecaster: ForecastModel, tasks: Sequence[ForecastTask]) -> list[Batch]:
    """The tasks, ordered by origin, in the batches of a forecaster, with their targets."""
    horizon = candlecast.settings.windows.predict_window
    return [
        Batch(own, target_timestamps(own, candlecast.calendar, horizon))
        for own in batches_by_origin(tasks, forecaster.batch_size)
    ]


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
    if batch:
        yield batch


def rows_by_origin(tasks: Sequence[ForecastTask]) -> Mapping[np.datetime64, list[int]]:
    """The places of the tasks of each origin."""
    rows: dict[np.datetime64, list[int]] = {}
    for row, task in enumerate(tasks):
        rows.setdefault(task.origin, []).append(row)
    return rows
