"""Dagster's SQLite event log with pooled connections and fewer, smaller events. That of PostgreSQL: postgres_event_log.

https://docs.dagster.io/deployment/oss/dagster-yaml#dagster-storage. Dagster's own creates a SQLAlchemy engine for every
statement, which takes 24 ms per event, and a backfill of thirteen years logs 13,000 events. Files, tables and semantics
are Dagster's: without this class in dagster.yaml, Dagster reads the same files. This is the only module that imports
from `dagster._core`, because the base class has no public name; pyproject.toml caps Dagster's minor version for it.
"""

import atexit
import logging
import os
import shutil
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as db
from dagster import Field, Noneable, StringSource
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.definitions.partitions.subset import DefaultPartitionsSubset
from dagster._core.errors import raise_execution_interrupts
from dagster._core.events import AssetMaterializationPlannedData
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._serdes import ConfigurableClassData, serialize_value
from dagster._utils.concurrency import ConcurrencyClaimStatus
from sqlalchemy.pool import QueuePool

from assets.metadata import DATA_VERSION_TAG, PARTITION_VERSION

logger = logging.getLogger("candlecast.pools")
OPEN_SHARDS = 16
# Of a planned event, stored one by one. More take more room than the first and the last one with the whole calendar.
MOST_KEYS = 100
BATCH_SIZE = 1_000
# Between two attempts to claim a slot of a full pool.
POOL_SECONDS = 0.5
# How long to wait for another process's transaction, as Dagster does.
BUSY_SECONDS = getattr(sqlite_event_log, "SQLITE_BUSY_TIMEOUT_SECONDS", 60)
# The folder of the events of a temporary instance, for the child processes of the one that created it.
TEMPORARY_FOLDER = "CANDLECAST_TEMPORARY_EVENT_LOG"


class CompactEventLog(SqlEventLogStorage):
    """What candlecast's event logs have in common: a data version per partition, and one planned event per run."""

    def store_event(self, event: EventLogEntry) -> None:
        super().store_event(compacted(event))

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        super().store_event_batch([compacted(event) for event in events])

    def _store_asset_check_evaluation_planned(self, event: EventLogEntry, event_id: int | None) -> None:
        """One row per check. Dagster writes one row per session, each with the whole plan, for checks without
        partitions too: 600 MB and 40 s for five checks of 5,400 sessions, and none of those rows is ever completed."""
        with self.index_connection() as connection:
            connection.execute(AssetCheckExecutionsTable.insert().values(**self._planned_check(event, event_id)))

    def _planned_check(self, event: EventLogEntry, event_id: int | None) -> dict[str, Any]:
        planned: Any = event.dagster_event and event.dagster_event.event_specific_data
        return {
            "asset_key": planned.asset_key.to_string(),
            "check_name": planned.check_name,
            "partition": None,
            "run_id": event.run_id,
            "execution_status": AssetCheckExecutionRecordStatus.PLANNED.value,
            "evaluation_event": serialize_value(event),
            "evaluation_event_timestamp": self._event_insert_timestamp(event),  # type: ignore[no-untyped-call]
            "evaluation_event_storage_id": event_id,
        }

    @property
    def supports_partition_subset_in_asset_materialization_planned_events(self) -> bool:
        """One planned event per run and asset; one per partition would double the log of a backfill."""
        return True


class PooledSqliteEventLog(CompactEventLog, SqliteEventLogStorage):
    """`SqliteEventLogStorage` that keeps the engines of the last 16 runs."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        # Events per call of `store_event_batch`; Dagster reads it from the environment alone.
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(BATCH_SIZE))
        self._engines: OrderedDict[str, db.Engine] = OrderedDict()
        self._known_tables: set[str] = set()
        self._known_columns: set[str] = set()
        self._reported_waits: set[tuple[str, str]] = set()
        super().__init__(base_dir, inst_data)

    @classmethod
    def config_type(cls) -> Any:
        return {"base_dir": Field(Noneable(StringSource), is_required=False, default_value=None)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "PooledSqliteEventLog":
        return cls(base_dir=config_value.get("base_dir") or str(_default_folder()), inst_data=inst_data)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Materialisations or planned events of a run: all in one transaction of each file, where Dagster has two or
        three for each.

        The run's file is written before the index, as in Dagster. Of several rows of an asset's newest event, which
        replace each other, the last one is written.
        """
        runs = {event.run_id for event in events}
        if len(runs) > 1 or not all(event.asset_materialization or _is_planned(event) for event in events):
            super().store_event_batch(events)
            return
        events = [compacted(event) for event in events]
        of_assets = [place for place, event in enumerate(events) if event.get_dagster_event().asset_key]
        newest = {events[place].get_dagster_event().asset_key: place for place in of_assets}
        rows = [self._event_to_row(event) for event in events]
        insert = SqlEventLogStorageTable.insert()
        numbered = insert.returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)
        with self._db_lock, self._transaction(INDEX_SHARD_NAME) as index, self._transaction(runs.pop()) as run:
            run.execute(insert, rows)
            ids = list(index.execute(numbered, rows).scalars())
            self._store_asset_event_tags(index, [events[one] for one in of_assets], [ids[one] for one in of_assets])
            for place in newest.values():
                self._store_asset_event(index, events[place], ids[place])
            checks = [self._planned_check(events[one], ids[one]) for one in set(range(len(ids))) - {*of_assets}]
            if checks:
                index.execute(AssetCheckExecutionsTable.insert(), checks)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[db.Connection]:
        with self._db_lock, self._transaction(shard) as connection:
            yield connection

    @contextmanager
    def _transaction(self, shard: str) -> Iterator[db.Connection]:
        """A transaction of one file, for the holder of the lock."""
        engine = self._engine(shard)
        if shard not in self._initialized_dbs:
            if not _is_initialised(engine):
                self._initdb(engine)
            self._initialized_dbs.add(shard)
        with engine.connect() as connection, connection.begin():
            yield connection

    def _engine(self, shard: str) -> db.Engine:
        if shard in self._engines:
            self._engines.move_to_end(shard)
            return self._engines[shard]
        engine = db.create_engine(
            self.conn_string_for_shard(shard), poolclass=QueuePool, pool_size=2, connect_args={"timeout": BUSY_SECONDS}
        )
        db.event.listen(engine, "connect", _do_not_flush_every_commit)
        self._engines[shard] = engine
        if len(self._engines) > OPEN_SHARDS:
            self._engines.popitem(last=False)[1].dispose()
        return engine

    # A table or a column that exists stays: ask the schema once, not at every event.
    def has_table(self, table_name: str) -> bool:
        if table_name not in self._known_tables and super().has_table(table_name):
            self._known_tables.add(table_name)
        return table_name in self._known_tables

    def _has_asset_key_col_on_connection(self, conn: db.Connection, column_name: str) -> bool:
        if column_name not in self._known_columns and super()._has_asset_key_col_on_connection(conn, column_name):
            self._known_columns.add(column_name)
        return column_name in self._known_columns

    def claim_concurrency_slot(
        self, concurrency_key: str, run_id: str, step_key: str, priority: int | None = None
    ) -> ConcurrencyClaimStatus:
        """As in Dagster, but waits here for a full pool, and logs who holds it. Dagster's in-process executor polls
        without a pause, which keeps a core busy, and delays interrupts until a step runs, so that nothing ends it."""
        status = super().claim_concurrency_slot(concurrency_key, run_id, step_key, priority)
        if status.is_claimed:
            return status
        self._report_wait(concurrency_key, run_id, step_key)
        with raise_execution_interrupts():
            time.sleep(POOL_SECONDS)
        waited: ConcurrencyClaimStatus = status.with_sleep_interval(0.0)
        return waited

    def _report_wait(self, pool: str, run_id: str, step_key: str) -> None:
        if (run_id, step_key) in self._reported_waits:
            return
        self._reported_waits.add((run_id, step_key))
        holders = [
            f"step {slot.step_key} of run {slot.run_id}" for slot in self.get_concurrency_info(pool).claimed_slots
        ]
        logger.warning(
            "%s waits for pool %s, held by %s. If that run is dead, terminate it in the UI; Ctrl-C ends the wait",
            step_key,
            pool,
            ", ".join(holders) or "another step",
        )

    def delete_events(self, run_id: str) -> None:
        self._forget(run_id)
        super().delete_events(run_id)

    def wipe(self) -> None:
        for shard in list(self._engines):
            self._forget(shard)
        super().wipe()

    def dispose(self) -> None:
        for shard in list(self._engines):
            self._forget(shard)
        super().dispose()

    def _forget(self, shard: str) -> None:
        engine = self._engines.pop(shard, None)
        if engine is not None:
            engine.dispose()


def compacted(event: EventLogEntry) -> EventLogEntry:
    """An event as it is stored: a data version per partition, and a plan that does not grow with the calendar.

    Dagster writes the partitions of a run with their whole definition, all days that the exchange was closed included,
    into the planned event of every asset and check: 1.7 MB for one session of twenty years, against 0.4 MB of two. The
    partitions of a planned check are read by `_store_asset_check_evaluation_planned` alone, which writes one row.
    """
    set_partition_version(event)
    planned = event.dagster_event
    data: Any = planned and planned.event_specific_data
    if planned is None or not _is_planned(event) or data.partitions_subset is None:
        return event
    if isinstance(data, AssetCheckEvaluationPlanned):
        data = AssetCheckEvaluationPlanned(asset_key=data.asset_key, check_name=data.check_name)
    elif len(data.partitions_subset) <= MOST_KEYS:
        keys = DefaultPartitionsSubset(set(data.partitions_subset.get_partition_keys()))
        data = AssetMaterializationPlannedData(data.asset_key, partitions_subset=keys)
    return event._replace(dagster_event=planned._replace(event_specific_data=data))


def _is_planned(event: EventLogEntry) -> bool:
    data = event.dagster_event and event.dagster_event.event_specific_data
    return isinstance(data, AssetCheckEvaluationPlanned | AssetMaterializationPlannedData)


def set_partition_version(event: EventLogEntry) -> None:
    """Make the version in a materialisation's metadata its data version.

    Dagster gives all partitions of a run one version, that of the whole range: a later run of one of its sessions would
    make everything that follows stale, whether the session changed or not.
    """
    made = event.asset_materialization
    version = made.metadata.get(PARTITION_VERSION) if made else None
    if made and isinstance(made.tags, dict) and version is not None:
        made.tags[DATA_VERSION_TAG] = str(version.value)


def _default_folder() -> Path:
    """Where Dagster keeps the events of an instance; without DAGSTER_HOME the instance is a temporary one."""
    if home := os.environ.get("DAGSTER_HOME"):
        return Path(home) / "history" / "runs"
    if TEMPORARY_FOLDER not in os.environ:
        os.environ[TEMPORARY_FOLDER] = tempfile.mkdtemp(prefix="candlecast-events-")
        atexit.register(shutil.rmtree, os.environ[TEMPORARY_FOLDER], ignore_errors=True)
    return Path(os.environ[TEMPORARY_FOLDER])


def _is_initialised(engine: db.Engine) -> bool:
    """Whether a file has Dagster's tables and revision: then `_initdb` changes nothing, and loads every migration."""
    with engine.connect() as connection:
        if not db.inspect(connection).has_table("alembic_version"):
            return False
        return connection.execute(db.text("SELECT version_num FROM alembic_version")).first() is not None


def _do_not_flush_every_commit(connection: Any, _record: Any) -> None:
    # With the write-ahead log a killed process loses nothing; a power cut may lose the last events, never the order.
    connection.execute("PRAGMA synchronous=NORMAL")
