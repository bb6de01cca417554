"""The plan of a run: which assets are stale, by what was recorded when the last run had made them.

After a run that succeeded, the digests of all that each of its assets reads and writes are recorded in the home. An
asset whose digests are the same now is up to date: running it again would find nothing to do. Every other one is
stale, and all that is downstream of it. Where that is not known, as after an interrupted run or one of another process,
an asset is stale.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from graphlib import TopologicalSorter
from pathlib import Path

import dagster as dg

from assets.forecasting.forecaster import ForecastModel
from assets.forecasting.registry import models_in_use, models_of
from assets.training.data.windows import WINDOWS_VERSION
from orchestration.staleness.contents import (
    BY_MODEL,
    FileDigests,
    TableDigests,
    digest_of_code,
    digest_of_named_file,
    digest_of_settings,
    digests_of_tables,
    models_that_failed,
)
from orchestration.staleness.new_sessions import COVERED, GROWTH, covered_by, first_new
from orchestration.staleness.reads import FILES, FORECASTS, PATHS, Reads, reads_of
from orchestration.staleness.recipes import KINDS, model_recipes, report_facts, training_recipe
from orchestration.staleness.records import AssetGraph, Records
from resources.candlecast import Candlecast
from resources.errors import CandlecastError
from resources.integrity import publish_kept_json, read_kept_json
from resources.publish import digest_of
from resources.vintages import has_vintages

MARKET_TABLES = frozenset({"bars", "bar_versions", "corporate_actions", "rejected_bars", "payloads"})
PARTS = ("settings", "code", "sessions", "bars", "records", "recipes", "tables", "files")
NOT_RECORDED, UPSTREAM = "not recorded", "an asset upstream is stale"
CHANGED, TRAINING = "changed: ", "training"
UNEXPLAINED = (NOT_RECORDED, UPSTREAM)
# By the name of what was compared (PARTS), the digest.
Digests = Mapping[str, str]


@dataclass(frozen=True)
class RunPlan:
    """What a run makes, and what it leaves out.

    Attributes:
        stale: by asset, why it is made: what has changed, or the asset upstream that is stale.
        up_to_date: the other assets, sorted.
        first: the first session that the stale assets are made for, of those with partitions. None: of the whole range.
    """

    stale: Mapping[str, str]
    up_to_date: tuple[str, ...]
    first: date | None = None

    def lines(self) -> Iterator[str]:
        """The plan as text: what is left out, and of the others those that something has changed for."""
        if self.up_to_date:
            yield f"up to date: {', '.join(self.up_to_date)}"
        changed = [f"{name} ({reason})" for name, reason in self.stale.items() if reason not in UNEXPLAINED]
        if self.up_to_date and changed:
            yield f"stale: {'; '.join(changed)}"
        if self.first:
            yield f"nothing changed before the sessions from {self.first} on: forecasts and scores are made for these"

    def as_json(self) -> dict[str, object]:
        """The plan as JSON values."""
        first = self.first and str(self.first)
        return {"up_to_date": list(self.up_to_date), "stale": dict(self.stale), "first_session": first}


@dataclass
class _Seen:
    """The state of a home at one moment; each part is read once."""

    tables: dict[str, TableDigests]
    failed: set[str]
    files: FileDigests
    used: list[ForecastModel] | None = None


class Staleness:
    """The comparison of a home with what was recorded of it.

    Args:
        graph: the assets and their checks.
        sessions: the first and the last session of the run; None: the run has no partitioned assets.
    """

    def __init__(
        self,
        candlecast: Candlecast,
        graph: AssetGraph,
        instance: dg.DagsterInstance,
        sessions: tuple[date, date] | None,
    ) -> None:
        self.candlecast, self.graph, self.sessions = candlecast, graph, sessions
        self.records = Records(instance, graph)
        self.reads = reads_of(candlecast.settings)
        self.file = candlecast.home.up_to_date
        self._began = datetime.now(UTC)
        # A change of bars or settings while the run is made is not part of what the run has read.
        self._before: dict[str, Digests] = {}
        self._files = FileDigests(candlecast.home)

    def plan(self, names: Iterable[str]) -> RunPlan:
        """The assets of a selection that are stale, with all of the selection that is downstream of them."""
        names = set(names)
        if has_vintages(self.candlecast.settings.windows):
            return RunPlan(dict.fromkeys(names, "models have vintages"), ())
        recorded: dict[str, Digests] = read_kept_json(self.file, self.candlecast.home.root) or {}
        seen = self._look(names)
        stale: dict[str, str] = {}
        for name in self._ordered(names):
            self._before[name] = own = self._digests(name, seen)
            upstream = sorted(self._parents(name) & stale.keys())
            if upstream:
                stale[name] = UPSTREAM
            elif reason := self._reason(name, own, recorded.get(name), seen):
                stale[name] = reason
        return RunPlan(stale, tuple(sorted(names - stale.keys())), self._first(stale, recorded, seen))

    def other_recipes(self, plan: RunPlan) -> bool:
        """Whether the assets with partitions would make other forecasts now than when they were planned.

        So it is after another champion was trained: sessions before `plan.first` have no forecasts of it.
        """
        seen = _Seen({}, set(), self._files)
        for name in plan.stale:
            if self.graph.get(dg.AssetKey(name)).is_partitioned and name in self.reads:
                made = digest_of(self._recipes(name, self.reads[name], seen))
                if made != self._before[name].get("recipes"):
                    return True
        return False

    def record(self, plan: RunPlan) -> None:
        """Record the state of the assets that a plan's run has made. Only after it succeeded.

        Nothing is recorded if a run of another process, of which it is not known what it read and wrote, was active.
        """
        if not plan.stale or not self._before or self.records.others_since(self._began):
            return
        recorded: dict[str, Digests] = read_kept_json(self.file, self.candlecast.home.root) or {}
        seen, covered = self._look(plan.stale), covered_by(self.candlecast, self.sessions)
        for name in plan.stale:
            recorded.pop(name, None)
            own = {**self._digests(name, seen), **_unwritten(self._before[name]), **covered}
            if not self._changed_since(name, seen):
                recorded[name] = own
        publish_kept_json(self.file, recorded)

    def _first(self, stale: Mapping[str, str], recorded: Mapping[str, Digests], seen: _Seen) -> date | None:
        """The first session that stale assets with partitions are made for. None: all sessions of the run.

        Where sessions have come since the last run and nothing else has changed, what it made is as another run would
        make it.
        """
        nodes = {name: self.graph.get(dg.AssetKey(name)) for name in stale}
        partitioned = [name for name, node in nodes.items() if node.is_partitioned]
        models = [name for name, node in nodes.items() if node.group_name == TRAINING]
        if self.sessions is None or not partitioned:
            return None
        if any(self._changed(name, recorded, seen) - GROWTH for name in (*partitioned, *models)):
            return None
        return first_new(self.candlecast, self.sessions, [recorded[name] for name in partitioned])

    def _changed(self, name: str, recorded: Mapping[str, Digests], seen: _Seen) -> set[str]:
        """The parts of an asset that have changed; a name for what else makes it stale."""
        reason = self._reason(name, self._before[name], recorded.get(name), seen)
        return (
            set(reason.removeprefix(CHANGED).split(", ")) if reason.startswith(CHANGED) else {*filter(None, [reason])}
        )

    def _look(self, names: Iterable[str]) -> _Seen:
        """The present state of what some assets read."""
        warehouse = self.candlecast.warehouse
        read = {table for name in names if name in self.reads for table in self.reads[name].tables}
        tables = digests_of_tables(warehouse, sorted(read))
        return _Seen(tables, models_that_failed(warehouse), self._files)

    def _digests(self, name: str, seen: _Seen) -> Digests:
        """The digests of what an asset reads and writes; without some that cannot be known now."""
        reads = self.reads.get(name)
        if reads is None:
            return {}
        settings, node = self.candlecast.settings, self.graph.get(dg.AssetKey(name))
        found = {
            "settings": digest_of([digest_of_settings(settings, reads.settings), self._named_files(reads)]),
            "code": digest_of([digest_of_code(node.group_name), node.code_version]),
            "sessions": digest_of(self.sessions if node.is_partitioned else None),
            "bars": digest_of({one: sorted(seen.tables[one].items()) for one in MARKET_TABLES & set(reads.tables)}),
            "records": digest_of(self.records.of(name)),
        }
        with suppress(CandlecastError, OSError):
            found["recipes"] = digest_of(self._recipes(name, reads, seen))
            found["tables"] = digest_of(self._rows(reads, seen))
            found["files"] = seen.files.of(self._folders(reads, seen))
        return found

    def _reason(self, name: str, own: Digests, recorded: Digests | None, seen: _Seen) -> str:
        """Why an asset is stale; empty: it is not."""
        if not recorded:
            return NOT_RECORDED
        if changed := sorted(
            part for part in {*own, *recorded, *PARTS} - {*COVERED} if own.get(part, "") != recorded.get(part)
        ):
            return f"{CHANGED}{', '.join(changed)}"
        if name in self.candlecast.settings.forecast_assets:
            failed = sorted({one.model for one in self._of_assets((name,))} & seen.failed)
            if failed:
                return f"forecasts of {', '.join(failed)} failed"
        if self.records.has_failed_checks(name):
            return "a check failed"
        return "a picture is missing" if self.records.lacks_pictures(name, self.candlecast.home) else ""

    def _named_files(self, reads: Reads) -> list[str]:
        sections = {key.partition(".")[0] for key in reads.settings}
        return [digest_of_named_file(self.candlecast.settings, key) for key in FILES if key.split(".")[0] in sections]

    def _recipes(self, name: str, reads: Reads, seen: _Seen) -> object:
        """The recipes of what an asset makes and reads."""
        if name == "training_windows":
            return WINDOWS_VERSION
        for kind in KINDS:
            if kind == name:
                return training_recipe(kind, self.candlecast)
        if reads.rows_of:
            return model_recipes(self._of_assets(reads.rows_of))
        used = model_recipes(self._used(seen)) if set(FORECASTS) & set(reads.tables) else None
        if name == "backtest_report":
            return [used, report_facts(self.candlecast, self.records.market_warnings())]
        return used

    def _rows(self, reads: Reads, seen: _Seen) -> object:
        """The digests of the tables that the run may write."""
        wanted = {(one.model, one.checkpoint) for one in self._of_assets(reads.rows_of)} if reads.rows_of else None
        return {
            table: sorted(
                (key, digest)
                for key, digest in seen.tables[table].items()
                if wanted is None or table not in BY_MODEL or key in wanted
            )
            for table in set(reads.tables) - MARKET_TABLES
        }

    def _folders(self, reads: Reads, seen: _Seen) -> list[Path]:
        home, found = self.candlecast.home, list[Path]()
        for name in reads.folders:
            if name == PATHS:
                models = self._of_assets(reads.rows_of) if reads.rows_of else self._used(seen)
                found += [home.paths / one.model / one.checkpoint for one in models]
            else:
                found += seen.files.current(name)
        return found

    def _used(self, seen: _Seen) -> list[ForecastModel]:
        if seen.used is None:
            seen.used = models_in_use(self.candlecast.settings, self.candlecast.checkpoints)
        return seen.used

    def _of_assets(self, assets: Iterable[str]) -> list[ForecastModel]:
        return [
            one for name in assets for one in models_of(name, self.candlecast.settings, self.candlecast.checkpoints)
        ]

    def _changed_since(self, name: str, seen: _Seen) -> bool:
        """Whether a file that an asset reads was changed after it was made, or the asset was not made."""
        made, reads = self.records.made_at(name), self.reads.get(name)
        if made is None or reads is None or made < self._began.timestamp():
            return True
        try:
            return seen.files.newest(self._folders(reads, seen)) > made
        except (CandlecastError, OSError):
            return True

    def _parents(self, name: str) -> set[str]:
        return {key.to_user_string() for key in self.graph.get(dg.AssetKey(name)).parent_keys}

    def _ordered(self, names: set[str]) -> list[str]:
        """Upstream assets first."""
        sorter = TopologicalSorter({name: self._parents(name) & names for name in sorted(names)})
        return list(sorter.static_order())


def _unwritten(before: Digests) -> Digests:
    """The digests of what a run never writes, as it found them."""
    return {part: before[part] for part in ("settings", "code", "sessions", "bars") if part in before}
