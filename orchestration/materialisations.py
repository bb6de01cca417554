"""Materialisations in Dagster's records: the version of each, what it read, and the assets that it was made from.

Two readers of the same records: `DagsterRecords` by Dagster's interface, from any storage, and `SqliteRecords` by SQL
from the index file of the project's own event log, as importing Dagster and its storage takes longer than a lineage.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml

from orchestration.cli.instance import INSTANCE_FILE
from resources.layout import Home
from resources.sql import load_sql

if TYPE_CHECKING:
    import dagster as dg

VERSION_TAG, INPUT_TAG = "dagster/data_version", "dagster/input_data_version/"
COLUMN_LINEAGE = "dagster/column_lineage"
# Records are read newest first. The first ones mostly suffice; a run over a range of sessions has one per session.
PAGES = (20, 200, *[1000] * 50)
# The storage that writes `INDEX_FILE`, as dagster.yaml names it.
OWN_EVENT_LOG = {"module": "orchestration.event_log", "class": "PooledSqliteEventLog"}
INDEX_FILE = Path("history", "runs", "index.db")
_MATERIALISATIONS = load_sql("orchestration", "materialisations.sql")


@dataclass(frozen=True)
class Record:
    """One materialisation in Dagster's records.

    Attributes:
        number: its place in the order of all records.
        inputs: the data versions that it read, by asset: of every asset that it was made from.
        reads: the columns that it was computed from, as `asset.column`.
    """

    number: int
    version: str
    run: str
    inputs: Mapping[str, str]
    reads: tuple[str, ...] = ()

    @classmethod
    def of(cls, number: int, run: str, tags: Mapping[str, str], columns: Iterator[str]) -> Record:
        """A record by its tags, and columns of which each is kept once."""
        inputs = {tag.removeprefix(INPUT_TAG): value for tag, value in tags.items() if tag.startswith(INPUT_TAG)}
        return cls(number, tags.get(VERSION_TAG, "–"), run, inputs, tuple(dict.fromkeys(columns)))

    @property
    def facts(self) -> dict[str, Any]:
        reads = {"reads": ", ".join(self.reads)} if self.reads else {}
        return {"data_version": self.version, "run": self.run, **reads}


class Records(Protocol):
    """The materialisations of assets, and the graph of the code location for assets without one."""

    def newest_first(self, asset: str, before: int | None = None) -> Iterator[Record]:
        """The records of an asset, the newest first; `before`: only those with a smaller number."""

    def parents(self) -> Mapping[str, list[str]]:
        """The assets of the code location, and those that each is made from, in alphabetical order."""


class DagsterRecords:
    """The records of any storage of Dagster."""

    def __init__(self, defs: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self._defs, self._instance = defs, instance

    def newest_first(self, asset: str, before: int | None = None) -> Iterator[Record]:
        import dagster as dg

        cursor = None
        wanted = dg.AssetRecordsFilter(dg.AssetKey(asset), before_storage_id=before)
        for size in PAGES:
            page = self._instance.fetch_materializations(wanted, limit=size, cursor=cursor)
            for record in page.records:
                made = record.asset_materialization
                lineage = made.metadata.get(COLUMN_LINEAGE) if made else None
                tags = (made.tags if made else None) or {}
                yield Record.of(record.storage_id, record.run_id, tags, _columns(lineage))
            if not page.has_more:
                return
            cursor = page.cursor

    def parents(self) -> Mapping[str, list[str]]:
        return parents_in(self._defs)


class SqliteRecords:
    """The records of the project's own event log, read-only, by SQL.

    Args:
        file: the event log's index of all runs.
        parents: reads the graph of the code location, which imports Dagster.
    """

    def __init__(self, file: Path, parents: Callable[[], Mapping[str, list[str]]]) -> None:
        self._file, self._read_parents = file, parents

    @classmethod
    def file(cls, home: Home) -> Path | None:
        """The index file of a home; None: there is none, it cannot be read, or another storage is configured."""
        index, configured = home.dagster / INDEX_FILE, home.dagster / INSTANCE_FILE
        with suppress(OSError, ValueError, yaml.YAMLError, sqlite3.Error):
            settings = yaml.safe_load(configured.read_bytes())
            own = isinstance(settings, dict) and settings.get("event_log_storage") == OWN_EVENT_LOG
            # Its default folder follows DAGSTER_HOME, which is the home's, not the folder of another storage.
            if own and "storage" not in settings and index.is_file():
                with closing(_connect(index)) as connection:
                    connection.execute(_MATERIALISATIONS, {"asset": "[]", "before": None}).fetchone()
                return index
        return None

    def newest_first(self, asset: str, before: int | None = None) -> Iterator[Record]:
        wanted = {"asset": json.dumps([asset]), "before": before}
        with closing(_connect(self._file)) as connection:
            for number, run, event in connection.execute(_MATERIALISATIONS, wanted):
                made = json.loads(event)["dagster_event"]["event_specific_data"]["materialization"]
                entries = {one["label"]: one["entry_data"] for one in made["metadata_entries"]}
                tags = made.get("tags") or {}
                yield Record.of(number, run, tags, _stored_columns(entries.get(COLUMN_LINEAGE)))

    def parents(self) -> Mapping[str, list[str]]:
        return self._parents

    @cached_property
    def _parents(self) -> Mapping[str, list[str]]:
        return self._read_parents()


def parents_in(defs: dg.Definitions) -> Mapping[str, list[str]]:
    """The assets of some definitions, and those that each is made from, in alphabetical order."""
    graph = defs.resolve_asset_graph()
    return {
        key.to_user_string(): sorted(parent.to_user_string() for parent in graph.get(key).parent_keys)
        for key in sorted(graph.get_all_asset_keys())
    }


def _connect(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)


def _columns(lineage: Any) -> Iterator[str]:
    for deps in lineage.value.deps_by_column.values() if lineage is not None else ():
        yield from (f"{one.asset_key.to_user_string()}.{one.column_name}" for one in deps)


def _stored_columns(lineage: Any) -> Iterator[str]:
    """`_columns` of the JSON that Dagster stores."""
    for deps in lineage["column_lineage"]["deps_by_column"].values() if lineage is not None else ():
        yield from (f"{'/'.join(one['asset_key']['path'])}.{one['column_name']}" for one in deps)
