"""A damaged or empty home: each command names the fault and the remedy."""

import contextlib
import errno
import json
import math
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import psutil
import pytest
import sqlalchemy

from orchestration.cli.artifacts import newest_report
from orchestration.cli.session import CommandSession, error_message
from resources.errors import CandlecastError
from resources.layout import Home
from resources.settings import Settings
from tests.orchestration.cli_project import CliProject


@pytest.mark.parametrize(
    "arguments",
    [("run",), *(pytest.param(given, marks=pytest.mark.slow) for given in (("score",), ("lineage", "bars")))],
)
def test_a_damaged_warehouse_is_named_and_left_unchanged(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    project = CliProject(tmp_path)
    project.home.mkdir()
    (project.home / "warehouse.duckdb").write_text("nonsense")
    done = project.call(*arguments, "--json")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    message = json.loads(done.stdout)["error"]
    assert str(project.home / "warehouse.duckdb") in message and "restore" in message
    assert (project.home / "warehouse.duckdb").read_text() == "nonsense"


@pytest.mark.parametrize("pointer", ["", "{}", '{"digest": "gone"}'])
def test_a_missing_report_names_the_pointer_and_the_command(tmp_path: Path, pointer: str) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "latest.json").write_text(pointer)
    with pytest.raises(CandlecastError, match=r"latest\.json.*candlecast run"):
        newest_report(Settings(home=tmp_path))


def test_json_output_has_null_for_nan_and_infinity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An interval of too few origins is NaN, which JSON cannot represent."""
    session = CommandSession(None, "sample", tmp_path, as_json=True, show_progress=False)
    session.finish({"scoreboard": [{"skill": 0.5, "skill_low": math.nan, "skill_high": math.inf}]})
    result = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert result["scoreboard"] == [{"skill": 0.5, "skill_low": None, "skill_high": None}]


@pytest.mark.parametrize(
    ("reason", "hint"), [("database is locked", "another command or the UI"), ("disk I/O error", "candlecast doctor")]
)
def test_only_locked_records_suggest_another_process(tmp_path: Path, reason: str, hint: str) -> None:
    message = error_message(sqlalchemy.exc.OperationalError("INSERT", {}, sqlite3.OperationalError(reason)), tmp_path)
    assert message and reason in message and hint in message


@pytest.mark.parametrize(
    "error",
    [
        sqlalchemy.exc.OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full")),
        duckdb.IOException('Could not write file "w.duckdb": No space left on device'),
        OSError(errno.ENOSPC, "No space left on device", "w"),
    ],
)
def test_a_full_disk_is_no_damage(tmp_path: Path, error: Exception) -> None:
    message = error_message(error, tmp_path)
    assert message and f"the disk of {tmp_path} is full" in message and "same command again" in message
    assert "repair" not in message


def test_an_io_error_of_records_is_that_of_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = sqlalchemy.exc.OperationalError("INSERT", {}, sqlite3.OperationalError("disk I/O error"))
    used = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: used._replace(free=4096))
    message = error_message(error, tmp_path)
    assert message and "is full" in message and "repair" not in message


# As on a full disk: no file may grow, also not the shared memory that SQLite needs beside a database.
WITHOUT_SPACE = """
import pathlib, resource, signal, sqlite3, sys
from orchestration.cli.dagster_records import dagster_records
from resources.layout import Home
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
home = Home(pathlib.Path(sys.argv[1]))
try:
    sqlite3.connect(home.dagster / "runs.db").execute("SELECT * FROM runs")
except sqlite3.OperationalError as error:
    print(error)
print([damage.text for damage in dagster_records(home)])
"""


def test_records_on_a_full_disk_are_not_taken_for_damaged(tmp_path: Path) -> None:
    folder = Home(tmp_path).dagster
    folder.mkdir()
    with contextlib.closing(sqlite3.connect(folder / "runs.db")) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE runs (id)")
    assert _damaged_without_space(tmp_path) == ["disk I/O error", "[]"]


def test_records_whose_log_a_full_disk_kept_from_being_copied_are_not_taken_for_damaged(tmp_path: Path) -> None:
    folder = Home(tmp_path).dagster
    folder.mkdir()
    runs, log = folder / "runs.db", folder / "runs.db-wal"
    with contextlib.closing(sqlite3.connect(runs)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE runs (id)")
        connection.executemany("INSERT INTO runs VALUES (?)", [("x" * 1_000,)] * 50)
        connection.commit()
        logged = log.read_bytes()
        connection.execute("PRAGMA wal_checkpoint")
        copied = runs.read_bytes()
    runs.write_bytes(copied[: len(copied) // 2])
    log.write_bytes(logged)
    assert _damaged_without_space(tmp_path) == ["disk I/O error", "[]"]
    with contextlib.closing(sqlite3.connect(runs)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def _damaged_without_space(home: Path) -> list[str]:
    command = [sys.executable, "-c", WITHOUT_SPACE, str(home)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def _command(process: psutil.Process) -> str:
    """The command line of a process; empty: it has ended."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_ui_leaves_no_process(tmp_path: Path, how: signal.Signals) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = CliProject(tmp_path).start("ui", "--port", str(port))
    process = psutil.Process(served.pid)
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 120
    while not any("orchestration.webserver --" in _command(child) for child in children):
        assert served.poll() is None and time.monotonic() < deadline
        time.sleep(0.5)
        children = process.children(recursive=True)
    served.send_signal(how)
    CliProject.ended(served, 60)
    _, left = psutil.wait_procs(children, timeout=30)
    for child in left:
        child.kill()
    assert not left


def test_a_port_in_use_is_named_before_anything_is_started(tmp_path: Path) -> None:
    project = CliProject(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = project.call("ui", "--port", str(port))
    assert done.returncode == 1 and f"127.0.0.1:{port}" in done.stderr
    assert not project.home.exists()
