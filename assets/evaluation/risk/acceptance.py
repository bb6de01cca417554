"""Acceptance checks on the risk measures and their backtest."""

from __future__ import annotations

import pandas as pd

from assets.acceptance import CheckOutcome
from assets.evaluation.risk.backtest_table import default_model, read_backtest
from assets.evaluation.risk.store import VAR
from assets.plots import label
from resources.sql import load_sql
from resources.warehouse import Warehouse

# The level of the tests.
SIGNIFICANCE = 0.05


def impossible_risk(warehouse: Warehouse) -> pd.DataFrame:
    """Rows of `forecast_risk` that are impossible, with the problem; at most 1,000."""
    return warehouse.frame(load_sql("assets.evaluation.risk", "impossible_risk.sql"))


def check_exceptions(warehouse: Warehouse) -> CheckOutcome:
    """Whether Kupiec's test accepts the value at risk of the best model of the scoreboard, at each step and level."""
    model, backtest = default_model(warehouse), read_backtest(warehouse)
    own = backtest[(backtest["model"] == model) & (backtest["measure"] == VAR)]
    if own.empty:
        return CheckOutcome(True, f"no outcome of the value at risk of {model} yet")
    rejected = own[own["kupiec_p"] < SIGNIFICANCE]
    if rejected.empty:
        return CheckOutcome(True, f"{label(model)}: exceptions of the value at risk are as many as expected")
    found = "; ".join(
        f"step {row['step']}, level {row['level']:g}: {row['exceptions']} of {row['n']}, expected "
        f"{row['expected']:.1f}, p {row['kupiec_p']:.3f} (by blocks of dates {_p(row['block_p'])})"
        for row in rejected.to_dict("records")
    )
    return CheckOutcome(
        False,
        f"{label(model)}: {found}. Kupiec's test takes symbols for independent: trust it where the p-value by blocks "
        "of dates is small too, and prefer a model of risk_backtest that it accepts, such as a recalibrated one",
    )


def _p(value: float) -> str:
    return "not known" if value != value else f"{value:.3f}"
