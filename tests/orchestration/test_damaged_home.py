"""A damaged or empty home: each command names the fault and the remedy."""

import contextlib
import json
import math
import signal
import socket
import sqlite3
import time
from pathlib import Path

import psutil
import pytest
import sqlalchemy

from orchestration.cli.artifacts import newest_report
from orchestration.cli.session import CommandSession, error_message
from resources.errors import CandlecastError
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
