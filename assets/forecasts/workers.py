"""Forecasts by several processes: batches of tasks in, predictions out, the same with any number of processes.

This process prepares the input of the networks and stores what is predicted; the networks are in others too. Processes
are started where that saves time: the first batch tells how long the others would take.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache, cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import psutil

from assets.forecasting.forecaster import (
    ForecastModel,
    ForecastTask,
    Network,
    NetworkPredict,
    Prediction,
    Prepared,
    tasks_text,
)
from assets.forecasts.cost import CostMeter
from resources.companion import COMPANION, CompanionFunction
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
    network = predict.network if isinstance(predict, NetworkPredict) else None
    if isinstance(predict, NetworkPredict) and isinstance(network, CompanionFunction):
        predict = replace(predict, network=meter.of_companion(network))

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
    assert isinstance(predict, NetworkPredict)
    # Loaded with the first shard of this process, while the others work.
    own_network, load = predict.network, forecaster.in_worker
    here: Callable[[], Network] = cache(lambda: load() if isinstance(network, CompanionFunction) else own_network)
    shards = [_Shard(batch, predict.prepare) for batch in rest]

    def computed(shard: _Shard) -> tuple[Any, float]:
        loaded = here()
        with meter.measuring():
            return loaded(shard.prepared.item), 0.0

    results = run_on_workers(
        partial(_timed, forecaster.in_worker),
        computed,
        shards,
        workers,
        lambda shard: f"{forecaster.name}, {tasks_text(shard.batch.tasks)}",
        lambda shard: shard.prepared.item,
    )
    with closing(results):
        for shard, (output, elsewhere) in zip(shards, results, strict=True):
            meter.seconds += elsewhere
            yield shard.batch, shard.finished(output)


def affordable(workers: int) -> int:
    """As many processes as there is memory for, each like this one, or like the companion where that is larger."""
    free = psutil.virtual_memory().available * HEADROOM
    companion = COMPANION.worker
    pids = [os.getpid(), *([companion.pid] if companion else [])]
    return min(workers, 1 + int(free / max(psutil.Process(pid).memory_info().rss for pid in pids)))


class _Shard:
    """A batch, whose input exists from when a process takes it until it is forecast."""

    def __init__(self, batch: Batch, prepare: Callable[[Sequence[ForecastTask], np.ndarray], Prepared]) -> None:
        self.batch, self._prepare = batch, prepare

    @cached_property
    def prepared(self) -> Prepared:
        return self._prepare(self.batch.tasks, self.batch.targets)

    def finished(self, output: Any) -> Prediction:
        """The forecasts, of the output of the network."""
        made = self.prepared.finish(output)
        del self.prepared
        return made


def _timed(load: Callable[[], Network]) -> Callable[[Any], tuple[Any, float]]:
    """In a worker: the function from an input to the output of the network, and the seconds that it took."""
    network = load()

    def timed(item: Any) -> tuple[Any, float]:
        began = time.perf_counter()
        return network(item), time.perf_counter() - began

    return timed
