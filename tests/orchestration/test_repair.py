"""`candlecast doctor --repair` makes a damaged home equal to what it was."""

import json
import shutil
from pathlib import Path

import pytest

from tests.chaos.chaos import CHAIN
from tests.chaos.home_state import differences, home_state
from tests.orchestration.cli_project import CliProject

# One file of each is cut in half.
CUT = (
    "lake/sample/*.parquet",
    "windows/*/bars.npy",
    "checkpoints/kronos_predictor/*/model.safetensors",
    "checkpoints/chronos2_model/*/card.json",
    "paths/kronos/*/*.parquet",
    "qlib/*/calendars/day.txt",
    "backtests/*/days.parquet",
    "reports/*/report.html",
    "dagster/history/runs.db",
    "dagster/history/runs/index.db",
)


@pytest.mark.slow
def test_a_damaged_home_is_repaired_to_what_it_was(tmp_path: Path) -> None:
    project = CliProject(tmp_path, CHAIN)
    assert project.call("run").returncode == 0
    before = home_state(project.home)
    files = [sorted(project.home.glob(pattern))[0] for pattern in CUT]
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    checks = json.loads(project.call("doctor", "--json").stdout)["checks"]
    assert len([one for one in checks if one["check"].startswith("stored") and not one["ok"]]) == len(files)
    repaired = project.call("doctor", "--repair", "--json")
    assert repaired.returncode == 0, repaired.stdout
    assert len(json.loads(repaired.stdout)["damaged"]) == len(files)
    shutil.rmtree(project.home / "damaged")
    assert differences(before, home_state(project.home)) == []
    assert project.call("doctor").returncode == 0
