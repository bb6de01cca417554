"""What the commands that materialise assets do: which assets for which sessions, in which order.

Not here: how a job is run (orchestration.cli.headless) or shown (orchestration.cli.terminal).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from functools import reduce
from operator import or_
from typing import Any

import dagster as dg

from assets.forecasting.companion import WEIGHTS, start_companion
from assets.forecasting.registry import checkpoints_in_use, plugin_problems
from assets.forecasts.missing import lacks_newest_origin
from assets.market.checks import gate
from assets.market.ingest.ingest import rebuild
from assets.market.ingest.lake import Lake
from assets.market.ingest.pending import pending_sessions
from assets.market.selection import source_filter
from orchestration.cli.artifacts import backtest_measures, champions, newest_report, scores_and_costs
from orchestration.cli.forecast_files import ON_TERMINAL, ForecastFiles, as_table
from orchestration.cli.forecast_origin import ForecastOrigin
from orchestration.cli.headless import HeadlessRunner
from orchestration.cli.instance import run_lock
from orchestration.cli.preflight import bar_problems, require_none, settings_problems
from orchestration.cli.run_summary import RunSummary, summarise
from orchestration.cli.selections import BACKTESTS, EVALUATION, MODELLING, TRAINED, names, to_make, with_keys
from orchestration.cli.session_ranges import LeftOut, SessionPlanner, SessionRange
from orchestration.cli.terminal import Terminal
from orchestration.jobs import SELECTIONS, JobName, without_training
from orchestration.staleness.plan import RunPlan, Staleness
from resources.errors import CandlecastError
from resources.layout import Home
from resources.progress import progress_of
from resources.settings import Settings
from resources.vintages import first_vintage, has_vintages, vintage_of, vintages_until


class Pipeline:
    """The asset graph of one set of settings, materialised in this process."""

    def __init__(self, settings: Settings, terminal: Terminal) -> None:
        self.settings = settings
        self.terminal = terminal
        self.home = Home(settings.home)
        self.runner = HeadlessRunner(settings, terminal.monitor)
        candlecast = self.runner.candlecast
        self.warehouse, self.source, self.checkpoints = candlecast.warehouse, candlecast.source, candlecast.checkpoints
        self.sessions = SessionPlanner(settings, candlecast.calendar, self.warehouse)

    def run(self, assets: str | None = None) -> dict[str, Any]:
        """Materialise the whole graph, or a selection with all that is upstream of it; existing results are kept."""
        if assets is not None:
            return self._run_selection(assets)
        with self.runner.locked(), self._summarised() as summary:
            require_none(settings_problems(self.runner.candlecast))
            self._ingest()
            sessions = self.sessions.forecast_range()
            require_none(bar_problems(self.settings, self.warehouse, self.sessions.calendar))
            plan = self._make_stale(self._names_of(MODELLING), sessions, gate())
        return self._with_assets({**newest_report(self.settings), **plan.as_json(), **summary})

    def _run_selection(self, assets: str) -> dict[str, Any]:
        selected = self._resolve(assets)
        needed = selected | self._upstream(selected)
        market, plan = needed & self._resolve("group:market"), RunPlan({}, ())
        with self.runner.locked(), self._summarised() as summary:
            if market:
                self._ingest()
            if others := needed - market:
                sessions = self.sessions.forecast_range() if self._partitioned(others) else None
                plan = self._make_stale(others, sessions, gate() if market else None)
        made = {"text": f"materialised {', '.join(sorted(selected - set(plan.up_to_date)) or ['nothing'])}"}
        return self._with_assets({**made, **plan.as_json(), **summary})

    def ingest(self) -> dict[str, Any]:
        """Materialise the market assets of every session whose bars are missing or would change."""
        with self.runner.locked(), self._summarised() as summary:
            self._ingest()
        return self._with_assets({**summary})

    def backfill(self, first: date, last: date, assets: str) -> dict[str, Any]:
        """Materialise a selection for a range of sessions, upstream assets first.

        Sessions for which neither the home nor the source has bars are left out, and stay missing.
        """
        if last < first:
            raise CandlecastError(f"--to {last} is before --from {first}")
        selected = self._resolve(assets)
        with self.runner.locked(), self._summarised() as summary:
            sessions = self.sessions.between(first, last)
            market = self._resolve("group:market")
            needed = selected | self._upstream(selected)
            pending = self._pending()
            parts = self.sessions.parts(self.sessions.with_bars(sessions, pending))
            left_out = self._left_out(sessions, parts)
            if parts:
                sessions = SessionRange(parts[0].first, parts[-1].last)
            if selected & market:
                for part in parts:
                    self.runner.run(dg.AssetSelection.assets(*(needed & market)), part, "ingest")
                if pending and not parts:
                    self._ingest(pending)
            if needed - market:
                require_none(list(plugin_problems(self.settings, self.checkpoints).values()))
                self._ingest(None if selected & market else pending)
                partitioned = self._partitioned(needed - market)
                modelling = dg.AssetSelection.assets(*(needed - market)) | gate()
                self._materialise(modelling, sessions if partitioned else None, "everything")
        covered = f"{sessions.first} … {sessions.last}" if parts else "no session"
        text = f"materialised {', '.join(sorted(selected))} for {covered}"
        return self._with_assets({"text": text, "left_out": left_out.as_json(), **summary})

    def train(self, models: Sequence[str]) -> dict[str, Any]:
        """Build the training windows and fit these models; a checkpoint whose recipe exists is not fitted again."""
        kinds = [kind for model in models for kind in TRAINED[model]]
        with self.runner.locked(), self._summarised() as summary:
            self._ingest()
            sessions = self.sessions.test_range() if has_vintages(self.settings.windows) else None
            self._materialise(dg.AssetSelection.assets("training_windows", *kinds) | gate(), sessions, "train")
        newest = vintage_of(self.settings.windows, sessions.last) if sessions else None
        return self._with_assets({**champions(self.checkpoints.at(newest), kinds), **summary})

    def forecast(self, session: date | None, symbols: list[str], files: ForecastFiles = ON_TERMINAL) -> dict[str, Any]:
        """Forecast from one session, by default the newest, and return the quantiles."""
        windows = self.settings.windows
        with self.runner.locked(), self._summarised() as summary:
            require_none(list(plugin_problems(self.settings, self.checkpoints).values()))
            sessions = self.sessions.between(session, session) if session else None
            self._ingest()
            session = session or self.sessions.newest_with_bars()
            origin = ForecastOrigin.of(session, symbols, self.settings, self.sessions.calendar)
            sources = source_filter(self.settings, self.warehouse)
            origin.require_bars(self.warehouse, self.settings.market.frequency, windows.lookback_window, sources)
            config = {name: {"symbols": origin.requested} for name in self.settings.forecast_assets}
            sessions = sessions or self.sessions.between(session, session)
            self._forecast(sessions, config if origin.requested else None)
            used = checkpoints_in_use(self.settings, self.checkpoints)
            shown = origin.quantiles(self.warehouse, used, fields=["close"], steps=sorted({1, windows.predict_window}))
            written = files.write(origin, self.warehouse, used, self.settings.market.frequency)
        text = "\n".join([as_table(shown), *written])
        forecasts = {"origin": session, "forecasts": shown.to_dict("records"), "text": text}
        return self._with_assets({**forecasts, "csv": files.csv, "plot": files.plot, **summary})

    def score(self) -> dict[str, Any]:
        """Score every forecast whose actuals exist, and update the scoreboard."""
        with self.runner.locked(), self._summarised() as summary:
            self.runner.run(EVALUATION, self.sessions.test_range(), "forecast")
        scores = scores_and_costs(self.warehouse, checkpoints_in_use(self.settings, self.checkpoints))
        return self._with_assets({**scores, **summary})

    def backtest(self) -> dict[str, Any]:
        """Score the stored forecasts, run the backtests and publish the report; nothing is forecast."""
        with self.runner.locked(), self._summarised() as summary:
            sessions = self.sessions.test_range()
            if not self.warehouse.frame("SELECT count(*) AS n FROM forecasts")["n"][0]:
                raise CandlecastError(f"no forecasts in {self.home.root} yet: `candlecast run` makes them")
            self.runner.run(BACKTESTS, sessions, "backtest")
        report, measured = newest_report(self.settings), backtest_measures(self.warehouse)
        text = f"{report['text']}\n\n{measured.pop('text')}"
        return self._with_assets({**report, **measured, "text": text, **summary})

    def rebuild(self) -> dict[str, Any]:
        """Rebuild the market tables from the lake."""
        with run_lock(self.home):
            done = rebuild(Lake(self.home), self.warehouse, progress_of("market tables"))
        text = f"rebuilt from {done.batches:,} batches: {done.received:,} rows, {done.kept:,} kept"
        return {"batches": done.batches, "received": done.received, "kept": done.kept, "text": text}

    def _materialise(
        self,
        selection: dg.AssetSelection,
        sessions: SessionRange | None,
        name: JobName,
        config: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        """Run a selection; with vintages its models first, in a run for each vintage that the sessions need."""
        networks = self._names_of(selection) & set(WEIGHTS)
        if sessions and lacks_newest_origin(self.runner.candlecast, networks, sessions.first, sessions.last):
            start_companion(self.settings)
        models = self._names_of(selection & SELECTIONS["train"])
        if sessions and models and has_vintages(self.settings.windows):
            for vintage in self._vintages(sessions):
                training = dg.AssetSelection.assets(*sorted(models)) | gate()
                self.runner.run(training, SessionRange(vintage, vintage), "train")
            selection = without_training(selection)
            if not self._names_of(selection):
                return
        self.runner.run(selection, sessions, name, config)

    def _make_stale(
        self, selected: set[str], sessions: SessionRange | None, gates: dg.AssetSelection | None
    ) -> RunPlan:
        """Materialise those of the assets that are stale, and return the plan. Checks of age and gates always run."""
        staleness, plan = self._plan(selected, sessions)
        if chosen := [*([gates] if gates else []), *to_make(plan)]:
            covered_by_run = sessions if self._partitioned(plan.stale) else None
            if covered_by_run and plan.first:
                newer = SessionRange(plan.first, covered_by_run.last)
                self._materialise(reduce(or_, chosen), newer, "everything")
            if not plan.first or staleness.other_recipes(plan):
                self._materialise(reduce(or_, chosen), covered_by_run, "everything")
        staleness.record(plan)
        return plan

    def _forecast(self, sessions: SessionRange, config: Mapping[str, Mapping[str, object]] | None) -> None:
        """Forecast from some sessions, after the gates and those of the models' assets that are stale."""
        staleness, plan = self._plan(self._names_of(SELECTIONS["train"]), None)
        chosen = [gate(), dg.AssetSelection.groups("forecasts"), *to_make(plan)]
        self._materialise(reduce(or_, chosen), sessions, "forecast", config)
        staleness.record(plan)

    def _plan(self, selected: set[str], sessions: SessionRange | None) -> tuple[Staleness, RunPlan]:
        """Which of some assets are stale; the others are reported as an earlier command made them."""
        runner = self.runner
        covered = (sessions.first, sessions.last) if sessions else None
        staleness = Staleness(runner.candlecast, runner.defs.resolve_asset_graph(), runner.instance, covered)
        plan = staleness.plan(selected)
        for line in plan.lines():
            self.terminal.print(line)
        self.terminal.monitor.recall(runner.instance, plan.up_to_date)
        return staleness, plan

    def _vintages(self, sessions: SessionRange) -> list[date]:
        """The vintages that forecast some sessions, oldest first."""
        windows = self.settings.windows
        oldest = vintage_of(windows, max(sessions.first, min(first_vintage(windows), sessions.last)))
        return [one for one in vintages_until(windows, sessions.last) if oldest and one >= oldest]

    @contextmanager
    def _summarised(self) -> Iterator[dict[str, Any]]:
        """Print the summary after the block, also if it fails; yields the summary as JSON values, filled at the end."""
        values: dict[str, Any] = {}
        try:
            yield values
        except Exception:
            # What stopped the command matters more than a summary that cannot be read.
            with suppress(Exception):
                self._print_summary()
            raise
        else:
            values.update(self._print_summary().as_json())

    def _print_summary(self) -> RunSummary:
        runner = self.runner
        summary = summarise(runner.candlecast, runner.defs, runner.instance, self.terminal.monitor)
        for line in summary.lines():
            self.terminal.print(line)
        return summary

    def _pending(self) -> list[date]:
        """The closed sessions whose bars the source would add or change. One has no partition before midnight UTC."""
        pending = pending_sessions(self.settings, self.home, self.warehouse, self.sessions.calendar, self.source)
        closed = self.sessions.last_closed() if pending else None
        return [session for session in pending if closed and session <= closed]

    def _ingest(self, pending: list[date] | None = None) -> None:
        """Ingest the result of `_pending`; None: it is not known yet."""
        sessions = self._pending() if pending is None else pending
        if not sessions:
            self.terminal.print("bars: nothing new")
            return
        self.terminal.print(f"bars: {len(sessions):,} sessions to ingest, {sessions[0]} … {sessions[-1]}")
        wanted = SessionRange(min(self.settings.market.start, sessions[0]), sessions[-1])
        self._left_out(wanted, self.sessions.parts(self.sessions.with_bars(wanted, sessions)))
        for part in self.sessions.parts(sessions):
            self.runner.run(SELECTIONS["ingest"], part, "ingest")

    def _left_out(self, wanted: SessionRange, parts: Sequence[SessionRange]) -> LeftOut:
        """The sessions of a range that are in none of its parts, which are printed."""
        found = self.sessions.left_out(wanted, parts)
        if found.ranges:
            self.terminal.print(found.text)
        return found

    def _resolve(self, selection: str) -> set[str]:
        graph = self.runner.defs.resolve_asset_graph()
        try:
            found = dg.AssetSelection.from_string(selection).resolve(graph)
        except Exception as error:  # Dagster's parser has no public error class
            remedy = with_keys(selection, names(graph.get_all_asset_keys()))
            raise CandlecastError(f"--assets {selection!r}: {error}{remedy}") from None
        if not found:
            raise CandlecastError(f"--assets {selection!r} selects no asset")
        return names(found)

    def _names_of(self, selection: dg.AssetSelection) -> set[str]:
        return names(selection.resolve(self.runner.defs.resolve_asset_graph()))

    def _upstream(self, selected: set[str]) -> set[str]:
        return self._names_of(dg.AssetSelection.assets(*selected).upstream())

    def _partitioned(self, selected: Iterable[str]) -> bool:
        graph = self.runner.defs.resolve_asset_graph()
        return any(graph.get(dg.AssetKey(name)).is_partitioned for name in selected)

    def _with_assets(self, result: dict[str, Any]) -> dict[str, Any]:
        """The result with the time and memory of every asset of the command's runs."""
        return {**result, "assets": [run.as_json() for run in self.terminal.monitor.assets]}
