"""The risk section: losses beyond the value at risk, and events of sample paths, against expected ones; their tests."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from assets.backtests.report.formatting import MISSING, TextColumn, TextTable, interval, model_name, number
from assets.forecasting.intervals import percent

TITLES = ("Model", "Outcomes", "Occurred", "Expected", "Interval of the share", "p, blocks", "p, Kupiec", "p, clusters",
          "Skill", "Interval", "ES, Z")  # fmt: skip
SHOWN = ("var", "drawdown", "touch")


def risk_table(backtest: pd.DataFrame, models: Sequence[str] | None = None) -> TextTable | None:
    """The backtest of risk measures by measure, level and step; None: there is none.

    Args:
        backtest: the table risk_backtest.
        models: those to show; None: all.
    """
    own = backtest if models is None else backtest[backtest["model"].isin(list(models))]
    own = own[own["measure"].isin(SHOWN)]
    if own.empty:
        return None
    shortfalls = backtest[backtest["measure"] == "es"].set_index(["model", "step", "level"])["es_z"]
    rows: list[tuple[str, ...]] = []
    groups: list[tuple[int, str]] = []
    order = own.assign(place=own["measure"].map(SHOWN.index)).sort_values(["place", "step", "level", "model"])
    for measure, step, level in order[["measure", "step", "level"]].drop_duplicates().to_numpy().tolist():
        same = order[(order["measure"] == measure) & (order["step"] == step) & (order["level"] == level)]
        groups.append((len(rows), _heading(measure, step, level)))
        rows += [_row(one, shortfalls) for one in same.to_dict("records")]
    columns = tuple(TextColumn(title, place > 0) for place, title in enumerate(TITLES))
    return TextTable(columns, tuple(rows), groups=tuple(groups))


def risk_records(backtest: pd.DataFrame) -> list[dict[str, object]]:
    """The backtest as JSON values; without a value: null."""
    return [
        {str(name): None if pd.isna(value) else value for name, value in one.items()}
        for one in backtest.to_dict("records")
    ]


def _heading(measure: str, step: int, level: float) -> str:
    if measure == "var":
        return f"Loss beyond the value at risk, level {percent(level)}, step {step}"
    if measure == "drawdown":
        return f"Drawdown of {percent(level)} within {step} steps"
    return f"{percent(abs(level))} {'below' if level < 0 else 'above'} the last close touched within {step} steps"


def _row(one: Mapping[Hashable, Any], shortfalls: pd.Series) -> tuple[str, ...]:
    key = (one["model"], one["step"], one["level"])
    z = float(shortfalls[key]) if one["measure"] == "var" and key in shortfalls.index else None
    return (
        model_name(one["model"]),
        f"{one['n']:,}",
        f"{one['exceptions']:,}",
        f"{one['expected']:,.1f}",
        interval(one["rate_low"], one["rate_high"], "percent"),
        *(_p(one[name]) for name in ("block_p", "kupiec_p", "christoffersen_p")),
        number(one["skill"], "percent", signed=True),
        interval(one["skill_low"], one["skill_high"], "percent", signed=True),
        number(z, signed=True),
    )


def _p(value: float) -> str:
    return MISSING if pd.isna(value) else f"{value:.3f}" if value >= 0.001 else "< 0.001"
