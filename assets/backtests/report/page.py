"""The page of the report: text, tables and plots of its contents, in reading order."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assets.backtests.plan import NoBacktest
from assets.backtests.report import descriptions, skill, tables
from assets.backtests.report.anchoring import anchoring_text
from assets.backtests.report.cards import checkpoint_table
from assets.backtests.report.contents import TITLES, ReportContents
from assets.backtests.report.formatting import TextTable, interval, listing, number, plural, typeset
from assets.backtests.report.risk import risk_table
from assets.backtests.report.verdict import backtest_verdict
from assets.forecasting.verdict import REFERENCE_MODEL, best_model, verdict_text
from assets.plots import label
from resources.checkpoints import Checkpoint
from resources.derived_models import is_recalibrated

DOTS_PER_CSS_PIXEL = 1.3
MOST_LISTED = 8


@dataclass(frozen=True)
class PlotImage:
    """A plot embedded in the page."""

    name: str
    png: bytes
    alt: str
    caption: str = ""

    @property
    def base64(self) -> str:
        return base64.b64encode(self.png).decode()

    @property
    def width(self) -> int:
        """Width in CSS pixels at which text in the plot is as large as the text of the page."""
        pixels: int = struct.unpack(">I", self.png[16:20])[0]
        return round(pixels / DOTS_PER_CSS_PIXEL)


@dataclass(frozen=True)
class KeyFigure:
    """A key figure: name, value and detail."""

    name: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class FanSection:
    """The fans of one symbol and origin."""

    title: str
    image: PlotImage


@dataclass(frozen=True)
class CheckpointSection:
    """The training plots and the card of one checkpoint."""

    title: str
    images: tuple[PlotImage, ...]
    card: TextTable


@dataclass(frozen=True)
class ReportPage:
    """The input of the template. None or empty: no data, and the template says so."""

    digest: str
    profile: str
    version: str
    revision: str
    headline: str
    backtest_verdict: str
    verdict: tuple[str, ...]
    facts: tuple[KeyFigure, ...]
    reference: str
    horizon: int
    confidence: str
    skills: TextTable | None
    anchoring: tuple[str, ...]
    years: TextTable | None
    symbols: TextTable | None
    scoreboard: TextTable | None
    skill: PlotImage | None
    calibration: PlotImage | None
    fans: tuple[FanSection, ...]
    risk: TextTable | None
    all_risk: TextTable | None
    intervals: str
    rules: str
    backtest: TextTable | None
    no_backtest: str
    backtest_note: str
    plan_notes: tuple[str, ...]
    equity: PlotImage | None
    omissions: TextTable | None
    checkpoints: tuple[CheckpointSection, ...]
    vintages: TextTable | None
    rows: TextTable | None
    files: TextTable | None
    warnings: tuple[str, ...]
    rejected: TextTable | None
    calendar: str
    universe: tuple[str, ...]
    corrected: str
    coverage: TextTable | None
    provenance: TextTable
    used: TextTable | None
    counts: TextTable
    versions: TextTable
    settings: tuple[tuple[str, TextTable], ...]
    limitations: tuple[str, ...]

    @property
    def images(self) -> dict[str, bytes]:
        """All plots by file name."""
        found = [self.skill, self.calibration, self.equity, *[fan.image for fan in self.fans]]
        found += [image for section in self.checkpoints for image in section.images]
        return {f"{image.name}.png": image.png for image in found if image}


def compose(contents: ReportContents, digest: str) -> ReportPage:
    """The page of these contents: plots drawn, tables formatted."""
    settings, plan = contents.settings, contents.plan
    confidence = settings["evaluation"]["confidence"]
    headline, *verdict = map(typeset, verdict_text(contents.scoreboard, confidence))
    return ReportPage(
        digest=digest,
        profile=str(settings["profile"]),
        version=contents.versions.get("candlecast", ""),
        revision=contents.revision,
        headline=headline,
        backtest_verdict=backtest_verdict(contents),
        verdict=tuple(verdict),
        facts=tuple(_facts(contents)),
        reference="a random walk with EWMA volatility",
        horizon=int(settings["windows"]["predict_window"]),
        confidence=typeset(f"{confidence:.0%}"),
        skills=skill.skill_table(contents.scoreboard),
        anchoring=anchoring_text(contents.anchoring),
        years=skill.year_table(contents.skill_groups),
        symbols=skill.symbol_table(contents.skill_groups),
        scoreboard=tables.scoreboard_table(contents.scoreboard),
        skill=_skill(contents),
        calibration=_calibration(contents),
        fans=_fans(contents),
        risk=risk_table(contents.risk, (best_model(contents.scoreboard) or REFERENCE_MODEL, REFERENCE_MODEL)),
        all_risk=risk_table(contents.risk),
        intervals=descriptions.intervals_text(settings["forecasts"]["levels"]),
        rules=descriptions.rules_text(contents),
        backtest=tables.backtest_table(contents.backtest.measures),
        no_backtest=contents.backtest.plan.reason if isinstance(contents.backtest.plan, NoBacktest) else "",
        backtest_note=descriptions.backtest_note(settings["market"]["calendar"]),
        plan_notes=plan.notes if plan else (),
        equity=_equity(contents),
        omissions=tables.omissions_table(contents),
        vintages=tables.vintage_table(contents),
        checkpoints=tuple(_checkpoint(checkpoint) for checkpoint in contents.checkpoints),
        rows=tables.rows_table(contents),
        rejected=tables.rejected_table(contents),
        files=tables.files_table(contents),
        warnings=contents.market.warnings,
        calendar=descriptions.calendar_text(contents),
        universe=descriptions.universe_text(contents),
        corrected=descriptions.corrected_text(contents),
        coverage=tables.coverage_table(contents),
        provenance=tables.mapping_table(_provenance(contents, digest)),
        used=tables.used_table(contents),
        counts=tables.mapping_table(contents.rows, "Table", "Rows", numeric=True),
        versions=tables.mapping_table(contents.versions),
        settings=tables.settings_tables(settings),
        limitations=(descriptions.survivorship_text(contents), *descriptions.LIMITATIONS),
    )


def _facts(contents: ReportContents) -> list[KeyFigure]:
    coverage, forecasts = contents.market.coverage, contents.forecasts
    symbols = coverage["symbol"].tolist()
    sessions = f"{coverage['first'].min()} … {coverage['last'].max()}" if symbols else ""
    unseen = forecasts[~forecasts["in_sample"].astype(bool)]
    origins = unseen["origin"].drop_duplicates().sort_values()
    span = f"{origins.iloc[0]:%Y-%m-%d} … {origins.iloc[-1]:%Y-%m-%d}" if len(origins) else ""
    models = sorted(unseen["model"].unique())
    raw = [label(model) for model in models if not is_recalibrated(model)]
    copies = f", and {plural(len(models) - len(raw), 'recalibrated one')}" if len(raw) < len(models) else ""
    return [
        *_best(contents),
        KeyFigure("Symbols", f"{len(symbols):,}", ", ".join(symbols) if len(symbols) <= 8 else ""),
        KeyFigure("Bars", f"{int(coverage['bars'].sum()):,}", sessions),
        KeyFigure("Out-of-sample origins", f"{len(origins):,}", span),
        KeyFigure(
            "Horizon", plural(contents.settings["windows"]["predict_window"], "bar"), _frequency(contents.settings)
        ),
        KeyFigure("Models", f"{len(raw):,}{copies}", listing(raw) if len(raw) <= MOST_LISTED else ""),
    ]


def _best(contents: ReportContents) -> list[KeyFigure]:
    """The model of the highest skill, and how sure that is."""
    best = best_model(contents.scoreboard)
    if best is None:
        return []
    (row,) = skill.crps_skill(contents.scoreboard).query("model == @best").to_dict("records")
    ends = interval(row["skill_low"], row["skill_high"], "percent", signed=True)
    text = f"CRPS skill {number(row['skill'], 'percent', signed=True)}, interval {ends}: {row['verdict']}"
    return [KeyFigure("Highest skill", label(best), text)]


def _frequency(settings: Mapping[str, Any]) -> str:
    frequency, calendar = settings["market"]["frequency"], settings["market"]["calendar"]
    return f"{'daily' if frequency == '1d' else frequency}, {calendar}"


def _skill(contents: ReportContents) -> PlotImage | None:
    from assets.backtests.report.plots import skill_chart

    rows = skill.crps_skill(contents.scoreboard)
    if rows.empty:
        return None
    hollow = " Hollow: recalibrated." if rows["copy"].any() else ""
    caption = f"Skill: relative reduction of CRPS against the reference model, with interval. Above 0: better.{hollow}"
    return PlotImage("skill", skill_chart(rows), "CRPS skill of each model against the reference model", caption)


def _calibration(contents: ReportContents) -> PlotImage | None:
    from assets.backtests.report.plots import calibration_chart

    if contents.calibration.empty:
        return None
    models = {str(model): own for model, own in contents.calibration.groupby("model")}
    caption = (
        "Calibration: share of closes at or below each quantile, minus its level. On the dotted line the quantiles are "
        "calibrated; where the line rises from left to right, they are too wide, where it falls, too narrow."
    )
    return PlotImage("calibration", calibration_chart(models), "Calibration of each model", caption)


def _fans(contents: ReportContents) -> tuple[FanSection, ...]:
    from assets.backtests.report.plots import fan_row

    found = []
    for place, case in enumerate(contents.fans, start=1):
        title = f"{case.symbol} from {case.origin.astype('datetime64[D]')}"
        alt = f"Forecasts of {title} by {listing([label(fan.model) for fan in case.fans])}, and the actual closes"
        found.append(FanSection(title, PlotImage(f"fan-{place}", fan_row(case), alt)))
    return tuple(found)


def _equity(contents: ReportContents) -> PlotImage | None:
    from assets.backtests.report.plots import equity_chart

    if contents.backtest.days.empty:
        return None
    caption = "Growth of 1 unit, net of costs (dotted: gross), and drawdown, net."
    return PlotImage("equity", equity_chart(contents.backtest.days), "Equity and drawdown of each model", caption)


def _checkpoint(checkpoint: Checkpoint) -> CheckpointSection:
    title = TITLES[checkpoint.kind]
    images = tuple(
        PlotImage(f"{checkpoint.kind}-{file.stem}", file.read_bytes(), f"{title}: {file.stem}")
        for file in sorted(checkpoint.folder.glob("*.png"), key=lambda file: (file.stem != "curves", file.stem))
    )
    return CheckpointSection(title, images, checkpoint_table(checkpoint))


def _provenance(contents: ReportContents, digest: str) -> dict[str, str]:
    found = {"Report": digest, "Seed": str(contents.settings["seed"]), "Backtest recipe": contents.backtest.recipe}
    found |= {"Qlib provider": contents.provider}
    found |= {TITLES[checkpoint.kind]: checkpoint.digest for checkpoint in contents.checkpoints}
    return found | ({"Code revision": contents.revision} if contents.revision else {})
