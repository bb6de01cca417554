"""The daily schedule at its ticks: sessions, holidays, failed runs, outages."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import get_args

import dagster as dg
import pytest

from assets.sessions import RANGE_END, RANGE_START
from orchestration import catch_up
from orchestration.build import build_defs
from orchestration.completeness import watched_assets
from resources.checkpoints import Kind
from resources.settings import Settings

WATCHED = watched_assets(Settings())


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield instance


def _defs(folder: Path, test_end: date = date(2012, 6, 29), vintage: str = "none") -> dg.Definitions:
    market = {"source": "files", "path": "bars/*.csv", "start": date(2012, 1, 3)}
    windows = {
        "train": [date(2012, 1, 3), date(2012, 3, 1)],
        "validation": [date(2012, 3, 2), date(2012, 5, 31)],
        "test": [date(2012, 6, 1), test_end],
        "vintage": vintage,
    }
    return build_defs(settings=Settings(market=market, windows=windows, root=folder, home=folder / "home"))


def _requests(defs: dg.Definitions, instance: dg.DagsterInstance, month: int, day: int) -> list[dg.RunRequest]:
    context = dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=datetime(2012, month, day, 0, 30, tzinfo=UTC),
        repository_def=defs.get_repository_def(),
    )
    return list(defs.resolve_schedule_def("daily_after_close").evaluate_tick(context).run_requests or [])


def _materialize(instance: dg.DagsterInstance, session: str, names: tuple[str, ...] = WATCHED) -> None:
    for name in names:
        instance.report_runless_asset_event(dg.AssetMaterialization(name, partition=session))


def test_a_session_has_one_run_and_a_holiday_none(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    defs = _defs(tmp_path)
    assert _requests(defs, instance, 1, 3) == [], "the first session is not closed"
    _materialize(instance, "2012-07-02")
    (run,) = _requests(defs, instance, 7, 4)
    assert (run.partition_key, run.run_key) == ("2012-07-03", "2012-07-03")
    _materialize(instance, "2012-07-03")
    # 2012-07-05 00:30 UTC is the evening of Independence Day.
    assert _requests(defs, instance, 7, 5) == []


def test_a_new_home_starts_with_the_newest_session(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    (run,) = _requests(_defs(tmp_path), instance, 7, 4)
    assert run.partition_key == "2012-07-03"


def test_sessions_missed_by_an_outage_are_part_of_one_run_with_the_newest(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    _materialize(instance, "2012-07-03")
    # The first tick after the outage is on a Sunday.
    (run,) = _requests(_defs(tmp_path), instance, 7, 15)
    assert run.run_key == "2012-07-13"
    assert (run.tags[RANGE_START], run.tags[RANGE_END]) == ("2012-07-05", "2012-07-13")


def test_a_session_whose_forecasts_failed_is_part_of_the_next_run(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    _materialize(instance, "2012-07-09")
    _materialize(instance, "2012-07-10", WATCHED[:2])
    (run,) = _requests(_defs(tmp_path), instance, 7, 12)
    assert (run.tags[RANGE_START], run.tags[RANGE_END]) == ("2012-07-10", "2012-07-11")


def test_a_gap_between_complete_sessions_is_part_of_the_next_run(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    _materialize(instance, "2012-07-03")
    # 2012-07-05 and 06 are missing: the session after them was forecast by hand.
    _materialize(instance, "2012-07-09")
    (run,) = _requests(_defs(tmp_path), instance, 7, 10)
    assert (run.tags[RANGE_START], run.tags[RANGE_END]) == ("2012-07-05", "2012-07-06")
    _materialize(instance, "2012-07-05")
    (run,) = _requests(_defs(tmp_path), instance, 7, 10)
    assert run.partition_key == "2012-07-06"
    (run,) = _requests(_defs(tmp_path), instance, 7, 11)
    assert (run.tags[RANGE_START], run.tags[RANGE_END]) == ("2012-07-06", "2012-07-10")


def test_a_session_without_scores_is_run_again(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    _materialize(instance, "2012-07-09")
    _materialize(instance, "2012-07-10", tuple(name for name in WATCHED if name != "forecast_scores"))
    (run,) = _requests(_defs(tmp_path), instance, 7, 11)
    assert run.partition_key == "2012-07-10"


def test_an_old_gap_has_a_run_of_its_own(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "BRIDGED", 3)
    for session in ("2012-07-02", "2012-07-05", "2012-07-06", "2012-07-09"):
        _materialize(instance, session)
    (run,) = _requests(_defs(tmp_path), instance, 7, 10)
    assert run.partition_key == "2012-07-03"
    for session in ("2012-07-10", "2012-07-11"):
        _materialize(instance, session)
    old, newest = _requests(_defs(tmp_path), instance, 7, 20)
    assert old.partition_key == "2012-07-03"
    assert (newest.tags[RANGE_START], newest.tags[RANGE_END]) == ("2012-07-12", "2012-07-19")
    assert (newest.run_key, old.run_key != newest.run_key) == ("2012-07-19", True)


def test_a_range_between_two_planned_origins_begins_with_the_previous_one(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    # Every fifth session from 2012-06-01 is an origin: 2012-06-29 is, and then 2012-07-09.
    _materialize(instance, "2012-07-02")
    (run,) = _requests(_defs(tmp_path, test_end=date(2012, 12, 31)), instance, 7, 6)
    assert (run.tags[RANGE_START], run.tags[RANGE_END]) == ("2012-06-29", "2012-07-05")


def test_vintages_whose_date_has_come_are_trained_once(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    assert [one.name for one in _defs(tmp_path).schedules or []] == ["daily_after_close"]
    defs = _defs(tmp_path, vintage="month")
    schedule = defs.resolve_schedule_def("train_vintage")

    def due() -> list[str | None]:
        context = dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=datetime(2012, 8, 1, 12, 30, tzinfo=UTC),
            repository_def=defs.get_repository_def(),
        )
        return [one.partition_key for one in schedule.evaluate_tick(context).run_requests or []]

    assert due() == ["2012-06-01", "2012-07-01", "2012-08-01"]
    for kind in get_args(Kind):
        instance.report_runless_asset_event(dg.AssetMaterialization(kind, partition="2012-06-01"))
    assert due() == ["2012-07-01", "2012-08-01"]
