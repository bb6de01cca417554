"""Tables of the report as formatted text. Pure functions of its contents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from assets.backtests.measures import BENCHMARK, by_model
from assets.backtests.report.contents import TITLES, ReportContents
from assets.backtests.report.formatting import (
    MEASURES,
    MISSING,
    TextColumn,
    TextTable,
    interval,
    is_shown,
    model_name,
    number,
    score,
    score_place,
)
from assets.backtests.report.skill import MARKS
from assets.backtests.tradability import REFUSED
from assets.forecasting.filters import checkpoint_pairs, without_recalibrated
from assets.forecasting.metrics import ALL_STEPS, BASELINES, LOSSES
from assets.forecasting.verdict import REFERENCE_MODEL
from assets.market.outcomes import COUNTS, FileOutcome

MOST_FILES = 50
VINTAGE_COLUMNS = ("Model", "Vintage", "Training cutoff", "Checkpoint")
ORDER = (
    "random_walk", "random_walk_ewma", "drift", "momentum", "garch", "gjr_garch", "har", "volatility", "kronos",
    "kronos_anchored", "chronos2", "chronos2_anchored", "combination_equal", "combination_crps", BENCHMARK,
)  # fmt: skip


def whole_horizon(scoreboard: pd.DataFrame) -> pd.DataFrame:
    """Rows over all steps, one per metric and model: against the reference model, or the baseline that replaces it."""
    rows = scoreboard[(scoreboard["horizon"] == ALL_STEPS) & scoreboard["metric"].map(is_shown).astype(bool)]
    rows = rows.assign(second=rows["baseline"] != REFERENCE_MODEL).sort_values("second", kind="stable")
    rows = rows.drop_duplicates(["metric", "model"]).drop(columns="second")
    return rows.sort_values(["metric", "model"], key=_display_order, ignore_index=True)


def scoreboard_table(scoreboard: pd.DataFrame) -> TextTable | None:
    """Scores of all models but recalibrated ones, by metric, with the skill against the reference model."""
    shown = whole_horizon(scoreboard)
    shown = without_recalibrated(shown)
    if shown.empty:
        return None
    rows: list[tuple[str, ...]] = []
    groups: list[tuple[int, str]] = []
    for metric, own in shown.groupby("metric", sort=False):
        known = score(str(metric))
        groups.append((len(rows), f"{known.name}: {known.meaning}" if known.meaning else known.name))
        rows += [_score_row(row, str(metric)) for row in _records(own)]
    titles = ("Model", "Value", "Interval", "Skill", "Interval", "Origins", "Forward")
    columns = (
        *[TextColumn(title, numeric=place > 0) for place, title in enumerate(titles)],
        TextColumn("Verdict", False),
    )
    return TextTable(columns, tuple(rows), groups=tuple(groups))


def backtest_table(measures: pd.DataFrame) -> TextTable | None:
    """Backtest measures: one row per measure, one column per model."""
    if measures.empty:
        return None
    found = by_model(measures)
    models = sorted(found, key=_place)
    rows = []
    for name, metric in MEASURES.items():
        if name in REFUSED and not any(own.get(name) for own in found.values()):
            continue
        rows.append((metric.name, *[number(found[model].get(name), metric.unit) for model in models]))
        if any(f"{name}_low" in own for own in found.values()):
            ends = [(found[model].get(f"{name}_low"), found[model].get(f"{name}_high")) for model in models]
            rows.append(("\N{EM SPACE}interval", *[interval(low, high, "percent") for low, high in ends]))
    columns = (TextColumn("", False), *[TextColumn(model_name(model)) for model in models])
    return TextTable(columns, tuple(rows))


def rows_table(contents: ReportContents) -> TextTable | None:
    """Outcome of all received rows, by source."""
    found = contents.market.payloads
    if found.empty:
        return None
    columns = ("received", "kept", "folded", "rejected")
    rows = [(row["source"], *[f"{row[name]:,}" for name in columns]) for row in _records(found)]
    titles = ("Source", "Received", "Kept", "Duplicates folded", "Rejected")
    return TextTable(tuple(TextColumn(title, place > 0) for place, title in enumerate(titles)), tuple(rows))


def files_table(contents: ReportContents) -> TextTable | None:
    """Outcome per file: those that lost rows first, at most 50."""
    found = contents.market.files[:MOST_FILES]
    rows = [(one.file, *[_rows_of(one, name) for name in COUNTS], one.rules, ", ".join(one.ignored)) for one in found]
    titles = ("File", "Received", "Kept", "Folded", "Rejected", "Rejected by rule", "Columns ignored")
    columns = tuple(TextColumn(title, 0 < place <= len(COUNTS)) for place, title in enumerate(titles))
    return TextTable(columns, tuple(rows)) if rows else None


def _rows_of(outcome: FileOutcome, name: str) -> str:
    """A number of rows; of the folded ones also how many are part of a bar with other rows."""
    aggregated = f" ({outcome.aggregated:,} aggregated)" if name == "folded" and outcome.aggregated else ""
    return f"{getattr(outcome, name):,}{aggregated}"


def rejected_table(contents: ReportContents) -> TextTable | None:
    """Number of rejected rows per rule."""
    found = contents.market.rejected
    if found.empty:
        return None
    rows = [(str(row["rule"]).replace("_", " "), f"{row['rows']:,}") for row in _records(found)]
    return TextTable((TextColumn("Rule", False), TextColumn("Rows")), tuple(rows))


def coverage_table(contents: ReportContents) -> TextTable | None:
    """Coverage per symbol."""
    found = contents.market.coverage
    if found.empty:
        return None
    columns = ("sessions", "flagged", "splits", "dividends")
    rows = [
        (row["symbol"], row["first"], row["last"], *[f"{row[name]:,}" for name in columns]) for row in _records(found)
    ]
    titles = ("Symbol", "First session", "Last session", "Sessions", "Flagged bars", "Splits", "Dividends")
    return TextTable(tuple(TextColumn(title, place > 0) for place, title in enumerate(titles)), tuple(rows))


def omissions_table(contents: ReportContents) -> TextTable | None:
    """Forecasts without a signal, and the reasons; models with the same number and reason share a row."""
    if not contents.omissions:
        return None
    models: dict[tuple[int, str], list[str]] = {}
    for one in contents.omissions:
        models.setdefault((one.forecasts, one.reason), []).append(model_name(one.model))
    rows = [(", ".join(names), f"{count:,}", reason) for (count, reason), names in models.items()]
    columns = TextColumn("Model", False), TextColumn("Forecasts each"), TextColumn("Reason", False)
    return TextTable(columns, tuple(rows))


def settings_tables(settings: Mapping[str, Any]) -> tuple[tuple[str, TextTable], ...]:
    """All settings: one table per section, in the order of the settings."""
    plain = {key: value for key, value in settings.items() if not isinstance(value, Mapping)}
    sections = {"": plain, **{key: value for key, value in settings.items() if isinstance(value, Mapping) and value}}
    return tuple(
        (name, pairs([(key, _value(value)) for key, value in section.items()])) for name, section in sections.items()
    )


def mapping_table(values: Mapping[str, Any], left: str = "", right: str = "", numeric: bool = False) -> TextTable:
    """A mapping as a table of two columns."""
    rows = [(str(key), f"{value:,}" if numeric else str(value)) for key, value in values.items()]
    return TextTable((TextColumn(left, False), TextColumn(right, numeric)), tuple(rows))


def used_table(contents: ReportContents) -> TextTable | None:
    """Family, licence, number of forecasts, and of origins out of sample and in-sample, per model and checkpoint."""
    if not contents.used:
        return None
    forecasts, seen = contents.forecasts, contents.forecasts["in_sample"].astype(bool)
    by = ["model", "checkpoint"]
    clean, in_sample = (forecasts[chosen].groupby(by)["origin"].nunique() for chosen in (~seen, seen))
    columns = (forecasts.groupby(by).size(), clean, in_sample)
    rows = [
        (
            model_name(pair[0]),
            *contents.about.get(pair[0], ("", "")),
            pair[1],
            *[f"{int(counts.get(pair, 0)):,}" for counts in columns],
        )
        for pair in sorted(checkpoint_pairs(contents.used), key=lambda pair: _place(pair[0]))
    ]
    titles = ("Model", "Family", "Licence", "Checkpoint", "Forecasts", "Origins out of sample", "In-sample")
    return TextTable(tuple(TextColumn(title, place > 3) for place, title in enumerate(titles)), tuple(rows))


def vintage_table(contents: ReportContents) -> TextTable | None:
    """Date, cutoff and digest of every vintage. None: there are none."""
    if not contents.vintages:
        return None
    rows = [
        (TITLES[kind], str(one.card.get("recipe", {}).get("vintage")), str(one.card.get("cutoff")), one.digest)
        for kind, found in contents.vintages
        for one in found
    ]
    return TextTable(tuple(TextColumn(name, False) for name in VINTAGE_COLUMNS), tuple(rows))


def _score_row(row: Mapping[str, Any], metric: str) -> tuple[str, ...]:
    known = score(metric)
    unit = "percent" if metric in LOSSES else known.unit
    compared = not _is_reference(row)
    return (
        model_name(row["model"]),
        number(row["value"], known.unit),
        interval(row["low"], row["high"], known.unit),
        number(row["skill"], unit, signed=True) if compared else MISSING,
        interval(row["skill_low"], row["skill_high"], unit, signed=True) if compared else MISSING,
        f"{int(row['n']):,}",
        f"{int(row['forward']):,}",
        _verdict(row) if compared else "reference model",
    )


def _verdict(row: Mapping[str, Any]) -> str:
    return f"{MARKS.get(str(row['verdict']), '')}{row['verdict']}"


def _is_reference(row: Mapping[str, Any]) -> bool:
    """The reference model's own row, which compares it with the other random walk."""
    return bool(row["model"] == REFERENCE_MODEL and row["baseline"] == BASELINES[0])


def _display_order(column: pd.Series) -> pd.Series:
    if column.name == "metric":
        return column.map(score_place)
    return column.map(lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


def _place(model: str) -> tuple[int, str]:
    return (ORDER.index(model) if model in ORDER else len(ORDER) - 1, model)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def pairs(rows: Iterable[tuple[str, str]]) -> TextTable:
    """A table of two columns without headings."""
    return TextTable((TextColumn("", False), TextColumn("", False)), tuple(rows))


def _value(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {_value(own)}" for name, own in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:.6g}"
    return str(value)
