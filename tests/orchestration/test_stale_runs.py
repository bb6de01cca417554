"""Stale runs of killed commands block no later run; a pool held by a live run is waited for and named."""

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from orchestration.cli.instance import open_instance
from orchestration.cli.run_progress import RunMonitor
from orchestration.cli.stale_runs import PROFILE_TAG, clear_stale_runs
from resources.profiles import load_settings
from tests.orchestration.cli_project import CliProject

ROOT = Path(__file__).resolve().parents[2]
RUN_SECONDS = 240


@dg.asset(pool="gpu")
def fitted() -> None: ...


MONITOR = RunMonitor()
JOB = dg.Definitions(
    assets=[fitted], jobs=[dg.define_asset_job("j", [fitted])], loggers={"progress": MONITOR.logger()}
).resolve_job_def("j")
CONFIG: dict[str, Any] = {"loggers": {"progress": {}}}


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    overrides = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    with dg.instance_for_test(temp_dir=str(tmp_path), overrides=overrides) as instance:
        yield instance


def _run_in_the_pool(instance: dg.DagsterInstance, tags: dict[str, str]) -> str:
    run = instance.create_run_for_job(JOB, tags=tags, status=dg.DagsterRunStatus.STARTED)
    instance.event_log_storage.initialize_concurrency_limit_to_default("gpu")
    assert instance.event_log_storage.claim_concurrency_slot("gpu", run.run_id, "fitted").is_claimed
    return run.run_id


def test_the_slot_of_a_killed_command_is_freed_and_its_run_failed(instance: dg.DagsterInstance) -> None:
    dead = _run_in_the_pool(instance, {PROFILE_TAG: "sample"})
    assert clear_stale_runs(instance) == [dead]
    record = instance.get_run_by_id(dead)
    assert record and record.status == dg.DagsterRunStatus.FAILURE
    assert JOB.execute_in_process(instance=instance).success
    assert clear_stale_runs(instance) == []


def test_waiting_for_a_run_of_the_ui_names_it_and_can_be_interrupted(
    instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    living = _run_in_the_pool(instance, {})
    assert clear_stale_runs(instance) == []
    threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    before = time.process_time()
    done = JOB.execute_in_process(instance=instance, raise_on_error=False, run_config=CONFIG)
    assert time.process_time() - before < 1.5, "a wait costs no processor time"
    assert not done.success and MONITOR.interrupted
    (message,) = [record.getMessage() for record in caplog.records if record.name == "candlecast.pools"]
    assert living in message and "gpu" in message
    run = instance.get_run_by_id(living)
    assert run
    instance.report_run_failed(run)
    clear_stale_runs(instance)
    assert JOB.execute_in_process(instance=instance).success


def _killed_inside(project: CliProject, pool: str) -> None:
    """Start `run` and kill it with SIGKILL while one of its steps is in the pool."""
    process = project.start("run")
    index = project.home / "dagster" / "history" / "runs" / "index.db"
    held = False
    while process.poll() is None and not held:
        time.sleep(0.05)
        # Stopped while it is checked, so that the slot cannot be released before the kill.
        process.send_signal(signal.SIGSTOP)
        held = bool(_held(index, pool))
        process.send_signal(signal.SIGKILL if held else signal.SIGCONT)
    process.communicate()
    assert held, "the run ended before it could be killed"


def _held(index: Path, pool: str) -> int:
    if not index.is_file():
        return 0
    try:
        with sqlite3.connect(f"file:{index}?mode=ro", uri=True) as connection:
            sql = "SELECT count(*) FROM concurrency_slots WHERE concurrency_key = ? AND run_id IS NOT NULL"
            (count,) = connection.execute(sql, [pool]).fetchone()
            return int(count)
    except sqlite3.OperationalError:  # the table does not exist yet
        return 0


@pytest.mark.slow
def test_a_run_killed_in_a_pool_does_not_block_a_later_run(tmp_path: Path) -> None:
    project = CliProject(tmp_path)
    for pool in ("warehouse", "gpu"):
        _killed_inside(project, pool)
    process = project.start("run")
    err = project.ended(process, RUN_SECONDS)
    assert process.returncode == 0, err


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_waiting_command_names_the_run_that_holds_the_pool_and_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: signal.Signals
) -> None:
    project = CliProject(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", "")
    with open_instance(load_settings(project.file, "sample", project.home)) as instance:
        instance.event_log_storage.initialize_concurrency_limit_to_default("warehouse")
        run = instance.create_run_for_job(JOB, status=dg.DagsterRunStatus.STARTED)
        assert instance.event_log_storage.claim_concurrency_slot("warehouse", run.run_id, "bars").is_claimed
    process = project.start("backfill", "--from", "2010-12-01", "--to", "2010-12-31")
    assert process.stderr
    lines: list[str] = []
    while not any(run.run_id in line for line in lines) and process.poll() is None:
        lines.append(process.stderr.readline())
    assert "warehouse" in lines[-1]
    process.send_signal(sign)
    err = project.ended(process, 30)
    assert process.returncode == 130, err


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_background_run_of_a_script_can_be_stopped(tmp_path: Path, sign: signal.Signals) -> None:
    project = CliProject(tmp_path)
    # Both, as in a script that was itself started in the background, or by a program that ran Dagster.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        process = project.start("run")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    while not (project.home / "run.pid").is_file() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(sign)
    err = project.ended(process, 60)
    assert process.returncode == 130, err
