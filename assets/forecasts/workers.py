"""Forecasts by several processes: batches of tasks in, predictions out, the same with any number of processes.

What is predicted is stored by the process that asked. Processes are started where that saves time: the first batch,
which this process forecasts, tells how long the others would take.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import psutil

from assets.forecasting.forecaster import ForecastModel, ForecastTask, Predict, Prediction
from assets.forecasts.cost import CostMeter
from assets.market.history import BarHistory
from resources.compute import HEADROOM, Compute
from resources.worker_processes import run_on_workers

# The start of a process, which imports torch and reads the weights, takes three to four seconds.
LEAST_SECONDS = 10.0


class Batch(NamedTuple):
    """Tasks, and their target timestamps (tasks, steps)."""

    tasks: Sequence[ForecastTask]
    targets: np.ndarray


def predictions(
    forecaster: ForecastModel, batches: Sequence[Batch], compute: Compute, meter: CostMeter
) -> Generator[tuple[Batch, Prediction], None, None]:
    """The prediction of each batch, in their order.

    Raises:
        CandlecastError: the model cannot be loaded, or a process died; the message names the tasks of its batch.
    """
    predict = forecaster.load()

    def own(batch: Batch) -> Prediction:
        with meter.measuring():
            return predict(batch.tasks, batch.targets)

    first, rest = batches[0], batches[1:]
    yield first, own(first)
    seconds = meter.seconds * sum(len(batch.tasks) for batch in rest) / len(first.tasks)
    workers = affordable(compute.workers()) if forecaster.in_worker and seconds > LEAST_SECONDS else 1
    if forecaster.in_worker is None or workers == 1:
        yield from ((batch, own(batch)) for batch in rest)
        return
    histories = list({id(task.history): task.history for batch in rest for task in batch.tasks}.values())
    places = {id(history): place for place, history in enumerate(histories)}
    shards = [
        _Shard(
            [(task.symbol, task.origin, places[id(task.history)], task.index) for task in batch.tasks], batch.targets
        )
        for batch in rest
    ]
    results = run_on_workers(
        partial(_load, forecaster.in_worker, histories),
        lambda shard: (own(shard.batch(histories)), 0.0),
        shards,
        workers,
        lambda shard: f"{forecaster.name}, {shard.text}",
    )
    with closing(results):
        for batch, (prediction, elsewhere) in zip(rest, results, strict=True):
            meter.seconds += elsewhere
            yield batch, prediction


def affordable(workers: int) -> int:
    """As many processes as there is memory for, each like this one."""
    free = psutil.virtual_memory().available * HEADROOM
    return min(workers, 1 + int(free / psutil.Process().memory_info().rss))


@dataclass(frozen=True)
class _Shard:
    """A batch without its histories, which a worker has: symbol, origin, place of the history, and bar of each task."""

    tasks: Sequence[tuple[str, np.datetime64, int, int]]
    targets: np.ndarray

    def batch(self, histories: Sequence[BarHistory]) -> Batch:
        tasks = [ForecastTask(symbol, origin, histories[place], bar) for symbol, origin, place, bar in self.tasks]
        return Batch(tasks, self.targets)

    @property
    def text(self) -> str:
        symbol, origin, *_ = self.tasks[0]
        more = f" and {len(self.tasks) - 1} more forecasts" if len(self.tasks) > 1 else ""
        return f"{symbol} from {origin}{more}"


def _load(load: Callable[[], Predict], histories: Sequence[BarHistory]) -> Callable[[_Shard], tuple[Prediction, float]]:
    """In a worker: the function from a shard to its prediction, and the seconds that it took."""
    predict = load()

    def forecast(shard: _Shard) -> tuple[Prediction, float]:
        batch = shard.batch(histories)
        began = time.perf_counter()
        return predict(batch.tasks, batch.targets), time.perf_counter() - began

    return forecast
