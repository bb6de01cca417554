"""Runs of the UI, the daily run and the command line in one home at once: all succeed, no row is lost."""

import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest

from tests.orchestration.cli_project import CliProject
from tests.orchestration.dagster_ui import ui_of

pytestmark = pytest.mark.slow
ROUNDS = 2
BARS = "FROM bars SELECT * EXCLUDE (available_at, batch) ORDER BY ALL"
QUANTILES = "FROM forecast_quantiles ORDER BY ALL"


def test_the_ui_the_daily_run_and_the_command_line_write_concurrently(tmp_path: Path) -> None:
    alone = CliProject(tmp_path)
    done = alone.call("run")
    assert done.returncode == 0, done.stderr
    (tmp_path / "together").mkdir()
    together = CliProject(tmp_path / "together")
    shutil.copytree(alone.home, together.home)
    bars, quantiles = alone.rows(BARS), alone.rows(QUANTILES)
    assert len(bars) > 10_000 and quantiles
    newest = max(row["origin"] for row in quantiles)[:10]
    with ui_of(together) as ui:
        for number in range(ROUNDS):
            year = 2008 + number
            ingest = ui.launch("ingest", f"{year}-01-02", f"{year}-12-30")
            daily = ui.launch("daily", newest, newest)
            backfill = together.call("backfill", "--from", f"{year}-01-02", "--to", f"{year}-06-30")
            assert backfill.returncode == 0, backfill.stderr
            assert (ui.ended(ingest), ui.ended(daily)) == ("SUCCESS", "SUCCESS")
    assert together.rows(BARS) == bars
    assert together.rows(QUANTILES) == quantiles


def test_a_killed_run_of_the_ui_blocks_no_later_run(tmp_path: Path) -> None:
    project = CliProject(tmp_path)
    index = project.home / "dagster" / "history" / "runs" / "index.db"

    def slot_is_held() -> bool:
        with suppress(sqlite3.OperationalError), sqlite3.connect(f"file:{index}?mode=ro", uri=True) as records:
            held = "SELECT count(*) FROM concurrency_slots WHERE run_id IS NOT NULL"
            return bool(records.execute(held).fetchone()[0])
        return False  # the table does not exist yet

    with ui_of(project) as ui:
        killed = ui.launch("ingest", "2007-01-03", "2010-12-30")
        ui.kill_worker(slot_is_held)
        assert ui.ended(killed) == "FAILURE"
        assert slot_is_held()
        assert ui.ended(ui.launch("ingest", "2007-01-03", "2007-03-30")) == "SUCCESS"
