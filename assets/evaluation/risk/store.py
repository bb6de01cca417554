"""The table `forecast_risk`: written only where a row differs from the stored one."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np
import pandas as pd

from assets.evaluation.risk.loss_grid import LossMeasures
from assets.evaluation.risk.path_events import DRAWDOWN, TOUCH, Event
from assets.evaluation.risk.tails import METHODS
from assets.forecasting.filters import UsedCheckpoints, checkpoints_frame
from assets.forecasting.placed_rows import register_places
from resources.sql import load_sql
from resources.warehouse import Warehouse

VAR, ES = "var", "es"
LOSSES, EVENTS = (VAR, ES), (DRAWDOWN, TOUCH)
COLUMNS = ("model", "checkpoint", "symbol", "origin", "step", "target_ts", "measure", "level", "value", "method",
           "outcomes")  # fmt: skip
_ADD = f"INSERT INTO forecast_risk BY NAME SELECT * FROM new_risk ANTI JOIN forecast_risk USING ({', '.join(COLUMNS)})"
_FORGET = """
DELETE FROM forecast_risk WHERE (model, checkpoint) NOT IN (SELECT (model, checkpoint) FROM in_use)
    OR list_contains($events, measure) AND (
        step <> $step OR origin < $first OR (measure, level) NOT IN (SELECT (measure, level) FROM wanted_events)
    )
"""
# A thirtieth of the time of a cryptographic digest. Rows are unique, so that no two of them cancel.
_DIGEST = f"SELECT count(*) AS rows, bit_xor(hash({', '.join(COLUMNS)}))::VARCHAR AS digest FROM forecast_risk"


def replace_losses(connection: duckdb.DuckDBPyConnection, found: LossMeasures) -> None:
    """Make these the value at risk and the expected shortfall of the grid's models; equal rows stay as they are.

    Args:
        connection: in a transaction, with the grid registered.
    """
    register_places(connection, "placed_measures", pd.DataFrame(list(found.measures), columns=["measure", "level"]))
    parameters = {"measures": len(found.measures), "methods": list(METHODS), "models": found.grid.models}
    sql = load_sql("assets.evaluation.risk", "stored_losses.sql")
    stored = connection.execute(sql, {**found.grid.sizes, **parameters, "losses": list(LOSSES)}).fetchnumpy()
    place: np.ma.MaskedArray = np.ma.asarray(stored["place"])
    missing = np.repeat(found.known.reshape(-1), len(found.measures))
    rows = np.flatnonzero(~np.ma.getmaskarray(place))
    at = place.data[rows]
    same = (
        missing[at]
        & (found.values.reshape(-1)[at] == stored["value"][rows])
        & (found.targets.reshape(-1)[at // len(found.measures)] == stored["target_ts"][rows])
        & (found.outcomes.reshape(-1)[at] == stored["outcomes"][rows])
        & (found.methods.reshape(-1)[at] == stored["method"][rows])
    )
    kept, first = np.unique(at[same], return_index=True)
    missing[kept] = False
    gone = np.delete(stored["row"], rows[same][first])
    if len(gone):
        connection.register("gone", pd.DataFrame({"row": gone}))
        connection.execute("DELETE FROM forecast_risk WHERE rowid IN (SELECT row FROM gone)")
    if missing.any():
        connection.register("new_risk", _rows(found, np.flatnonzero(missing)))
        connection.execute("INSERT INTO forecast_risk BY NAME FROM new_risk")


def _rows(found: LossMeasures, places: np.ndarray) -> pd.DataFrame:
    """The rows of the table at some places."""
    grid = found.grid
    pair, origin, symbol, step, measure = np.unravel_index(places, found.values.shape)
    models, checkpoints = zip(*grid.checkpoints, strict=True)
    names, levels = zip(*found.measures, strict=True)
    return pd.DataFrame(
        {
            "model": pd.array(models, dtype="str").take(pair),
            "checkpoint": pd.array(checkpoints, dtype="str").take(pair),
            "symbol": pd.array(list(grid.symbols), dtype="str").take(symbol),
            "origin": grid.origins[origin],
            "step": np.asarray(grid.steps, dtype=np.int32)[step],
            "target_ts": found.targets[pair, origin, symbol, step],
            "measure": pd.array(names, dtype="str").take(measure),
            "level": np.asarray(levels)[measure],
            "value": found.values.reshape(-1)[places],
            "method": pd.array(METHODS, dtype="str").take(found.methods.reshape(-1)[places]),
            "outcomes": found.outcomes.reshape(-1)[places],
        }
    )[list(COLUMNS)]


def add_events(warehouse: Warehouse, rows: pd.DataFrame) -> None:
    """Add probabilities from sample paths; those of the same forecasts are replaced."""
    with warehouse.write() as connection:
        connection.register("new_risk", rows[list(COLUMNS)])
        connection.execute(
            "DELETE FROM forecast_risk WHERE list_contains($events, measure) AND "
            "(model, checkpoint, symbol, origin) IN (SELECT (model, checkpoint, symbol, origin) FROM new_risk)",
            {"events": list(EVENTS)},
        )
        connection.execute(_ADD)


def forget_others(
    warehouse: Warehouse, used: UsedCheckpoints, events: Sequence[Event], step: int, first: object
) -> None:
    """Delete rows of checkpoints that are not in use, and probabilities that the settings do not ask for."""
    parameters = {"events": list(EVENTS), "step": step, "first": first}
    with warehouse.write() as connection:
        connection.register("in_use", checkpoints_frame(used))
        connection.register("wanted_events", events_frame(events))
        connection.execute(_FORGET, parameters)


def events_frame(events: Sequence[Event]) -> pd.DataFrame:
    """Columns measure, level."""
    return pd.DataFrame(list(events), columns=["measure", "level"]).astype({"measure": str, "level": float})


def risk_content(warehouse: Warehouse) -> tuple[int, str]:
    """The number of rows of `forecast_risk`, and their digest."""
    found = warehouse.frame(_DIGEST)
    return int(found["rows"][0]), str(found["digest"][0])
