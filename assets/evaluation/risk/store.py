"""The table `forecast_risk`: written by model, and only where a row differs from the stored one."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from assets.evaluation.risk.path_events import DRAWDOWN, TOUCH, Event
from assets.forecasting.filters import UsedCheckpoints, checkpoint_pairs
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
_DIGEST = f"""
SELECT count(*) AS rows, bit_xor(md5_number(concat_ws('|', {", ".join(COLUMNS)})))::VARCHAR AS digest FROM forecast_risk
"""


def write_losses(warehouse: Warehouse, model: str, rows: pd.DataFrame) -> None:
    """Make these rows the value at risk and the expected shortfall of a model."""
    replace = load_sql("assets.evaluation.risk", "replace_risk.sql").format(columns=", ".join(COLUMNS))
    with warehouse.write() as connection:
        connection.register("new_risk", rows[list(COLUMNS)])
        connection.execute(replace, {"model": model, "measures": list(LOSSES)})
        connection.execute(_ADD)


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
        connection.register("in_use", pd.DataFrame(checkpoint_pairs(used), columns=["model", "checkpoint"], dtype=str))
        connection.register("wanted_events", events_frame(events))
        connection.execute(_FORGET, parameters)


def events_frame(events: Sequence[Event]) -> pd.DataFrame:
    """Columns measure, level."""
    return pd.DataFrame(list(events), columns=["measure", "level"]).astype({"measure": str, "level": float})


def risk_content(warehouse: Warehouse) -> tuple[int, str]:
    """The number of rows of `forecast_risk`, and their digest."""
    found = warehouse.frame(_DIGEST)
    return int(found["rows"][0]), str(found["digest"][0])
