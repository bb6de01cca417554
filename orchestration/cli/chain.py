"""The main job and its parts, in order: what `run`, `backfill`, `forecast` and `score` do.

Belongs here: which sessions and which assets, given what is there already. Not here: how a job is run
(orchestration.cli.headless) or shown (orchestration.cli.terminal).
"""

from datetime import date
from pathlib import Path
from typing import Any, cast, get_args

import dagster as dg

from assets.backtests.report.publish import latest_report
from assets.forecasting.registry import Family, checkpoints_in_use
from assets.market.ingest.pending import pending_sessions
from assets.market.universe import wanted_symbols
from assets.sessions import session_partitions
from assets.training.export import export, push
from assets.training.model_selection.promotion import rollback
from orchestration.cli.forecast_origin import Origin
from orchestration.cli.headless import Headless, Span, only_run, open_instance
from orchestration.cli.terminal import Terminal
from orchestration.jobs import SELECTIONS
from orchestration.lineage import Lineage, Node
from resources.candlecast import Candlecast
from resources.checkpoints import CheckpointStore, Kind
from resources.errors import CandlecastError
from resources.layout import Home
from resources.settings import Settings

FORECASTING = "group:training or group:forecasts"
MODELLING = "group:training or group:forecasts or group:evaluation or group:backtests"
VERDICT_LINES = 3
_NEWEST = """
SELECT max(session) AS newest, count(*) AS bars FROM bars
WHERE frequency = $frequency AND session BETWEEN $first AND $last
  AND ($symbols IS NULL OR list_contains($symbols, symbol))
"""


class Chain:
    """The chain of one set of settings, run in this process."""

    def __init__(self, settings: Settings, terminal: Terminal) -> None:
        self.settings = settings
        self.terminal = terminal
        self.home = Home(settings.home)
        self.headless = Headless(settings, terminal.watch)
        candlecast = self.headless.candlecast
        self.warehouse, self.calendar = candlecast.warehouse, candlecast.calendar
        self.checkpoints, self.source = candlecast.checkpoints, candlecast.source
        self.partitions = session_partitions(settings, self.calendar)

    def everything(self) -> dict[str, Any]:
        """The whole chain; what is there already stays."""
        with self.headless.alone():
            self._ingest()
            self.headless.run(MODELLING, self._test_span(), "modelling")
        return self._ended(newest_report(self.settings))

    def backfill(self, first: date, last: date, assets: str) -> dict[str, Any]:
        """A range of sessions of a selection; upstream first."""
        if last < first:
            raise CandlecastError(f"--to {last} is before --from {first}")
        wanted = self._named(assets)
        with self.headless.alone():
            span = self._sessions(first, last)
            market = self._named("group:market")
            needed = wanted | self._upstream(wanted)
            if wanted & market:
                self.headless.run(_any_of(needed & market), span, "backfill_market")
            if needed - market:
                self._ingest()
                partitioned = self._partitioned(needed - market)
                self.headless.run(_any_of(needed - market), span if partitioned else None, "backfill")
        return self._ended({"text": f"made {', '.join(sorted(wanted))} for {span.first} … {span.last}"})

    def forecast(self, origin: date | None, symbols: list[str]) -> dict[str, Any]:
        """Forecasts from one session, and their quantiles."""
        windows = self.settings.windows
        with self.headless.alone():
            span = self._sessions(origin, origin) if origin else None
            self._ingest()
            session = origin or self._newest_session()
            wanted = Origin.of(session, symbols, self.settings, self.calendar)
            wanted.refuse_without_bars(self.warehouse, self.settings.market.frequency, windows.lookback_window)
            narrowed = {name: {"symbols": wanted.asked} for name in get_args(Family)} if wanted.asked else None
            self.headless.run(FORECASTING, span or self._sessions(session, session), "forecast_once", narrowed)
            used = checkpoints_in_use(self.settings, self.checkpoints)
        shown = wanted.quantiles(self.warehouse, used, windows.predict_window)
        return self._ended(
            {"origin": session, "forecasts": shown.to_dict("records"), "text": shown.to_string(index=False)}
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
        pending = pending_sessions(self.settings, self.home, self.warehouse, self.calendar, self.source)
        # A session that is over has no partition before midnight.
        possible = self._last_possible() if pending else None
        sessions = [session for session in pending if possible and session <= possible]
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
        parameters = {
            "frequency": self.settings.market.frequency,
            "first": self.settings.market.start,
            "last": self._last_possible(),
            "symbols": wanted_symbols(self.settings),
        }
        row = self.warehouse.frame(_NEWEST, parameters).iloc[0]
        if not row["bars"]:
            raise CandlecastError(
                f"there are no bars of market.symbols in {parameters['first']} … {parameters['last']} yet: `candlecast "
                "run` or `candlecast backfill` brings them"
            )
        return row["newest"].date()

    def _sessions(self, first: date, last: date) -> Span:
        market = self.settings.market
        low, high = self.calendar.within(max(first, market.start), min(last, market.end or last))
        found = [day.date() for day in self.calendar.sessions(low, high)] if low <= high else []
        if not found:
            raise CandlecastError(
                f"no session of {self.calendar.name} in {first} … {last} "
                f"(market.start {market.start}, market.end {market.end})"
            )
        possible = self._last_possible()
        if found[-1] > possible:
            raise CandlecastError(
                f"session {found[-1]} is not over yet; the last that there can be is {possible} (a session's "
                "partition opens at 00:00 UTC after it)"
            )
        return Span(found[0], found[-1])

    def _last_possible(self) -> date:
        key = self.partitions.get_last_partition_key()
        if key is None:
            raise CandlecastError(
                f"no session of {self.calendar.name} since market.start {self.settings.market.start} is over yet"
            )
        return date.fromisoformat(key)

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


def newest_report(settings: Settings) -> dict[str, Any]:
    """Path, digest and the first lines of the verdict of the newest report.

    Raises:
        CandlecastError: there is none yet, or it cannot be read.
    """
    home = Home(settings.home)
    report = latest_report(home)
    if report is None:
        raise CandlecastError(f"no report in {home.reports} yet: `candlecast run` makes one")
    verdict = [str(line) for line in report.summary["verdict"]][:VERDICT_LINES]
    text = "\n".join(
        ["", *verdict, "", f"report: {report.html}", "to see the graph: make ui, then http://127.0.0.1:3000"]
    )
    return {"report": str(report.html), "digest": report.digest, "verdict": verdict, "text": text}


def lineage_of(settings: Settings, name: str) -> Node:
    """The lineage of an asset, or of a digest."""
    from orchestration.build import build_defs

    candlecast, defs = Candlecast(settings), build_defs(settings=settings)
    with open_instance(settings) as instance:
        return Lineage(candlecast.home, candlecast.warehouse, candlecast.checkpoints, defs, instance).of(name)


def roll_back(settings: Settings, kind: str, to: str | None = None) -> dict[str, Any]:
    """The champion before the present one, or the checkpoint that `to` names, in use again."""
    home = Home(settings.home)
    with only_run(home):
        decision = rollback(CheckpointStore(home), cast(Kind, kind), to)
    over = f", in place of {decision.over[:16]}" if decision.over else ""
    text = f"{kind}: {decision.digest[:16]} is in use{over}; {decision.why}"
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
