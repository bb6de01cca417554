"""The forecast store: a forecast is written once, and never changed unless it is derived and outdated.

A forecast is identified by model, checkpoint, symbol and origin. Its row in `forecasts` and its quantiles are inserted
in one transaction; an existing forecast is left as it is. One that was derived from fewer forecasts than there are now
(calibration.outdated) is replaced, and its scores with it. Invalid forecasts are refused, since they could not be
removed again. Not here: sample paths (sample_paths), generation (generate).
"""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from assets.forecasting.forecaster import ForecastKey, ForecastModel, ForecastTask, Prediction
from assets.market.history import FIELDS, PRICES
from resources.errors import CandlecastError
from resources.sql import load_sql
from resources.warehouse import Warehouse

# The fields of a bar, and the log of high / low.
STORED_FIELDS = (*FIELDS, "range")

_EXISTING = """
SELECT symbol, origin FROM forecasts
WHERE model = $model AND checkpoint = $checkpoint AND origin BETWEEN $first AND $last
"""
_ADD_RECIPE = """
INSERT INTO forecast_recipes VALUES ($model, $checkpoint, $weights, $recipe) ON CONFLICT DO NOTHING
"""
_ADD_FORECASTS = """
INSERT INTO forecasts
SELECT $model, $checkpoint, symbol, origin, $made_at::TIMESTAMP, in_sample, corrected, learnt_from FROM new_forecasts
ON CONFLICT DO NOTHING
RETURNING symbol, origin
"""
_ADD_QUANTILES = """
INSERT INTO forecast_quantiles
SELECT $model, $checkpoint, q.symbol, q.origin, $made_at::TIMESTAMP, q.step, q.target_ts, q.field, q.level, q.value,
       q.in_sample
FROM new_quantiles q SEMI JOIN added USING (symbol, origin)
"""
# What is computed from a forecast is computed anew.
_FORGET = """
DELETE FROM {table} t USING replaced r
WHERE t.model = $model AND t.checkpoint = $checkpoint AND t.symbol = r.symbol AND t.origin = r.origin
"""
_MADE_OF_IT = ("forecast_quantiles", "forecast_scores", "forecast_risk")

_OTHERWISE_MARKED = """
model = $model AND checkpoint = $checkpoint AND in_sample <> coalesce(origin::DATE <= $trained_until::DATE, false)
"""
_FORGET_FAILURES = """
DELETE FROM failed_forecasts f USING tried t
WHERE f.model = $model AND f.symbol = t.symbol AND f.origin = t.origin
"""
_ADD_FAILURES = """
INSERT INTO failed_forecasts
SELECT $model, $checkpoint, symbol, origin, $tried_at::TIMESTAMP, reason FROM failures
"""


@dataclass(frozen=True)
class PredictionBatch:
    """Predictions about to be written.

    Attributes:
        targets: (tasks, steps) datetime64[s].
        levels: (levels,) of the predicted quantiles.
    """

    tasks: Sequence[ForecastTask]
    targets: np.ndarray
    levels: Sequence[float]
    prediction: Prediction

    def only(self, rows: Sequence[int]) -> PredictionBatch:
        """The batch of some of its tasks."""
        one, place = self.prediction, np.asarray(rows, dtype=int)
        paths = None if one.paths is None else one.paths[place]
        learnt_from = None if one.learnt_from is None else one.learnt_from[place]
        kept = Prediction(one.fields, one.quantiles[place], one.corrected[place], paths, learnt_from=learnt_from)
        return PredictionBatch([self.tasks[row] for row in rows], self.targets[place], self.levels, kept)


@dataclass(frozen=True)
class FailedForecast:
    """A forecast that a model did not make, or that is invalid.

    Attributes:
        inherited: whether it is a failure of the model that it is derived from, which is recorded there.
    """

    task: ForecastTask
    reason: str
    inherited: bool = False


def existing_forecasts(
    warehouse: Warehouse, forecaster: ForecastModel, origins: Sequence[np.datetime64]
) -> set[ForecastKey]:
    """The (symbol, origin) of this forecaster's stored forecasts between the first and the last of these origins."""
    parameters = {
        "model": forecaster.model,
        "checkpoint": forecaster.checkpoint,
        "first": min(origins).item(),
        "last": max(origins).item(),
    }
    with warehouse.read() as connection:
        found = connection.execute(_EXISTING, parameters).fetchnumpy()
    return set(zip(found["symbol"], found["origin"].astype("datetime64[s]"), strict=True))


def mark_in_sample(warehouse: Warehouse, forecaster: ForecastModel) -> int:
    """Mark this forecaster's stored forecasts by its cutoff, which may have become known since, and return how many
    changed. The forecasts themselves stay as they are."""
    parameters: dict[str, object] = {
        "model": forecaster.model,
        "checkpoint": forecaster.checkpoint,
        "trained_until": forecaster.trained_until,
    }
    found = warehouse.frame(f"SELECT count(*) AS n FROM forecasts WHERE {_OTHERWISE_MARKED}", parameters)
    if changed := int(found["n"][0]):
        with warehouse.write() as connection:
            for table in ("forecasts", "forecast_quantiles"):
                update = f"UPDATE {table} SET in_sample = NOT in_sample WHERE {_OTHERWISE_MARKED}"
                connection.execute(update, parameters)
    return changed


def write_forecasts(
    warehouse: Warehouse,
    forecaster: ForecastModel,
    batch: PredictionBatch,
    outdated: Set[ForecastKey] = frozenset(),
) -> int:
    """Insert the forecasts that do not exist yet, and return how many were written.

    Args:
        outdated: stored forecasts that are replaced.

    Raises:
        CandlecastError: a forecast is invalid (`validate_batch`). Nothing is written.
    """
    validate_batch(forecaster.model, batch)
    parameters = {
        "model": forecaster.model,
        "checkpoint": forecaster.checkpoint,
        "made_at": datetime.now(UTC).replace(tzinfo=None),
    }
    recipe = {
        "model": forecaster.model,
        "checkpoint": forecaster.checkpoint,
        "weights": forecaster.weights,
        "recipe": json.dumps(forecaster.recipe, sort_keys=True),
    }
    forecasts, quantiles = _forecast_table(forecaster, batch), _quantile_table(forecaster, batch)
    replaced = pa.table(_keys([task for task in batch.tasks if (task.symbol, task.origin) in outdated]))
    with warehouse.write() as connection:
        connection.register("new_forecasts", forecasts)
        connection.register("new_quantiles", quantiles)
        connection.execute(_ADD_RECIPE, recipe)
        added = connection.execute(_ADD_FORECASTS, parameters).df()
        if replaced.num_rows:
            connection.register("replaced", replaced)
            own = {"model": forecaster.model, "checkpoint": forecaster.checkpoint}
            for table in _MADE_OF_IT:
                connection.execute(_FORGET.format(table=table), own)
            connection.execute(load_sql("assets.forecasts", "replace_forecasts.sql"), parameters)
            added = pd.concat([added, replaced.to_pandas()])
        connection.register("added", added)
        connection.execute(_ADD_QUANTILES, parameters)
    return len(added)


def write_failures(
    warehouse: Warehouse, forecaster: ForecastModel, tried: Sequence[ForecastTask], failures: Sequence[FailedForecast]
) -> None:
    """Replace the recorded failures of the tasks that were tried by those that failed again."""
    parameters = {
        "model": forecaster.model,
        "checkpoint": forecaster.checkpoint,
        "tried_at": datetime.now(UTC).replace(tzinfo=None),
    }
    failed = [one.task for one in failures]
    reasons = {**_keys(failed), "reason": pa.array([one.reason for one in failures], pa.string())}
    with warehouse.write() as connection:
        connection.register("tried", pa.table(_keys(tried)))
        connection.register("failures", pa.table(reasons))
        connection.execute(_FORGET_FAILURES, {"model": forecaster.model})
        connection.execute(_ADD_FAILURES, parameters)


def validate_batch(model: str, batch: PredictionBatch) -> None:
    """Check that no forecast of a batch is invalid (`invalid_forecasts`).

    Raises:
        CandlecastError: names the model, the symbol and the origin of the first invalid forecast.
    """
    for row, problem in invalid_forecasts(model, batch).items():
        first = batch.tasks[row]
        raise CandlecastError(f"{model} forecast {problem}: {first.symbol} from {first.origin}; nothing was written")


def invalid_forecasts(model: str, batch: PredictionBatch) -> dict[int, str]:
    """The tasks, by number, with a quantile that is not finite, decreases with its level, or is no possible price or
    size, or with quantiles that are no bar together; and what is wrong.

    Raises:
        CandlecastError: the quantiles have another shape than targets and levels.
    """
    values, fields = batch.prediction.quantiles, batch.prediction.fields
    expected = (*batch.targets.shape, len(fields), len(batch.levels))
    if values.shape != expected:
        raise CandlecastError(f"{model} returned quantiles of shape {values.shape}, expected {expected}")
    prices = [field in FIELDS[PRICES] for field in fields]
    smallest = np.where(prices, np.nextafter(0, 1), 0.0)[:, None]
    rules = {
        "a value that is not finite": ~np.isfinite(values).all(axis=-1),
        "quantiles that decrease with their level": (np.diff(values, axis=-1) < 0).any(axis=-1),
        "a price that is not positive, or a negative volume or range": (values < smallest).any(axis=-1),
        "a bar whose high or low is passed": _outside_of_range(values, fields),
    }
    found: dict[int, str] = {}
    for problem, broken in rules.items():
        for row in np.flatnonzero(broken.any(axis=(1, 2))):
            step, field = np.argwhere(broken[row])[0]
            found.setdefault(int(row), f"{problem}, {fields[field]} at step {step + 1}")
    return dict(sorted(found.items()))


def _outside_of_range(values: np.ndarray, fields: Sequence[str]) -> np.ndarray:
    """Whether open or close lie above the high or below the low of the same level: (tasks, steps, fields) bool."""
    broken = np.zeros(values.shape[:3], dtype=bool)
    for inner in {"open", "close"}.intersection(fields):
        place = fields.index(inner)
        for outer, sign in (("high", 1), ("low", -1)):
            if outer in fields:
                broken[..., place] |= (sign * (values[:, :, place] - values[:, :, fields.index(outer)]) > 0).any(
                    axis=-1
                )
    return broken


def _forecast_table(forecaster: ForecastModel, batch: PredictionBatch) -> pa.Table:
    origins = _origins(batch.tasks)
    return pa.table(
        {
            "symbol": [task.symbol for task in batch.tasks],
            "origin": origins,
            "in_sample": _in_sample(forecaster, batch.tasks),
            "corrected": batch.prediction.corrected.astype(np.float64),
            "learnt_from": _learnt_from(batch),
        }
    )


def _learnt_from(batch: PredictionBatch) -> pa.Array:
    counts = batch.prediction.learnt_from
    return pa.nulls(len(batch.tasks), pa.int32()) if counts is None else pa.array(counts, pa.int32())


def _quantile_table(forecaster: ForecastModel, batch: PredictionBatch) -> pa.Table:
    """One row per quantile, ordered by task, step, field, level."""
    shape = batch.prediction.quantiles.shape
    task, step, field, level = (axis.ravel() for axis in np.indices(shape, dtype=np.int32))
    symbols = sorted({one.symbol for one in batch.tasks})
    number = {symbol: place for place, symbol in enumerate(symbols)}
    numbers = np.array([number[one.symbol] for one in batch.tasks], dtype=np.int32)
    fields = [STORED_FIELDS.index(name) for name in batch.prediction.fields]
    return pa.table(
        {
            "symbol": pa.DictionaryArray.from_arrays(numbers[task], symbols),
            "origin": _origins(batch.tasks)[task],
            "step": step + 1,
            "target_ts": batch.targets[task, step],
            "field": pa.DictionaryArray.from_arrays(np.array(fields, dtype=np.int32)[field], list(STORED_FIELDS)),
            "level": np.asarray(batch.levels, dtype=np.float64)[level],
            "value": batch.prediction.quantiles.ravel(),
            "in_sample": _in_sample(forecaster, batch.tasks)[task],
        }
    )


def _keys(tasks: Sequence[ForecastTask]) -> dict[str, object]:
    return {"symbol": pa.array([task.symbol for task in tasks], pa.string()), "origin": _origins(tasks)}


def _origins(tasks: Sequence[ForecastTask]) -> np.ndarray:
    return np.array([task.origin for task in tasks], dtype="datetime64[s]")


def _in_sample(forecaster: ForecastModel, tasks: Sequence[ForecastTask]) -> np.ndarray:
    return np.array([forecaster.in_sample(task.origin) for task in tasks], dtype=bool)
