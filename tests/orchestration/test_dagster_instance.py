"""Dagster's records: created by one process at a time; locked ones are an error without a traceback."""

import json
import multiprocessing
import re
import sqlite3
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from orchestration.cli import instance
from orchestration.cli.instance import open_instance
from resources.errors import CandlecastError
from resources.locks import exclusive_lock
from resources.profiles import load_settings
from resources.settings import Settings
from tests.orchestration.cli_project import CliProject


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("DAGSTER_HOME", "")
    project = CliProject(tmp_path)
    return load_settings(project.file, "sample", project.home)


def _open_when_all_are_ready(settings: Settings, ready: Barrier) -> None:
    ready.wait()
    with open_instance(settings) as opened:
        opened.get_runs()


@pytest.mark.slow
def test_several_processes_can_open_a_new_home_at_once(settings: Settings) -> None:
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


def test_waiting_for_another_process_to_open_the_home_times_out(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance, "OPENING_SECONDS", 0.1)
    folder = settings.home / "dagster"
    folder.mkdir(parents=True)
    with exclusive_lock(folder / "opening.lock"), pytest.raises(CandlecastError, match=re.escape(str(folder))):
        open_instance(settings)


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [False, True])
def test_records_locked_by_another_program_are_named(tmp_path: Path, settings: Settings, as_json: bool) -> None:
    open_instance(settings).dispose()
    records = settings.home / "dagster" / "history" / "runs.db"
    with sqlite3.connect(records, isolation_level=None) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        done = CliProject(tmp_path).call("run", *(["--json"] if as_json else []))
    assert done.returncode == 1
    message = json.loads(done.stdout)["error"] if as_json else done.stderr
    assert str(records.parents[1]) in message and "database is locked" in message
    assert "Traceback" not in done.stderr
