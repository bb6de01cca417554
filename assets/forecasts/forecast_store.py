"""The forecast store: a forecast is written once, and never changed unless it is derived and outdated.

A forecast is identified by model, checkpoint, symbol and origin. Its row in `forecasts` and its quantiles are inserted
in one transaction; an existing forecast is left as it is. One that was derived from fewer forecasts than there are now
(calibration.outdated) is replaced, and its scores with it. Invalid forecasts are refused, since they could not be
removed again. Not here: sample paths (sample_paths), generation (generate).
"""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from assets.forecasting.calibration.known_reads import keep_known
from assets.forecasting.forecaster import ForecastKey, ForecastModel, ForecastTask, Prediction
from assets.forecasts.attempts import Attempt, write_attempts
from assets.forecasts.summary import IN_RANGE, ForecastRange, by_range
from assets.market.history import FIELDS, PRICES
from resources.errors import CandlecastError
from resources.sql import load_sql
from resources.warehouse import Warehouse

# The fields of a bar, and the log of high / low.
STORED_FIELDS = (*FIELDS, "range")

_EXISTING = f"SELECT model, checkpoint, symbol, origin FROM forecasts WHERE {IN_RANGE}"
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
(SELECT unnest($models) AS model, unnest($checkpoints) AS checkpoint, unnest($cutoffs::DATE[]) AS trained_until) c
WHERE f.model = c.model AND f.checkpoint = c.checkpoint
  AND f.in_sample <> coalesce(f.origin::DATE <= c.trained_until, false)
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
class NewForecasts:
    """A batch to be stored.

    Attributes:
        outdated: stored forecasts that are replaced.
        made_at: UTC, without a time zone.
    """

    forecaster: ForecastModel
    batch: PredictionBatch
    outdated: Set[ForecastKey] = frozenset()
    made_at: datetime = field(default_factory=lambda: datetime.now(UTC).replace(tzinfo=None))


def existing_forecasts(warehouse: Warehouse, ranges: Sequence[ForecastRange]) -> list[set[ForecastKey]]:
    """The (symbol, origin) of the stored forecasts of each range."""
    return [
        set(zip(own["symbol"], own["origin"].to_numpy().astype("datetime64[s]"), strict=True))
        for own in by_range(warehouse, _EXISTING, ranges, bounded=False)
    ]


def mark_in_sample(warehouse: Warehouse, forecasters: Sequence[ForecastModel]) -> int:
    """Mark the stored forecasts of forecasters by their cutoffs, which may have become known since, and return how many
    changed. The forecasts themselves stay as they are."""
    parameters: dict[str, object] = {
        "models": [one.model for one in forecasters],
        "checkpoints": [one.checkpoint for one in forecasters],
        "cutoffs": [one.trained_until for one in forecasters],
    }
    found = warehouse.rows(f"SELECT count(*) AS n FROM forecasts f, {_OTHERWISE_MARKED}", parameters)
    if changed := int(found[0]["n"]):
        with warehouse.write() as connection:
            for table in ("forecasts", "forecast_quantiles"):
                update = f"UPDATE {table} f SET in_sample = NOT f.in_sample FROM {_OTHERWISE_MARKED}"
                connection.execute(update, parameters)
    return changed


def write_forecasts(warehouse: Warehouse, new: Sequence[NewForecasts], attempts: Sequence[Attempt] = ()) -> list[int]:
    """Insert the forecasts that do not exist yet in one transaction, and return how many of each batch were written.

    Args:
        attempts: written with them.

    Raises:
        CandlecastError: a forecast is invalid (`validate_batch`). Nothing is written.
    """
    for one in new:
        validate_batch(one.forecaster.model, one.batch)
    tables = [(_forecast_table(one.forecaster, one.batch), _quantile_table(one.forecaster, one.batch)) for one in new]
    with warehouse.write(versioned=True) as connection:
        before = warehouse.version
        counts = [_insert(connection, one, *own) for one, own in zip(new, tables, strict=True)]
        write_attempts(connection, attempts)
    keep_known(
        warehouse,
        before,
        {(one.forecaster.model, (task.symbol, task.origin)) for one in new for task in one.batch.tasks},
    )
    return counts


def _insert(connection: duckdb.DuckDBPyConnection, new: NewForecasts, forecasts: pa.Table, quantiles: pa.Table) -> int:
    forecaster = new.forecaster
    own = {"model": forecaster.model, "checkpoint": forecaster.checkpoint}
    parameters = {**own, "made_at": new.made_at}
    recipe = {"weights": forecaster.weights, "recipe": json.dumps(forecaster.recipe, sort_keys=True)}
    replaced = pa.table(_keys([task for task in new.batch.tasks if (task.symbol, task.origin) in new.outdated]))
    connection.register("new_forecasts", forecasts)
    connection.register("new_quantiles", quantiles)
    connection.execute(_ADD_RECIPE, {**own, **recipe})
    added = connection.execute(_ADD_FORECASTS, parameters).df()
    if replaced.num_rows:
        connection.register("replaced", replaced)
        for table in _MADE_OF_IT:
            connection.execute(_FORGET.format(table=table), own)
        connection.execute(load_sql("assets.forecasts", "replace_forecasts.sql"), parameters)
        added = pd.concat([added, replaced.to_pandas()])
    connection.register("added", added)
    connection.execute(_ADD_QUANTILES, parameters)
    return len(added)


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
