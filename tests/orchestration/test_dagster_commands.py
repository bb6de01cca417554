"""Dagster's own commands work from the repository root: without DAGSTER_HOME, and in a fresh clone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DAY = "2012-01-03"
COMMANDS = (
    ("dg", "check", "defs"),
    ("dagster", "definitions", "validate"),
    ("dagster", "job", "list"),
    ("dagster", "asset", "list", "-m", "orchestration.definitions"),
    ("dagster", "asset", "materialize", "--select", "raw_bars", "-m", "orchestration.definitions", "--partition", DAY),
)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracked files alone, with the interpreter of this environment where `dg` looks for a project's own."""
    root = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes((ROOT / name).read_bytes())
    return root


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_definitions_load_in_a_fresh_clone_without_dagster_home(command: tuple[str, ...], clone: Path) -> None:
    dropped = ("DAGSTER_HOME", "CANDLECAST_HOME", "CANDLECAST_SETTINGS", "CANDLECAST_PROFILE")
    scripts = Path(sys.executable).parent
    environment = {name: value for name, value in os.environ.items() if name not in dropped} | {
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(clone),
        "VIRTUAL_ENV": str(scripts.parent),
    }
    program = str(scripts / command[0])
    done = subprocess.run([program, *command[1:]], cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    if command[1:3] == ("asset", "list"):
        assert {"raw_bars", "kronos_forecasts", "backtest_report"} <= set(done.stdout.split())
