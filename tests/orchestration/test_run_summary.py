"""The end of a command names what was lost, what is warned of, and what was not made; the exit status follows."""

import json
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from assets.forecasts.summary import not_made_text
from orchestration.cli.run_progress import RunMonitor
from tests.market.market_desk import HEADER
from tests.orchestration.cli_project import CliProject

OWN = """
[profiles.sample.market]
source = "files"
path = "bars/*.csv"
start = 2012-01-03
end = 2012-01-31
symbols = "all"
"""
DAYS = (3, 4, 5, 6, 9, 10, 11, 12, 13, 17, 18, 19, 20, 23, 24, 25, 26, 27, 30, 31)
RANGE = ("--from", "2012-01-03", "--to", "2012-01-31")


def _project(folder: Path, bad: int) -> CliProject:
    """Twenty sessions of SPYX with an unreported 2:1 split, and some rows on Sundays."""
    (folder / "bars").mkdir()
    rows = [f"SPYX,2012-01-{day:02},{p},{p},{p},{p},900,x" for day in DAYS for p in [40 if day < 17 else 20]]
    rows += [f"SPYX,2012-01-{1 + 7 * week:02},40,40,40,40,900,x" for week in range(bad)]
    (folder / "bars" / "spyx.csv").write_text("\n".join([f"{HEADER},remark", *rows]) + "\n")
    return CliProject(folder, OWN)


@pytest.mark.slow
def test_a_backfill_reports_lost_rows_ignored_columns_and_warnings(tmp_path: Path) -> None:
    project = _project(tmp_path, bad=1)
    done = project.call("backfill", *RANGE)
    assert done.returncode == 0, done.stderr
    for part in ("spyx.csv", "20 kept", "1 rejected", "not_a_session", "row 21", "remark", "no_unreported_splits"):
        assert part in done.stderr, part
    marks = {line.split()[1]: line[0] for line in done.stderr.splitlines() if line[:1] in "✓!✗" and line.strip()}
    assert marks["bars_no_unreported_splits"] == "!"
    assert marks["raw_bars"] == "✓"
    again = json.loads(project.call("backfill", *RANGE, "--json").stdout)
    assert [one["rejected"] for one in again["files"]] == [1]
    assert [one["check"] for one in again["warnings"]] == ["no_unreported_splits"]


@pytest.mark.slow
def test_a_file_that_lost_too_much_fails_the_command_until_the_setting_allows_it(tmp_path: Path) -> None:
    project = _project(tmp_path, bad=3)
    done = project.call("backfill", *RANGE)
    assert done.returncode == 1
    assert "market.max_rejected" in done.stderr
    assert "spyx.csv" in done.stderr
    project.file.write_text(project.file.read_text() + "max_rejected = 0.2\n")
    assert project.call("backfill", *RANGE).returncode == 0


def test_text_metadata_of_a_run_is_kept_by_asset() -> None:
    @dg.asset
    def kronos_predictor() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata={"promotion": "kept: skill −1.2 %", "not_made": "", "rows": 3})

    monitor = RunMonitor()
    job = dg.Definitions(
        assets=[kronos_predictor], jobs=[dg.define_asset_job("j")], loggers={"progress": monitor.logger()}
    ).resolve_job_def("j")
    job.execute_in_process(run_config={"loggers": {"progress": {}}})
    assert monitor.texts("promotion") == {"kronos_predictor": "kept: skill −1.2 %"}
    assert monitor.texts("not_made") == {}


def test_sessions_and_forecasts_that_are_left_out_are_counted_with_the_setting() -> None:
    sessions = [date(2012, 5, day) for day in range(1, 11)]
    text = not_made_text(sessions, 2, date(2012, 5, 4), 4, {"no bar at the origin": 3})
    parts = ("3 of 10", "windows.test", "2012-05-04", "5 of 10", "forecasts.every = 4", "3 forecasts", "no bar")
    assert all(part in text for part in parts)
    assert not_made_text(sessions[:2], 2, date(2012, 5, 1), 4, {}) == ""
    assert not_made_text(sessions[:1], 1, date(2012, 6, 1), 4, {}) == ""
