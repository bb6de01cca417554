"""What a killed command leaves behind holds nobody up; what lives is waited for, and said."""

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from chain_world import World

from orchestration.cli.headless import open_instance
from orchestration.cli.run_progress import Watch
from orchestration.cli.stale_runs import PROFILE_TAG, clear_leftovers
from resources.profiles import load_settings

ROOT = Path(__file__).resolve().parents[2]
RUN_SECONDS = 240


@dg.asset(pool="gpu")
def fitted() -> None: ...


WATCH = Watch()
JOB = dg.Definitions(
    assets=[fitted], jobs=[dg.define_asset_job("j", [fitted])], loggers={"progress": WATCH.logger()}
).resolve_job_def("j")
CONFIG = {"loggers": {"progress": {}}}


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


def test_a_dead_commands_place_is_free_again_and_its_run_failed(instance):
    dead = _run_in_the_pool(instance, {PROFILE_TAG: "sample"})
    assert clear_leftovers(instance) == [dead]
    assert instance.get_run_by_id(dead).status == dg.DagsterRunStatus.FAILURE
    assert JOB.execute_in_process(instance=instance).success
    assert clear_leftovers(instance) == []


def test_the_place_of_a_run_of_the_ui_is_told_and_the_wait_ends_when_asked_to(instance, caplog):
    living = _run_in_the_pool(instance, {})
    assert clear_leftovers(instance) == []
    threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    before = time.process_time()
    done = JOB.execute_in_process(instance=instance, raise_on_error=False, run_config=CONFIG)
    assert time.process_time() - before < 1.5, "a wait costs no processor time"
    assert not done.success and WATCH.interrupted
    (told,) = [record.getMessage() for record in caplog.records if record.name == "candlecast.pools"]
    assert living in told and "gpu" in told
    instance.report_run_failed(instance.get_run_by_id(living))
    clear_leftovers(instance)
    assert JOB.execute_in_process(instance=instance).success


def _killed_inside(world: World, pool: str) -> None:
    """`run`, killed as a power cut would, while one of its steps is in the pool."""
    process = world.start("run")
    index = world.home / "dagster" / "history" / "runs" / "index.db"
    held = False
    while process.poll() is None and not held:
        time.sleep(0.05)
        # Looked at while it stands still: a place that is seen cannot be given back before the kill.
        process.send_signal(signal.SIGSTOP)
        held = bool(_held(index, pool))
        process.send_signal(signal.SIGKILL if held else signal.SIGCONT)
    process.communicate()
    assert held, "it was through before it could be killed"


def _held(index: Path, pool: str) -> int:
    if not index.is_file():
        return 0
    try:
        with sqlite3.connect(f"file:{index}?mode=ro", uri=True) as connection:
            sql = "SELECT count(*) FROM concurrency_slots WHERE concurrency_key = ? AND run_id IS NOT NULL"
            return int(connection.execute(sql, [pool]).fetchone()[0])
    except sqlite3.OperationalError:  # the table is not there yet
        return 0


@pytest.mark.slow
def test_a_run_killed_in_a_pool_holds_no_later_run_up(tmp_path):
    world = World(tmp_path)
    for pool in ("warehouse", "gpu"):
        _killed_inside(world, pool)
    process = world.start("run")
    err = world.ended(process, RUN_SECONDS)
    assert process.returncode == 0, err


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_command_says_whom_it_waits_for_and_can_be_stopped(tmp_path, monkeypatch, sign):
    world = World(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", "")
    with open_instance(load_settings(world.file, "sample", world.home)) as instance:
        instance.event_log_storage.initialize_concurrency_limit_to_default("warehouse")
        run = instance.create_run_for_job(JOB, status=dg.DagsterRunStatus.STARTED)
        assert instance.event_log_storage.claim_concurrency_slot("warehouse", run.run_id, "bars").is_claimed
    process = world.start("backfill", "--from", "2010-12-01", "--to", "2010-12-31")
    assert process.stderr
    lines = []
    while not any("waits for the pool warehouse" in line for line in lines) and process.poll() is None:
        lines.append(process.stderr.readline())
    assert run.run_id in lines[-1]
    process.send_signal(sign)
    err = world.ended(process, 30)
    assert process.returncode == 130, err


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_run_in_the_background_of_a_script_can_be_stopped(tmp_path, sign):
    world = World(tmp_path)
    # Both, as in a script that was itself started in the background, or by a program that ran Dagster.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        process = world.start("run")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    while not (world.home / "run.pid").is_file() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(sign)
    err = world.ended(process, 60)
    assert process.returncode == 130, err
