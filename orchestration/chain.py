"""The main job and its parts, in order: what `run`, `backfill`, `forecast` and `score` do.

Belongs here: which sessions and which assets, given what is there already. Not here: how a job is run
(orchestration.headless) or shown (orchestration.terminal).
"""

import json
from datetime import date
from pathlib import Path
from typing import Any, cast, get_args

import dagster as dg

from assets.forecasts.models import Family
from assets.market.pending import pending_sessions
from assets.training.export import export, push
from assets.training.promotion import rollback
from orchestration.headless import Headless, Span, only_run, open_instance
from orchestration.jobs import SELECTIONS
from orchestration.lineage import Lineage, Node
from orchestration.terminal import Terminal
from resources.calendar import TradingCalendar
from resources.checkpoints import CheckpointStore, Kind
from resources.errors import CandlecastError
from resources.layout import Home
from resources.settings import Settings

FORECASTING = "group:training or group:forecasts"
MODELLING = "group:training or group:forecasts or group:evaluation or group:backtests"
VERDICT_LINES = 3
_NEWEST = "SELECT max(session) AS newest, count(*) AS bars FROM bars WHERE frequency = $frequency"
_LATEST_FORECASTS = """
SELECT model, symbol, origin, step, target_ts, level, value, in_sample
FROM forecast_quantiles
WHERE field = 'close' AND origin::DATE = $origin AND level IN (0.05, 0.5, 0.95)
  AND ($symbols IS NULL OR list_contains($symbols, symbol))
  AND step IN (1, $horizon)
ORDER BY symbol, model, step, level
"""


class Chain:
    """The chain of one set of settings, run in this process."""

    def __init__(self, settings: Settings, terminal: Terminal) -> None:
        self.settings = settings
        self.terminal = terminal
        self.home = Home(settings.home)
        self.headless = Headless(settings, terminal.watch)
        self.resources = self.headless.resources
        self.warehouse = self.resources["warehouse"]
        self.calendar: TradingCalendar = self.resources["calendar"]

    def everything(self) -> dict[str, Any]:
        """The whole chain; what is there already stays."""
        with self.headless.alone():
            self._ingest()
            self.headless.run(MODELLING, self._test_span(), "modelling")
        return self._ended(latest_report(self.settings))

    def backfill(self, first: date, last: date, assets: str) -> dict[str, Any]:
        """A range of sessions of a selection; upstream first."""
        if last < first:
            raise CandlecastError(f"--to {last} is before --from {first}")
        wanted = self._named(assets)
        with self.headless.alone():
            market = {"raw_bars", "bars", "corporate_actions"}
            upstream = self._upstream(wanted) - wanted
            if wanted & market:
                self.headless.run(_any_of(wanted & market), self._sessions(first, last), "backfill_market")
            if (wanted | upstream) - market:
                self._ingest()
                span = self._sessions(first, last) if self._partitioned((wanted | upstream) - market) else None
                self.headless.run(_any_of((wanted | upstream) - market), span, "backfill")
        return self._ended({"text": f"made {', '.join(sorted(wanted))} for {first} … {last}"})

    def forecast(self, origin: date | None, symbols: list[str]) -> dict[str, Any]:
        """Forecasts from one session, and their quantiles."""
        with self.headless.alone():
            self._ingest()
            session = origin or self._newest_session()
            self._refuse_unknown(symbols, session)
            narrowed = {name: {"symbols": symbols} for name in get_args(Family)} if symbols else None
            self.headless.run(FORECASTING, self._sessions(session, session), "forecast_once", narrowed)
        parameters = {
            "origin": session,
            "symbols": symbols or None,
            "horizon": self.settings.windows.predict_window,
        }
        found = self.warehouse.frame(_LATEST_FORECASTS, parameters)
        wide = found.pivot_table(
            index=["symbol", "model", "step", "target_ts", "in_sample"], columns="level", values="value"
        ).reset_index()
        wide.columns = [str(column) for column in wide.columns]
        return self._ended(
            {"origin": session, "forecasts": wide.to_dict("records"), "text": wide.to_string(index=False)}
        )

    def score(self) -> dict[str, Any]:
        """Scores of every forecast whose truth is here, and the scoreboard."""
        with self.headless.alone():
            span = self._test_span()
            self.headless.run("group:evaluation", span, "score")
        board = self.warehouse.frame("SELECT * FROM scoreboard WHERE metric = 'crps' AND horizon = 0 ORDER BY value")
        shown = board[["model", "baseline", "value", "skill", "skill_low", "skill_high", "verdict"]]
        return self._ended({"scoreboard": board.to_dict("records"), "text": shown.to_string(index=False)})

    def _ingest(self) -> None:
        sessions = pending_sessions(self.settings, self.home, self.warehouse, self.calendar, self.resources["source"])
        if not sessions:
            self.terminal.say("bars: nothing new")
            return
        self.terminal.say(f"bars: {len(sessions):,} sessions to make, {sessions[0]} … {sessions[-1]}")
        self.headless.run(SELECTIONS["ingest"], Span(sessions[0], sessions[-1]), "ingest_pending")

    def _test_span(self) -> Span:
        first, newest = self.settings.windows.test[0], self._newest_session()
        if newest < first:
            raise CandlecastError(
                f"no origin in range: the newest bar is of {newest}, and windows.test starts on {first}. "
                "Bring newer bars, or set windows.test earlier"
            )
        return self._sessions(first, newest)

    def _newest_session(self) -> date:
        row = self.warehouse.frame(_NEWEST, {"frequency": self.settings.market.frequency}).iloc[0]
        if not row["bars"]:
            raise CandlecastError("there are no bars yet: `candlecast run` or `candlecast backfill` brings them")
        return row["newest"].date()

    def _sessions(self, first: date, last: date) -> Span:
        found = self.calendar.sessions(
            max(first, self.settings.market.start), min(last, self.settings.market.end or last)
        )
        if not len(found):
            raise CandlecastError(
                f"no session of {self.calendar.name} in {first} … {last} "
                f"(market.start {self.settings.market.start}, market.end {self.settings.market.end})"
            )
        return Span(found[0].date(), found[-1].date())

    def _refuse_unknown(self, symbols: list[str], session: date) -> None:
        there = set(self.warehouse.frame("SELECT DISTINCT symbol FROM bars WHERE session = ?", [session])["symbol"])
        unknown = [symbol for symbol in symbols if symbol not in there]
        if unknown:
            raise CandlecastError(
                f"no bar of {', '.join(unknown)} on {session}; there are: {', '.join(sorted(there)) or 'none'}"
            )

    def _named(self, assets: str) -> set[str]:
        graph = self.headless.defs.resolve_asset_graph()
        try:
            found = dg.AssetSelection.from_string(assets).resolve(graph)
        except Exception as error:  # Dagster's parser has no error of its own in public
            raise CandlecastError(f"--assets {assets!r}: {error}") from None
        if not found:
            raise CandlecastError(f"--assets {assets!r} selects nothing")
        return {key.to_user_string() for key in found}

    def _upstream(self, names: set[str]) -> set[str]:
        graph = self.headless.defs.resolve_asset_graph()
        selection = dg.AssetSelection.assets(*names).upstream()
        return {key.to_user_string() for key in selection.resolve(graph)}

    def _partitioned(self, names: set[str]) -> bool:
        graph = self.headless.defs.resolve_asset_graph()
        return any(graph.get(dg.AssetKey(name)).is_partitioned for name in names)

    def _ended(self, result: dict[str, Any]) -> dict[str, Any]:
        made = self.terminal.watch.made
        result["assets"] = [
            {"asset": one.asset, "seconds": round(one.seconds or 0, 2), "peak_mib": round(one.peak_mib)} for one in made
        ]
        return result


def latest_report(settings: Settings) -> dict[str, Any]:
    """Where the newest report is, and the first lines of its verdict.

    Raises:
        CandlecastError: there is none yet.
    """
    home = Home(settings.home)
    pointer = home.reports / "latest.json"
    if not pointer.is_file():
        raise CandlecastError(f"no report in {home.reports} yet: `candlecast run` makes one")
    folder = home.reports / json.loads(pointer.read_text())["digest"]
    told = json.loads((folder / "report.json").read_text())
    verdict = [str(line) for line in told.get("verdict", [])][:VERDICT_LINES]
    report = str(folder / "report.html")
    text = "\n".join(["", *verdict, "", f"report: {report}", "to see the graph: make ui, then http://127.0.0.1:3000"])
    return {"report": report, "digest": folder.name, "verdict": verdict, "text": text}


def lineage_of(settings: Settings, name: str) -> Node:
    """The lineage of an asset, or of a digest."""
    from orchestration.build import build_defs, build_resources

    resources = build_resources(settings)
    defs = build_defs(settings=settings, resource_overrides=resources)
    instance = open_instance(settings)
    return Lineage(resources["home"], resources["warehouse"], resources["checkpoints"], defs, instance).of(name)


def roll_back(settings: Settings, kind: str) -> dict[str, Any]:
    """The champion before the present one, in use again."""
    home = Home(settings.home)
    with only_run(home):
        decision = rollback(CheckpointStore(home), cast(Kind, kind))
    text = f"{kind}: {decision.digest[:16]} is in use, in place of {(decision.over or '–')[:16]}; {decision.why}"
    return {"digest": decision.digest, "over": decision.over, "why": decision.why, "text": text}


def export_champion(settings: Settings, kind: str, to: Path, digest: str | None, name: str | None) -> dict[str, Any]:
    """A checkpoint as folders; with a name, on the hub too."""
    folders = export(CheckpointStore(Home(settings.home)), cast(Kind, kind), to, digest)
    addresses = push(folders, name) if name else []
    told = [*map(str, folders.values()), *addresses]
    return {
        "folders": {part: str(folder) for part, folder in folders.items()},
        "hub": addresses,
        "text": "\n".join(told),
    }


def _any_of(names: set[str]) -> str:
    return " or ".join(f'key:"{name}"' for name in sorted(names))
