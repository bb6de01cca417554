from pathlib import Path

import dagster as dg
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SESSIONS = dg.DailyPartitionsDefinition("2020-01-01", end_date="2020-02-01")


@dg.asset(partitions_def=SESSIONS, backfill_policy=dg.BackfillPolicy.single_run())
def made(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
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


def test_what_it_writes_is_what_dagsters_own_reads(tmp_path: Path):
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


@pytest.mark.slow
def test_more_runs_than_it_keeps_open_stay_readable(tmp_path: Path):
    with dg.instance_for_test(
        temp_dir=str(tmp_path), overrides=yaml.safe_load((ROOT / "dagster.yaml").read_text())
    ) as ours:
        runs = [_run(ours) for _ in range(18)]
        assert all(ours.all_logs(run_id) for run_id in (runs[0], runs[-1]))
        ours.delete_run(runs[0])
        assert not ours.all_logs(runs[0])
