"""The report's page: its contents turned into words, tables and pictures, in the order in which they are read."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assets.backtests.plan import NoBacktest
from assets.backtests.report import tables
from assets.backtests.report.cards import checkpoint_table
from assets.backtests.report.contents import ReportContents
from assets.backtests.report.formatting import Table, listing, model_name, number, plural, typeset
from assets.backtests.report.verdict import backtest_verdict
from assets.backtests.results import sessions_per_year
from assets.forecasting.verdict import RIVAL, verdict_in_words
from assets.plots import label
from resources.checkpoints import Checkpoint

DOTS_PER_CSS_PIXEL = 1.3
DECIDING = "crps"
TITLES = {
    "kronos_tokenizer": "Kronos tokenizer",
    "kronos_predictor": "Kronos predictor",
    "chronos2_model": "Chronos-2",
}
BACKTEST_NOTE = (
    "Gross is before costs, net after them; the benchmark has none. Returns are compounded, {year} sessions a year; "
    "the excess is the mean difference a session times {year}, not compounded. "
    "The interval is from a bootstrap over blocks of ten sessions, widened for the number of models. "
    "Turnover is what was bought and sold over the account. The information ratio is of the net return less the "
    "benchmark's. The Deflated Sharpe ratio is the probability that this excess is more than the luckiest of as many "
    "worthless models would show; only the models of this report are counted as tries."
)
SURVIVORS_WIN = "A strategy that can only buy survivors looks better than it would have been; so does the benchmark."
SOME_LEFT = (
    "Survivorship: symbols that left are in the universe for as long as they were members; one that the source never "
    "listed is not."
)
LIMITS = (
    "Size: few symbols and one stretch of time. Another may say something else; the intervals tell only of this one.",
    "Fills: every order is filled in full at the next open, in fractions of a share, without moving the price. "
    "No borrowing, no short sales, no taxes; cash earns nothing. A suspended holding stays at its last price; one "
    "whose bars end for good becomes cash at it.",
    "Tries: what was tried before this report, other settings, other seeds, other models, is in no interval here.",
    "Published weights may have been trained on the days that they are tested on; such forecasts are marked in-sample "
    "where the cutoff is known, and left out of scores and backtest.",
)


@dataclass(frozen=True)
class Image:
    """A picture inside the page."""

    name: str
    png: bytes
    alt: str
    caption: str = ""

    @property
    def base64(self) -> str:
        return base64.b64encode(self.png).decode()

    @property
    def width(self) -> int:
        """In CSS pixels, so that text in pictures is as large as the text around them."""
        return round(struct.unpack(">I", self.png[16:20])[0] / DOTS_PER_CSS_PIXEL)


@dataclass(frozen=True)
class Fact:
    name: str
    value: str
    more: str = ""


@dataclass(frozen=True)
class FanShown:
    title: str
    image: Image


@dataclass(frozen=True)
class CheckpointShown:
    title: str
    images: tuple[Image, ...]
    card: Table


@dataclass(frozen=True)
class ReportPage:
    """What the template sets. None and empty: the part is missing, and the template says so in words."""

    digest: str
    profile: str
    version: str
    revision: str
    headline: str
    money: str
    verdict: tuple[str, ...]
    facts: tuple[Fact, ...]
    baseline: str
    horizon: int
    confidence: str
    scoreboard: Table | None
    skill: Image | None
    calibration: Image | None
    fans: tuple[FanShown, ...]
    rules: str
    backtest: Table | None
    no_backtest: str
    backtest_note: str
    plan_notes: tuple[str, ...]
    equity: Image | None
    omissions: Table | None
    checkpoints: tuple[CheckpointShown, ...]
    rows: Table | None
    rejected: Table | None
    universe: tuple[str, ...]
    coverage: Table | None
    provenance: Table
    used: Table | None
    counts: Table
    versions: Table
    settings: tuple[tuple[str, Table], ...]
    limits: tuple[str, ...]

    @property
    def images(self) -> dict[str, bytes]:
        """Every picture by its file name."""
        found = [self.skill, self.calibration, self.equity, *[fan.image for fan in self.fans]]
        found += [image for shown in self.checkpoints for image in shown.images]
        return {f"{image.name}.png": image.png for image in found if image}


def compose(contents: ReportContents, digest: str) -> ReportPage:
    """Draw the pictures, set the tables, and say what is missing."""
    settings, plan = contents.settings, contents.plan
    confidence = settings["evaluation"]["confidence"]
    headline, *verdict = map(typeset, verdict_in_words(contents.scoreboard, confidence))
    return ReportPage(
        digest=digest,
        profile=str(settings["profile"]),
        version=contents.versions.get("candlecast", ""),
        revision=contents.revision,
        headline=headline,
        money=backtest_verdict(contents),
        verdict=tuple(verdict),
        facts=tuple(_facts(contents)),
        baseline="a random walk with EWMA volatility",
        horizon=int(settings["windows"]["predict_window"]),
        confidence=typeset(f"{confidence:.0%}"),
        scoreboard=tables.scoreboard_table(contents.scoreboard),
        skill=_skill(contents),
        calibration=_calibration(contents),
        fans=_fans(contents),
        rules=_rules(contents),
        backtest=tables.backtest_table(contents.backtest.measures),
        no_backtest=contents.backtest.plan.reason if isinstance(contents.backtest.plan, NoBacktest) else "",
        backtest_note=BACKTEST_NOTE.format(year=sessions_per_year(settings["market"]["calendar"])),
        plan_notes=plan.notes if plan else (),
        equity=_equity(contents),
        omissions=tables.omissions_table(contents),
        checkpoints=tuple(_checkpoint(checkpoint) for checkpoint in contents.checkpoints),
        rows=tables.rows_table(contents),
        rejected=tables.rejected_table(contents),
        universe=_universe(contents),
        coverage=tables.coverage_table(contents),
        provenance=tables.mapping_table(_provenance(contents, digest)),
        used=tables.used_table(contents),
        counts=tables.mapping_table(contents.rows, "Table", "Rows", numeric=True),
        versions=tables.mapping_table(contents.versions),
        settings=tables.settings_tables(settings),
        limits=(_survivorship(contents), *LIMITS),
    )


def _facts(contents: ReportContents) -> list[Fact]:
    coverage, forecasts = contents.market.coverage, contents.forecasts
    symbols = coverage["symbol"].tolist()
    sessions = f"{coverage['first'].min()} … {coverage['last'].max()}" if symbols else ""
    unseen = forecasts[~forecasts["in_sample"].astype(bool)]
    origins = unseen["origin"].drop_duplicates().sort_values()
    span = f"{origins.iloc[0]:%Y-%m-%d} … {origins.iloc[-1]:%Y-%m-%d}" if len(origins) else ""
    models = sorted(unseen["model"].unique())
    return [
        Fact("Symbols", f"{len(symbols):,}", ", ".join(symbols) if len(symbols) <= 8 else ""),
        Fact("Bars", f"{int(coverage['bars'].sum()):,}", sessions),
        Fact("Out-of-sample origins", f"{len(origins):,}", span),
        Fact("Horizon", plural(contents.settings["windows"]["predict_window"], "bar"), _frequency(contents.settings)),
        Fact("Models", f"{len(models):,}", listing([label(model) for model in models])),
    ]


def _frequency(settings: Mapping[str, Any]) -> str:
    frequency, calendar = settings["market"]["frequency"], settings["market"]["calendar"]
    return f"{'daily' if frequency == '1d' else frequency}, {calendar}"


def _skill(contents: ReportContents) -> Image | None:
    from assets.backtests.report.plots import skill_chart

    rows = tables.whole_horizon(contents.scoreboard)
    rows = rows[(rows["metric"] == DECIDING) & (rows["baseline"] == RIVAL) & rows["skill"].notna()]
    if rows.empty:
        return None
    caption = "Skill: by how much a model's CRPS is smaller than the yardstick's, and its interval. Right of 0: better."
    return Image("skill", skill_chart(rows), "Skill of each model against a random walk", caption)


def _calibration(contents: ReportContents) -> Image | None:
    from assets.forecasting.plots import calibration_chart

    if contents.calibration.empty:
        return None
    models = {str(model): own for model, own in contents.calibration.groupby("model")}
    caption = "Calibration: on the dotted line, a 90 % quantile is above 90 % of the closes."
    return Image("calibration", calibration_chart(models), "Calibration of each model", caption)


def _fans(contents: ReportContents) -> tuple[FanShown, ...]:
    from assets.backtests.report.plots import fan_row

    found = []
    for place, case in enumerate(contents.fans, start=1):
        title = f"{case.symbol} from {case.origin.astype('datetime64[D]')}"
        alt = f"Forecasts of {title} by {listing([label(fan.model) for fan in case.fans])}, and what happened"
        found.append(FanShown(title, Image(f"fan-{place}", fan_row(case), alt)))
    return tuple(found)


def _equity(contents: ReportContents) -> Image | None:
    from assets.backtests.report.plots import equity_chart

    if contents.backtest.days.empty:
        return None
    caption = "Growth of 1, net of costs (dotted: gross), and the way below the highest point so far, net."
    return Image("equity", equity_chart(contents.backtest.days), "Equity and drawdown of each model", caption)


def _rules(contents: ReportContents) -> str:
    plan, rules = contents.plan, contents.settings["backtest"]
    if plan is None:
        return ""
    models = listing([model_name(model) for model in sorted(plan.scores)])
    step = rules["signal_step"] or contents.settings["windows"]["predict_window"]
    return (
        f"Qlib's TopkDropout for {models}, from {plan.days[1]} to {plan.days[-1]}, "
        f"{plural(len(plan.days) - 1, 'session')}. Each evening the symbols are ranked by the return expected over "
        f"{plural(step, 'bar')}, the mean of the quantile forecast; at the next open the portfolio holds "
        f"{plural(rules['topk'], 'symbol')} and exchanges at most {rules['n_drop']} a day, 95 % invested. "
        f"Buying costs {number(100 * rules['open_cost'])} % and selling {number(100 * rules['close_cost'])} % of the "
        "value. A signal stands until the next origin, for its horizon at most. The benchmark holds every symbol that "
        "had a signal the evening before, equal weights at the first open and again whenever that universe changes."
        f"{_leaving(contents)}"
    )


def _leaving(contents: ReportContents) -> str:
    if contents.universe.told_by == "bars":
        return ""
    return (
        " A symbol that leaves the universe is out of the benchmark at its last close as a member, is not bought "
        "any more, and is sold before any other, within the daily exchange."
    )


def _universe(contents: ReportContents) -> tuple[str, ...]:
    """By what the universe is told, and what that does to results; without bars, nothing."""
    universe, file = contents.universe, contents.settings["market"]["members"]
    if contents.market.coverage.empty:
        return ()
    told = (
        f"The members of each day are told by the file {file}."
        if universe.told_by == "members"
        else "The members of each day are told by the bars: a symbol is one from its first bar to its last."
    )
    return (told, *filter(None, [universe.note]))


def _survivorship(contents: ReportContents) -> str:
    note = contents.universe.note
    return f"{note} {SURVIVORS_WIN}" if note else SOME_LEFT


def _checkpoint(checkpoint: Checkpoint) -> CheckpointShown:
    title = TITLES[checkpoint.kind]
    images = tuple(
        Image(f"{checkpoint.kind}-{file.stem}", file.read_bytes(), f"{title}: {file.stem}")
        for file in sorted(checkpoint.folder.glob("*.png"), key=lambda file: (file.stem != "curves", file.stem))
    )
    return CheckpointShown(title, images, checkpoint_table(checkpoint))


def _provenance(contents: ReportContents, digest: str) -> dict[str, str]:
    found = {"Report": digest, "Seed": str(contents.settings["seed"]), "Backtest recipe": contents.backtest.recipe}
    found |= {"Qlib provider": contents.provider}
    found |= {TITLES[checkpoint.kind]: checkpoint.digest for checkpoint in contents.checkpoints}
    return found | ({"Code revision": contents.revision} if contents.revision else {})
