"""The CRPS skill of all models in the report: before and after recalibration, by year and by symbol."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from assets.backtests.report.formatting import MISSING, TextColumn, TextTable, interval, model_name, number
from assets.forecasting.filters import FORECAST_FILTER, without_recalibrated
from assets.forecasting.intervals import nominal_coverage, percent
from assets.forecasting.metrics import ALL_STEPS, BASELINES
from assets.forecasting.verdict import REFERENCE_MODEL
from resources.derived_models import is_recalibrated, raw_model, recalibrated
from resources.sql import load_sql

ARROW = "\N{RIGHTWARDS ARROW}"
MARKS = {"better": "\N{BLACK UP-POINTING TRIANGLE} ", "worse": "\N{BLACK DOWN-POINTING TRIANGLE} "}
# Columns of a table of single years or symbols.
MOST_GROUPS = 8


def read_skill_groups(connection: duckdb.DuckDBPyConnection, parameters: Mapping[str, object]) -> pd.DataFrame:
    """CRPS by year and by symbol: columns model, kind, name, value, reference, origins.

    Args:
        parameters: those of the forecast filter, and `checkpoints`.
    """
    sql = load_sql("assets.backtests.report", "skill_groups.sql").format(forecast_filter=FORECAST_FILTER)
    return connection.execute(sql, {**parameters, "reference": REFERENCE_MODEL}).df()


def crps_skill(scoreboard: pd.DataFrame) -> pd.DataFrame:
    """The CRPS skill over all steps against the reference model, one row per model: raw ones and then recalibrated
    ones, each by decreasing skill."""
    rows = scoreboard[(scoreboard["metric"] == "crps") & (scoreboard["horizon"] == ALL_STEPS)]
    rows = rows[(rows["baseline"] == REFERENCE_MODEL) & rows["skill"].notna()]
    copy = rows["model"].map(is_recalibrated).astype(bool)
    return rows.assign(copy=copy).sort_values(["copy", "skill"], ascending=[True, False], kind="stable")


def skill_table(scoreboard: pd.DataFrame) -> TextTable | None:
    """One row per model: skill as it forecasts and recalibrated, and the coverage of the widest interval."""
    skill = crps_skill(scoreboard).set_index("model")
    if skill.empty:
        return None
    covered, shown = _coverage(scoreboard)
    models = list(dict.fromkeys(raw_model(str(model)) for model in skill.index))
    copies = any(map(is_recalibrated, skill.index))
    rows = [_row(model, skill, covered, copies) for model in models]
    if REFERENCE_MODEL not in models:
        rows.append(_row(REFERENCE_MODEL, skill, covered, copies))
    calibrated = ("Recalibrated", "Interval") if copies else ()
    coverage = f"{shown} interval covers" if shown else "Coverage"
    titles = ("Model", "CRPS skill", "Interval", *calibrated, coverage)
    columns = (*[TextColumn(title, place > 0) for place, title in enumerate(titles)], TextColumn("Verdict", False))
    return TextTable(columns, tuple(rows))


def year_table(groups: pd.DataFrame) -> TextTable | None:
    """The skill of each model in each year, of the newest MOST_GROUPS years, and how many years are above 0."""
    wide = _wide(groups, "year")
    if wide.empty:
        return None
    shown = wide.iloc[:, -MOST_GROUPS:]
    rows = [(*_name_and(one, shown.loc[one]), _above(wide.loc[one])) for one in wide.index]
    return _table((*shown.columns, "Years above 0"), rows)


def symbol_table(groups: pd.DataFrame) -> TextTable | None:
    """The skill of each model for each symbol; of many symbols the lowest, the quartiles and the highest."""
    wide = _wide(groups, "symbol")
    if wide.empty:
        return None
    shown = wide
    if wide.shape[1] > MOST_GROUPS:
        names = ("Lowest", "Lower quartile", "Median", "Upper quartile", "Highest")
        ends = np.nanquantile(wide.to_numpy(), [0, 0.25, 0.5, 0.75, 1], axis=1)
        shown = pd.DataFrame(ends.T, index=wide.index, columns=list(names))
    rows = [(*_name_and(one, shown.loc[one]), _above(wide.loc[one])) for one in wide.index]
    return _table((*shown.columns, "Symbols above 0"), rows)


def _row(model: str, skill: pd.DataFrame, covered: pd.Series, copies: bool) -> tuple[str, ...]:
    raw: Mapping[Hashable, Any] = skill.loc[model].to_dict() if model in skill.index else {}
    copy = recalibrated(model)
    other: Mapping[Hashable, Any] = skill.loc[copy].to_dict() if copy in skill.index else {}
    after = f" {ARROW} {number(covered.get(copy), 'percent')}" if copy in covered.index else ""
    verdict = str(raw.get("verdict", MISSING))
    return (
        model_name(model),
        *_skill(raw),
        *(_skill(other, marked=True) if copies else ()),
        f"{number(covered.get(model), 'percent')}{after}",
        "reference model" if model == REFERENCE_MODEL else f"{MARKS.get(verdict, '')}{verdict}",
    )


def _skill(row: Mapping[Hashable, Any], marked: bool = False) -> tuple[str, str]:
    ends = row.get("skill_low"), row.get("skill_high")
    mark = MARKS.get(str(row.get("verdict")), "") if marked else ""
    return f"{mark}{number(row.get('skill'), 'percent', signed=True)}", interval(*ends, "percent", signed=True)


def _coverage(scoreboard: pd.DataFrame) -> tuple[pd.Series, str]:
    """The coverage of the widest scored interval by model, and its nominal coverage as text."""
    nominal = {metric: share for metric in scoreboard["metric"].unique() if (share := nominal_coverage(str(metric)))}
    if not nominal:
        return pd.Series(dtype=float), ""
    widest = max(nominal, key=nominal.__getitem__)
    rows = scoreboard[(scoreboard["metric"] == widest) & (scoreboard["horizon"] == ALL_STEPS)]
    rows = rows.assign(second=rows["baseline"] != BASELINES[0]).sort_values("second", kind="stable")
    return rows.drop_duplicates("model").set_index("model")["value"], percent(nominal[widest])


def _wide(groups: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Skills, models × groups, by decreasing skill over all groups; recalibrated models are left out."""
    rows = without_recalibrated(groups[groups["kind"] == kind])
    if rows.empty:
        return pd.DataFrame()
    total = rows.groupby("model")[["value", "reference"]].sum()
    order = (total["value"] / total["reference"]).sort_values(kind="stable").index
    wide = rows.assign(skill=1 - rows["value"] / rows["reference"]).pivot(index="model", columns="name", values="skill")
    return wide.loc[order].sort_index(axis=1)


def _name_and(model: str, skills: pd.Series) -> tuple[str, ...]:
    return (model_name(model), *[number(skill, "percent", signed=True) for skill in skills])


def _above(skills: pd.Series) -> str:
    known = skills.dropna()
    return f"{int((known > 0).sum()):,} of {len(known):,}"


def _table(titles: Sequence[str], rows: Sequence[tuple[str, ...]]) -> TextTable:
    return TextTable((TextColumn("Model", False), *map(TextColumn, titles)), tuple(rows))
