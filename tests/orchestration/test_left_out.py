"""Sessions for which neither the home nor the source has bars cost a command nothing, and stay missing."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestration.cli.pipeline import Pipeline
from orchestration.cli.session_ranges import SessionRange
from orchestration.cli.terminal import Terminal
from resources.profiles import load_settings

FIRST, LAST = date(1991, 1, 2), date(2021, 12, 31)


def _pipeline(folder: Path, calendar: str, frequency: str, days: list[str]) -> tuple[Pipeline, list[SessionRange]]:
    """A pipeline over a file with a bar on each of some days, and the ranges of the runs that it would do."""
    hour = "T15:00:00Z" if frequency != "1d" else ""
    rows = [f"ABC,{day}{hour},10,11,9,10.5,100" for day in days]
    (folder / "bars.csv").write_text("\n".join(["symbol,timestamp,open,high,low,close,volume", *rows]))
    (folder / "candlecast.toml").write_text(
        f'[profiles.mine.market]\nsource = "files"\npath = "bars.csv"\ncalendar = "{calendar}"\n'
        f'frequency = "{frequency}"\nstart = 1985-01-02\nend = 2021-12-31\n'
    )
    settings = load_settings(folder / "candlecast.toml", "mine", folder / "home")
    pipeline, ranges = Pipeline(settings, Terminal(quiet=True)), list[SessionRange]()

    def run(_selection: Any, sessions: SessionRange, *_: Any) -> None:
        ranges.append(sessions)

    pipeline.runner.run = run  # type: ignore[method-assign,assignment]
    return pipeline, ranges


@pytest.mark.parametrize(("calendar", "frequency"), [("XNYS", "1d"), ("24/7", "1d"), ("24/7", "1h")])
def test_a_backfill_covers_the_stretches_with_bars_and_names_the_others(
    tmp_path: Path, calendar: str, frequency: str
) -> None:
    days = ["1993-03-02", "1993-03-04", "2012-05-07"]
    pipeline, ranges = _pipeline(tmp_path, calendar, frequency, days)
    result = pipeline.backfill(FIRST, LAST, "group:market")
    expected = [(date(1993, 3, 2), date(1993, 3, 4)), (date(2012, 5, 7), date(2012, 5, 7))]
    assert [(one.first, one.last) for one in ranges] == expected
    assert [str(one["first"])[:4] for one in result["left_out"]] == ["1991", "1993", "2012"]
    whole = len(pipeline.sessions.calendar.sessions(FIRST, LAST))
    assert sum(one["sessions"] for one in result["left_out"]) == whole - 4
    # Nothing was stored, so the home and the source have nothing for the years between.
    ranges.clear()
    assert "no session" in pipeline.backfill(date(2000, 1, 3), date(2001, 12, 31), "group:market")["text"]
    assert {one.first.year for one in ranges} == {1993, 2012}  # what is pending is ingested all the same


def test_sessions_are_made_when_their_bars_come(tmp_path: Path) -> None:
    first, ranges = _pipeline(tmp_path, "XNYS", "1d", ["2012-05-07"])
    first.ingest()
    assert ranges == [SessionRange(date(2012, 5, 7), date(2012, 5, 7))]
    later, ranges = _pipeline(tmp_path, "XNYS", "1d", ["2001-05-07", "2012-05-07"])
    later.ingest()
    assert SessionRange(date(2001, 5, 7), date(2001, 5, 7)) in ranges


def test_short_gaps_are_no_reason_for_another_run(tmp_path: Path) -> None:
    days = [date(2012, 5, 7) + timedelta(days=place) for place in (0, 1, 2, 30, 31, 80, 81, 82)]
    pipeline, ranges = _pipeline(tmp_path, "24/7", "1d", [day.isoformat() for day in days])
    pipeline.ingest()
    assert ranges == [SessionRange(days[0], days[-1])]
