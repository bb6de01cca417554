"""The GPU check runs without this project's packages, and a part that fails leaves the others alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_check
from benchmarks.gpu_check import BUDGETS, NO_DEVICE, PartResult

SCRIPT = Path(gpu_check.__file__)
# What the check does without; of `assets` it imports the captured training step. `resource` is what breaks one part.
BLOCKED = """
import sys
from importlib.abc import MetaPathFinder

NAMES = {
    "accelerate", "arch", "chronos", "dagster", "duckdb", "exchange_calendars", "jinja2", "matplotlib",
    "orchestration", "peft", "psutil", "pyarrow", "pydantic", "pydantic_settings", "pytest", "qlib", "resource",
    "resources", "rich", "scoringrules", "statsmodels", "tenacity", "typer", "utilsforecast",
}


class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NAMES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Blocked())
"""


def test_the_script_itself_needs_the_standard_library_only() -> None:
    done = subprocess.run([sys.executable, "-S", "-I", str(SCRIPT), "--help"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_a_device_nothing_is_run_and_the_status_is_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[str] = []

    def run_part(part: str, options: Sequence[str], limit: float) -> PartResult:
        started.append(part)
        row: dict[str, Any] = {"passed": None, "detail": {"cuda": False, "torch": "2.13.0"}}
        return PartResult(part, "done", rows=[row])

    monkeypatch.setattr(gpu_check, "run_part", run_part)
    assert gpu_check.main(["--json", str(tmp_path / "found.json")]) == 1
    written = json.loads((tmp_path / "found.json").read_text())
    assert started == ["environment"]
    assert {part["part"]: part["status"] for part in written["parts"]} == dict.fromkeys(BUDGETS, NO_DEVICE)
    assert capsys.readouterr().out.count(f"| {NO_DEVICE} |") == len(BUDGETS)


def test_a_part_that_takes_too_long_is_cut_off_and_fails() -> None:
    result = gpu_check.run_part("environment", [], limit=0)
    assert result.status.startswith("cut off") and not result.passed and not result.rows


def test_the_parts_fit_into_eight_minutes() -> None:
    assert sum(BUDGETS.values()) <= gpu_check.TOTAL <= 480


@pytest.mark.slow
def test_every_part_runs_on_the_cpu_in_a_bare_environment(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    command = [sys.executable, str(SCRIPT), "--quick", "--cpu-dry-run", "--json", str(tmp_path / "found.json")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    found = json.loads((tmp_path / "found.json").read_text())
    parts = {part.pop("part"): part for part in found["parts"]}
    assert list(parts) == list(BUDGETS)
    assert found["environment"]["torch"] and found["environment"]["seed"] == 0
    broken = parts.pop("memory")
    assert broken["status"] == "failed" and "No module named 'resource'" in broken["error"]
    assert done.returncode == 1 and "Traceback" in done.stdout
    for name, part in parts.items():
        assert part["status"] == "done" and part["passed"], (name, part["error"])
        assert part["rows"]
    speeds = [row for row in parts["path_steps"]["rows"] + parts["training"]["rows"] if row["unit"].endswith("/s")]
    assert all(row["value"] > 0 and row["reference"] > 0 and row["reference_name"] for row in speeds)
