"""A home that was damaged, or never filled: each command says what is wrong and what to do."""

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
from chain_world import World

from orchestration.cli.app import _Session, _told
from orchestration.cli.chain import newest_report
from resources.errors import CandlecastError
from resources.settings import Settings


@pytest.mark.parametrize(
    "words", [("run",), *(pytest.param(words, marks=pytest.mark.slow) for words in (("score",), ("lineage", "bars")))]
)
def test_a_damaged_warehouse_is_told_with_what_to_do(tmp_path: Path, words):
    world = World(tmp_path)
    world.home.mkdir()
    (world.home / "warehouse.duckdb").write_text("nonsense")
    done = world.call(*words, "--json")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    told = json.loads(done.stdout)["error"]
    assert str(world.home / "warehouse.duckdb") in told and "restore it" in told
    assert (world.home / "warehouse.duckdb").read_text() == "nonsense"


@pytest.mark.parametrize("pointer", ["", "{}", '{"digest": "gone"}'])
def test_a_report_that_is_gone_is_told_with_what_to_do(tmp_path: Path, pointer: str):
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "latest.json").write_text(pointer)
    with pytest.raises(CandlecastError, match=r"latest\.json.*candlecast run"):
        newest_report(Settings(home=tmp_path))


def test_json_has_null_where_there_is_no_number(tmp_path: Path, capsys):
    """An interval from too few origins is none; NaN and Infinity are no JSON."""
    session = _Session(None, "sample", tmp_path, as_json=True, show=False)
    session.finish({"scoreboard": [{"skill": 0.5, "skill_low": math.nan, "skill_high": math.inf}]})
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert told["scoreboard"] == [{"skill": 0.5, "skill_low": None, "skill_high": None}]


@pytest.mark.parametrize(
    ("reason", "hint"), [("database is locked", "another command or the UI"), ("disk I/O error", "candlecast doctor")]
)
def test_records_on_a_full_disk_are_not_said_to_be_held(tmp_path: Path, reason: str, hint: str):
    told = _told(sqlalchemy.exc.OperationalError("INSERT", {}, sqlite3.OperationalError(reason)), tmp_path)
    assert told and reason in told and hint in told


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_ui_that_is_stopped_by_its_id_leaves_nothing_behind(tmp_path: Path, how: signal.Signals):
    served = World(tmp_path).start("ui", "--port", "3917")
    process = psutil.Process(served.pid)
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 120
    while not any("dagster_webserver" in " ".join(child.cmdline()) for child in children):
        assert served.poll() is None and time.monotonic() < deadline
        time.sleep(0.5)
        children = process.children(recursive=True)
    served.send_signal(how)
    World.ended(served, 60)
    _, left = psutil.wait_procs(children, timeout=30)
    for child in left:
        child.kill()
    assert not left


def test_a_port_that_is_taken_is_named_before_anything_is_started(tmp_path: Path):
    world = World(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = world.call("ui", "--port", str(port))
    assert done.returncode == 1 and f"127.0.0.1:{port} cannot be served on" in done.stderr
    assert not world.home.exists()
