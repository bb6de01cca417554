"""The pooled event log writes what Dagster's own reads, and Dagster still has the private parts that it uses."""

import ast
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import date, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._serdes import serialize_value

from assets.metadata import DATA_VERSION_TAG, EMPTY, add_session_contents
from assets.sessions import RANGE_END, RANGE_START
from orchestration.event_log import TEMPORARY_FOLDER, CompactEventLog, PooledSqliteEventLog

ROOT = Path(__file__).resolve().parents[2]
SESSIONS = dg.DailyPartitionsDefinition("2020-01-01", end_date="2020-02-01")


# Of `SqliteEventLogStorage`: what the subclass overrides or calls.
METHODS = (
    "_event_insert_timestamp", "_event_to_row", "_has_asset_key_col_on_connection", "_initdb", "_connect",
    "_store_asset_check_evaluation_planned", "_store_asset_event", "_store_asset_event_tags",
    "claim_concurrency_slot", "conn_string_for_shard", "delete_events",
    "dispose", "from_config_value", "get_concurrency_info", "has_table", "index_connection", "store_event",
    "store_event_batch",
    "supports_partition_subset_in_asset_materialization_planned_events", "wipe",
)  # fmt: skip
ATTRIBUTES = ("_db_lock", "_initialized_dbs")
WHEN = ("create_timestamp", "migration_completed")


@dg.asset(partitions_def=SESSIONS, backfill_policy=dg.BackfillPolicy.single_run())
def made(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"rows": 3}, data_version=dg.DataVersion("v"))


def _run(instance: dg.DagsterInstance) -> str:
    job = dg.Definitions(assets=[made], jobs=[dg.define_asset_job("j", [made])]).resolve_job_def("j")
    tags = {"dagster/asset_partition_range_start": "2020-01-01", "dagster/asset_partition_range_end": "2020-01-31"}
    return job.execute_in_process(instance=instance, tags=tags).run_id


def _seen(instance: dg.DagsterInstance, run_id: str) -> tuple[object, ...]:
    event = instance.get_latest_materialization_event(dg.AssetKey("made"))
    assert event is not None
    return (
        instance.get_materialized_partitions(dg.AssetKey("made")),
        event.asset_materialization,
        [record.dagster_event.event_type_value for record in instance.all_logs(run_id) if record.dagster_event],
    )


@dg.asset(partitions_def=SESSIONS, backfill_policy=dg.BackfillPolicy.single_run())
def counted(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    days = [date.fromisoformat(key) for key in context.partition_keys]
    add_session_contents(context, {day: (day.day, f"v{day.day}") for day in days if day.day != 9}, days)
    return dg.MaterializeResult(data_version=dg.DataVersion(f"of {len(days)} sessions"))


def test_a_session_keeps_its_data_version_whatever_range_is_run(tmp_path: Path) -> None:
    def version(key: str) -> str:
        record = instance.get_latest_data_version_record(dg.AssetKey("counted"), partition_key=key)
        assert record and record.asset_materialization and record.asset_materialization.tags
        return record.asset_materialization.tags[DATA_VERSION_TAG]

    with dg.instance_for_test(
        temp_dir=str(tmp_path), overrides=yaml.safe_load((ROOT / "dagster.yaml").read_text())
    ) as instance:
        tags = {RANGE_START: "2020-01-03", RANGE_END: "2020-01-09"}
        job = dg.Definitions(assets=[counted], jobs=[dg.define_asset_job("j", [counted])]).resolve_job_def("j")
        job.execute_in_process(instance=instance, tags=tags)
        assert [version(f"2020-01-0{day}") for day in (3, 8, 9)] == ["v3", "v8", EMPTY]
        dg.materialize([counted], partition_key="2020-01-08", instance=instance)
        assert version("2020-01-08") == "v8"


def test_compose_uses_an_event_log_of_this_project() -> None:
    instance = yaml.safe_load(yaml.safe_load((ROOT / "compose.yaml").read_text())["configs"]["instance"]["content"])
    named = instance["event_log_storage"]
    module = ROOT / Path(*named["module"].split(".")).with_suffix(".py")
    assert f"class {named['class']}(CompactEventLog" in module.read_text(encoding="utf-8")
    pytest.importorskip("dagster_postgres")
    assert issubclass(getattr(import_module(named["module"]), named["class"]), CompactEventLog)


def _private_names() -> list[tuple[str, str]]:
    """Module and name of everything private that orchestration/event_log.py imports from Dagster."""
    tree = ast.parse((ROOT / "orchestration" / "event_log.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return [
        (node.module, alias.name)
        for node in imports
        if node.module and node.module.startswith("dagster._")
        for alias in node.names
    ]


def _is_gone(module: str, name: str) -> bool:
    try:
        return not hasattr(import_module(module), name)
    except ImportError:
        return True


def test_dagster_has_every_private_part_that_the_event_log_uses(tmp_path: Path) -> None:
    gone = [f"{module}.{name}" for module, name in _private_names() if _is_gone(module, name)]
    if not gone:
        storage = import_module("dagster._core.storage.event_log").SqliteEventLogStorage
        gone += [f"SqliteEventLogStorage.{name}" for name in METHODS if not hasattr(storage, name)]
        built = storage(str(tmp_path))
        gone += [f"SqliteEventLogStorage().{name}" for name in ATTRIBUTES if not hasattr(built, name)]
        built.dispose()
    assert not gone, (
        f"Dagster {dg.__version__} no longer has {', '.join(gone)}: keep the minor that pyproject.toml caps, or adapt "
        "orchestration/event_log.py"
    )


def test_without_dagster_home_events_are_temporary_and_shared_with_child_processes(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys\nfrom orchestration.event_log import _default_folder, TEMPORARY_FOLDER\n"
        "print(_default_folder(), flush=True)\n"
        "if len(sys.argv) > 1:\n    subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    )
    # Another test of this process may have set the folder of its events.
    others = {name: value for name, value in os.environ.items() if name not in ("DAGSTER_HOME", TEMPORARY_FOLDER)}
    environment = others | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, code], capture_output=True, text=True, cwd=ROOT, check=True, env=environment
    )
    parent, child = done.stdout.split()
    assert parent == child and Path(parent).parent == tmp_path
    assert not list(tmp_path.iterdir()), "the folder is removed at exit"


def test_what_it_writes_is_what_dagsters_own_reads(tmp_path: Path) -> None:
    with dg.instance_for_test(
        temp_dir=str(tmp_path), overrides=yaml.safe_load((ROOT / "dagster.yaml").read_text())
    ) as ours:
        assert type(ours.event_log_storage).__name__ == "PooledSqliteEventLog"
        run_id = _run(ours)
        written = _seen(ours, run_id)
    with dg.instance_for_test(temp_dir=str(tmp_path)) as stock:
        assert type(stock.event_log_storage).__name__ == "SqliteEventLogStorage"
        assert _seen(stock, run_id) == written
        assert len(written[0]) == 31  # type: ignore[arg-type]


def _tables(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables of the index and of the runs, without the times at which they were made."""
    found = {}
    for file in sorted(folder.glob("*.db")):
        with closing(sqlite3.connect(file)) as connection:
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
            for (name,) in names:
                table = connection.execute(f'SELECT * FROM "{name}"')
                kept = [place for place, (column, *_) in enumerate(table.description) if column not in WHEN]
                found[f"{file.name}/{name}"] = [tuple(row[place] for place in kept) for row in table]
    return found


def _made_by(instance: dg.DagsterInstance, run_id: str) -> list[EventLogEntry]:
    return [one for one in instance.all_logs(run_id) if one.asset_materialization]


def test_a_batch_writes_the_rows_that_single_events_write(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    with dg.instance_for_test(temp_dir=str(tmp_path / "made")) as instance:
        events = _made_by(instance, _run(instance))
    assert len(events) == 31
    one_by_one, batch = (PooledSqliteEventLog(str(tmp_path / name)) for name in ("single", "batch"))
    dagsters = SqliteEventLogStorage(str(tmp_path / "dagsters"))
    for event in events:
        one_by_one.store_event(event)
        dagsters.store_event(event)
    batch.store_event_batch(events[:20])
    batch.store_event_batch(events[20:])
    for storage in (one_by_one, batch, dagsters):
        storage.dispose()
    written = _tables(tmp_path / "batch")
    assert written == _tables(tmp_path / "single") == _tables(tmp_path / "dagsters")
    assert sum(map(len, written.values())) > 3 * len(events)


HOLIDAYS = [datetime(2020, 1, day) for day in (9, 10)]
CLOSED = dg.DailyPartitionsDefinition("2020-01-01", end_date="2021-01-01", exclusions=HOLIDAYS)


@dg.asset(partitions_def=CLOSED, backfill_policy=dg.BackfillPolicy.single_run())
def planned(context: dg.AssetExecutionContext) -> None: ...


@dg.asset_check(asset=planned)
def sound() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


def _run_planned(instance: dg.DagsterInstance, last: str) -> list[EventLogEntry]:
    """The planned events of a run from 7 January 2020 on."""
    jobs = [dg.define_asset_job("j", dg.AssetSelection.assets(planned))]
    job = dg.Definitions(assets=[planned], asset_checks=[sound], jobs=jobs).resolve_job_def("j")
    run_id = job.execute_in_process(instance=instance, tags={RANGE_START: "2020-01-07", RANGE_END: last}).run_id
    events = [one for one in instance.all_logs(run_id) if one.dagster_event]
    return [one for one in events if "PLANNED" in one.get_dagster_event().event_type_value]


@pytest.mark.parametrize(("last", "whole"), [("2020-01-12", False), ("2020-12-31", True)])
def test_a_planned_event_of_few_sessions_has_no_calendar(tmp_path: Path, last: str, whole: bool) -> None:
    with dg.instance_for_test(
        temp_dir=str(tmp_path), overrides=yaml.safe_load((ROOT / "dagster.yaml").read_text())
    ) as instance:
        asset, check = (one.get_dagster_event() for one in _run_planned(instance, last))
        assert asset.partitions_subset is not None
        keys = set(asset.partitions_subset.get_partition_keys())
        assert keys == set(instance.get_materialized_partitions(dg.AssetKey("planned")))
        assert len(keys) == (358 if whole else 4)
        assert ("exclusions" in serialize_value(asset)) == whole
        assert "exclusions" not in serialize_value(check)
        (record,) = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey("planned"), "sound"), limit=9
        )
        assert record.status.value == "SUCCEEDED"


def test_planned_events_in_a_batch_are_the_rows_that_single_events_write(tmp_path: Path) -> None:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        events = _run_planned(instance, "2020-01-12")
    single, batch = (PooledSqliteEventLog(str(tmp_path / name)) for name in ("single", "batch"))
    for event in events:
        single.store_event(event)
    batch.store_event_batch(events)
    for storage in (single, batch):
        storage.dispose()
    written = _tables(tmp_path / "batch")
    assert written == _tables(tmp_path / "single")
    assert len(written["index.db/asset_check_executions"]) == len(written["index.db/asset_keys"]) == 1


def test_a_batch_that_fails_leaves_nothing_and_its_events_are_stored_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = []
    store_tags = PooledSqliteEventLog._store_asset_event_tags

    def failing(self: PooledSqliteEventLog, connection: Any, events: list[EventLogEntry], ids: list[int]) -> None:
        if len(events) > 1:
            failed.append(len(events))
            raise OSError("disk full")
        store_tags(self, connection, events, ids)

    monkeypatch.setattr(PooledSqliteEventLog, "_store_asset_event_tags", failing)
    with dg.instance_for_test(
        temp_dir=str(tmp_path), overrides=yaml.safe_load((ROOT / "dagster.yaml").read_text())
    ) as instance:
        run_id = _run(instance)
        logged = [one.partition for one in (event.get_dagster_event() for event in _made_by(instance, run_id))]
        assert len(instance.get_materialized_partitions(dg.AssetKey("made"))) == 31
    assert failed == [31] and len(logged) == len(set(logged)) == 31


@pytest.mark.slow
def test_more_runs_than_it_keeps_open_stay_readable(tmp_path: Path) -> None:
    with dg.instance_for_test(
        temp_dir=str(tmp_path), overrides=yaml.safe_load((ROOT / "dagster.yaml").read_text())
    ) as ours:
        runs = [_run(ours) for _ in range(18)]
        assert all(ours.all_logs(run_id) for run_id in (runs[0], runs[-1]))
        ours.delete_run(runs[0])
        assert not ours.all_logs(runs[0])
