"""Quantiles of all models on disk, made in several processes: log returns since the last close, float32.

A file per model, (tasks, steps, levels): memory stays small whatever the number of models. Forecasts do not depend on
the number of processes, as no forecast depends on its batch.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from assets.forecasting.baselines.closed_form import ESTIMATED
from assets.forecasting.forecaster import Predict
from assets.market.history import CLOSE
from assets.training.compact_recipe import read_parquet
from benchmarks.skill.models import KRONOS, MODELS, benchmark_settings, estimates, in_order, load_estimated
from benchmarks.skill.sample import HORIZON, Histories, Sample
from benchmarks.skill.workers import Call
from resources.errors import CandlecastError

# Tasks per call of a worker; whole origins, so that a market is read once for all its symbols. Estimated baselines pass
# over the bars of a symbol once per call.
CHUNK: dict[str, int] = {KRONOS: 256, **dict.fromkeys(ESTIMATED, 40_000)}
DEFAULT_CHUNK = 4096
SAMPLE, ESTIMATES = "sample.pickle", "estimates.pickle"
LEVELS = benchmark_settings().forecasts.levels


@dataclass(frozen=True)
class QuantileStore:
    """The sample and the quantiles of one folder. Passed to other processes, it is no more than its path."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, sample: Sample) -> QuantileStore:
        """A new folder."""
        folder.mkdir(parents=True)
        (folder / SAMPLE).write_bytes(pickle.dumps(sample))
        return cls(folder)

    @property
    def sample(self) -> Sample:
        return _sample(self.folder)

    @property
    def models(self) -> list[str]:
        """The models that have quantiles, in the order of tables."""
        return in_order(file.stem for file in self.folder.glob("*.npy"))

    def create(self, model: str) -> None:
        """An empty file, all NaN."""
        shape = (len(self.sample), HORIZON, len(LEVELS))
        made = np.lib.format.open_memmap(self._file(model), mode="w+", dtype=np.float32, shape=shape)
        made[:] = np.nan

    def read(self, model: str) -> np.ndarray:
        """(tasks, steps, levels) float32, mapped; NaN where there is no forecast."""
        return np.asanyarray(np.load(self._file(model), mmap_mode="r"))

    def write(self, model: str, rows: slice, quantiles: np.ndarray) -> None:
        """Write some of the tasks."""
        made = np.load(self._file(model), mmap_mode="r+")
        made[rows] = quantiles
        made.flush()

    def _file(self, model: str) -> Path:
        return self.folder / f"{model}.npy"


def forecast_calls(store: QuantileStore, models: Sequence[str], data: Path) -> list[Call]:
    """The calls that forecast all tasks by some models."""
    calls: list[Call] = []
    for model in models:
        store.create(model)
        parts = whole_origins(store.sample, CHUNK.get(model, DEFAULT_CHUNK))
        calls += [Call(forecast_rows, (store, model, rows, data), model) for rows in parts]
    return calls


def forecast_rows(store: QuantileStore, model: str, rows: slice, data: Path) -> None:
    """Forecast some of the tasks and write the quantiles."""
    histories = _histories(data)
    store.write(model, rows, log_quantiles(_model(model, data, store.folder), store.sample, rows, histories))


def write_estimates(folder: Path, data: Path) -> None:
    """Estimate the baselines on the bars up to the cutoff, for all processes."""
    (folder / ESTIMATES).write_bytes(pickle.dumps(estimates(_histories(data))))


def log_quantiles(predict: Predict, sample: Sample, rows: slice, histories: Histories) -> np.ndarray:
    """Quantiles of the log return of some tasks, (tasks, steps, levels).

    Raises:
        CandlecastError: a task cannot be forecast, or only by a simpler model. All models are compared on the same
            tasks.
    """
    tasks = sample.tasks(rows, histories)
    prediction = predict(tasks, sample.targets[sample.origin[rows]])
    for number, reason in (*prediction.failures.items(), *prediction.fallbacks.items()):
        raise CandlecastError(f"{tasks[number].symbol} from {tasks[number].origin}: no forecast: {reason}")
    closes = np.array([task.history.quoted[task.index, CLOSE] for task in tasks])
    quantiles = prediction.quantiles[:, :, prediction.fields.index("close")]
    return np.asarray(np.log(quantiles / closes[:, None, None]))


@cache
def _sample(folder: Path) -> Sample:
    sample: Sample = pickle.loads((folder / SAMPLE).read_bytes())
    return sample


@cache
def _histories(data: Path) -> Histories:
    return read_parquet(data)


@cache
def _model(name: str, data: Path, folder: Path) -> Predict:
    histories = _histories(data)
    if name in ESTIMATED:
        return load_estimated(name, pickle.loads((folder / ESTIMATES).read_bytes()), histories)
    return MODELS[name](benchmark_settings(), histories)


def whole_origins(sample: Sample, most: int) -> list[slice]:
    """Consecutive slices of the tasks, each of whole origins and of about `most` tasks."""
    starts = np.searchsorted(sample.origin, np.arange(len(sample.origins) + 1))
    slices, first = [], 0
    for end in starts[1:]:
        if end - first >= most or end == len(sample):
            slices.append(slice(int(first), int(end)))
            first = end
    return [one for one in slices if one.stop > one.start]
