"""Dagster's records: made by one process at a time, and never a traceback when somebody else holds them."""

import json
import multiprocessing
import sqlite3
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from chain_world import World

from orchestration.cli import headless
from orchestration.cli.headless import open_instance
from resources.errors import CandlecastError
from resources.locks import exclusive_lock
from resources.profiles import load_settings
from resources.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch) -> Settings:
    monkeypatch.setenv("DAGSTER_HOME", "")
    world = World(tmp_path)
    return load_settings(world.file, "sample", world.home)


def _open_when_all_are_ready(settings: Settings, ready: Barrier) -> None:
    ready.wait()
    with open_instance(settings) as instance:
        instance.get_runs()


@pytest.mark.slow
def test_processes_that_open_a_new_home_at_once_all_may(settings):
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(4)
    opening = [context.Process(target=_open_when_all_are_ready, args=(settings, ready)) for _ in range(4)]
    for process in opening:
        process.start()
    for process in opening:
        process.join()
    assert [process.exitcode for process in opening] == [0] * 4
    with sqlite3.connect(settings.home / "dagster" / "history" / "runs.db") as records:
        assert len(records.execute("SELECT version_num FROM alembic_version").fetchall()) == 1


def test_one_that_waits_too_long_to_open_says_for_what(settings, monkeypatch):
    monkeypatch.setattr(headless, "OPENING_SECONDS", 0.1)
    folder = settings.home / "dagster"
    folder.mkdir(parents=True)
    busy = "another process has been opening"
    with exclusive_lock(folder / "opening.lock"), pytest.raises(CandlecastError, match=busy):
        open_instance(settings)


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [False, True])
def test_records_that_another_program_holds_are_named(tmp_path, settings, as_json):
    open_instance(settings).dispose()
    records = settings.home / "dagster" / "history" / "runs.db"
    with sqlite3.connect(records, isolation_level=None) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        done = World(tmp_path).call("run", *(["--json"] if as_json else []))
    assert done.returncode == 1
    told = json.loads(done.stdout)["error"] if as_json else done.stderr
    assert str(records.parents[1]) in told and "database is locked" in told
    assert "Traceback" not in done.stderr
