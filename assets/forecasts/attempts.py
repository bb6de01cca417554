"""What a run tried to forecast: failures replace those recorded of the same forecasts, costs are added.

Written with the last forecasts of each model. Not here: the forecasts (forecast_store).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
import numpy as np
import pyarrow as pa

from assets.forecasting.forecaster import ForecastModel, ForecastTask
from assets.forecasts.cost import ForecastCost

_FORGET_FAILURES = """
DELETE FROM failed_forecasts f USING tried t
WHERE f.model = t.model AND f.symbol = t.symbol AND f.origin = t.origin
"""
_ADD_FAILURES = """
INSERT INTO failed_forecasts SELECT model, checkpoint, symbol, origin, $now::TIMESTAMP, reason FROM failures
"""
_ADD_COST = """
INSERT INTO forecast_costs VALUES ($model, $checkpoint, $made_at, $forecasts, $seconds, $peak_mib, $added_mib)
"""


@dataclass(frozen=True)
class FailedForecast:
    """A forecast that a model did not make, or that is invalid.

    Attributes:
        inherited: whether it is a failure of the model that it is derived from, which is recorded there.
    """

    task: ForecastTask
    reason: str
    inherited: bool = False


@dataclass(frozen=True)
class Attempt:
    """The forecasts that a model tried to make in a run, those of them that failed, and what all cost."""

    forecaster: ForecastModel
    tried: Sequence[ForecastTask]
    failures: Sequence[FailedForecast]
    cost: ForecastCost


def write_attempts(connection: duckdb.DuckDBPyConnection, attempts: Sequence[Attempt]) -> None:
    """Write to the tables `failed_forecasts` and `forecast_costs`."""
    if not attempts:
        return
    now = datetime.now(UTC).replace(tzinfo=None)
    tried = [(one.forecaster, task) for one in attempts for task in one.tried]
    failed = [(one.forecaster, failure) for one in attempts for failure in one.failures]
    reasons = pa.array([failure.reason for _, failure in failed], pa.string())
    keys = _keys([(forecaster, failure.task) for forecaster, failure in failed])
    connection.register("tried", pa.table(_keys(tried)))
    connection.register("failures", pa.table({**keys, "reason": reasons}))
    connection.execute(_FORGET_FAILURES)
    connection.execute(_ADD_FAILURES, {"now": now})
    for one in attempts:
        named = {"model": one.forecaster.model, "checkpoint": one.forecaster.checkpoint}
        connection.execute(_ADD_COST, {**named, **vars(one.cost), "made_at": now})


def _keys(tasks: Sequence[tuple[ForecastModel, ForecastTask]]) -> dict[str, pa.Array]:
    return {
        "model": pa.array([forecaster.model for forecaster, _ in tasks], pa.string()),
        "checkpoint": pa.array([forecaster.checkpoint for forecaster, _ in tasks], pa.string()),
        "symbol": pa.array([task.symbol for _, task in tasks], pa.string()),
        "origin": pa.array(np.array([task.origin for _, task in tasks], dtype="datetime64[s]")),
    }
