"""One command at a time writes in a home: each of them takes the run lock, and names its holder."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration.cli.app import app
from resources.locks import exclusive_lock
from tests.orchestration.cli_project import CliProject

WRITING = (
    ("run",),
    ("backfill", "--from", "2008-01-02", "--to", "2008-01-31"),
    ("forecast",),
    ("score",),
    ("rebuild",),
    ("rollback", "kronos_predictor"),
)


@pytest.mark.parametrize("arguments", WRITING, ids=lambda given: given[0])
def test_a_command_that_writes_takes_the_run_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    project = CliProject(tmp_path)
    given = ("--settings", str(project.file), "--home", str(project.home))
    project.home.mkdir()
    (project.home / "run.pid").write_text("process 4711")
    with exclusive_lock(project.home / "run.lock"):
        done = CliRunner().invoke(app, [*arguments, *given])
    assert done.exit_code == 1
    assert str(project.home) in done.output and "process 4711" in done.output
    assert not (project.home / "warehouse.duckdb").exists() and not (project.home / "lake").exists()
