"""The freshness sensor follows the exchange calendar; the drop folder's starts an ingest of new files."""

import os
import time
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest
from pydantic import Field

from assets.sessions import RANGE_END, RANGE_START, session_partitions
from orchestration.build import build_defs
from orchestration.completeness import missing_at, watched_assets
from orchestration.freshness import check_keys, newest_due
from orchestration.sensors import build_sensors
from resources.calendar import TradingCalendar
from resources.candlecast import Candlecast
from resources.settings import Settings

# A home without a warehouse, whatever a run made in the working directory.
SETTINGS = Settings(market={"start": date(2024, 1, 2)}, home=Path(__file__).parent / "no-home")
CALENDAR = TradingCalendar("XNYS")
SESSIONS = session_partitions(SETTINGS)
CANDLECAST = Candlecast(SETTINGS)
WATCHED = watched_assets(SETTINGS)
DUE = date(2024, 7, 3)


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (datetime(2024, 7, 3, 21, 0, tzinfo=UTC), date(2024, 7, 2)),  # closed early at 17:00, within the grace period
        (datetime(2024, 7, 4, 12, 0, tzinfo=UTC), date(2024, 7, 3)),
        (datetime(2024, 7, 5, 12, 0, tzinfo=UTC), date(2024, 7, 3)),  # the holiday is never due
        (datetime(2024, 7, 7, 12, 0, tzinfo=UTC), date(2024, 7, 5)),  # on Sunday Friday is due
        (datetime(2023, 12, 31, tzinfo=UTC), None),
    ],
)
def test_the_newest_session_due_follows_the_calendar(now: datetime, due: date | None) -> None:
    assert newest_due(CANDLECAST, now, SESSIONS) == due


def test_a_history_with_an_end_is_due_up_to_its_end() -> None:
    settings = Settings(market={"start": date(2000, 3, 1), "end": date(2013, 3, 1)})
    partitions = session_partitions(settings)
    assert newest_due(Candlecast(settings), datetime(2026, 1, 1, tzinfo=UTC), partitions) == date(2013, 3, 1)


def test_a_backfill_of_an_old_month_does_not_look_fresh(tmp_path: Path) -> None:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        for name in WATCHED:
            instance.report_runless_asset_event(dg.AssetMaterialization(name, partition="2024-01-03"))
        assert list(missing_at(instance, CANDLECAST, DUE)) == list(WATCHED)
        for name in WATCHED[1:]:
            instance.report_runless_asset_event(dg.AssetMaterialization(name, partition="2024-07-03"))
        assert list(missing_at(instance, CANDLECAST, DUE)) == ["bars"]


class _SymbolsConfig(dg.Config):
    symbols: list[str] = Field([])


@dg.asset(partitions_def=dg.DailyPartitionsDefinition("2024-01-01"))
def kronos_forecasts(config: _SymbolsConfig) -> None:
    """An asset with the name and the configuration of the real one."""


def test_a_session_forecast_for_some_symbols_is_missing(tmp_path: Path) -> None:
    def forecast(*symbols: str) -> None:
        run_config = {"ops": {"kronos_forecasts": {"config": {"symbols": list(symbols)}}}}
        dg.materialize([kronos_forecasts], partition_key="2024-07-03", instance=instance, run_config=run_config)

    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        for name in WATCHED:
            if name != "kronos_forecasts":
                instance.report_runless_asset_event(dg.AssetMaterialization(name, partition="2024-07-03"))
        forecast("AAPL")
        assert list(missing_at(instance, CANDLECAST, DUE)) == ["kronos_forecasts"]
        forecast()
        assert not missing_at(instance, CANDLECAST, DUE)
        forecast("AAPL")
        assert not missing_at(instance, CANDLECAST, DUE), "a complete session stays complete"


def test_two_missing_sessions_fail_a_check_that_every_watched_asset_declares(tmp_path: Path) -> None:
    market = {"source": "files", "path": "bars/*.csv", "start": date(2012, 1, 3), "end": date(2012, 7, 10)}
    windows = {
        "train": [date(2012, 1, 3), date(2012, 3, 1)],
        "validation": [date(2012, 3, 2), date(2012, 5, 31)],
        "test": [date(2012, 6, 1), date(2012, 7, 10)],
    }
    defs = build_defs(settings=Settings(market=market, windows=windows, root=tmp_path, home=tmp_path / "home"))
    assert set(check_keys(CANDLECAST.settings)) <= defs.resolve_asset_graph().asset_check_keys
    freshness = defs.resolve_sensor_def("freshness")
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:

        def tick(cursor: str | None) -> tuple[str, str | None]:
            context = dg.build_sensor_context(
                instance=instance, cursor=cursor, repository_def=defs.get_repository_def()
            )
            done = freshness.evaluate_tick(context)
            for event in done.asset_events:
                instance.report_runless_asset_event(event)
            return done.skip_message or "", done.cursor

        def passed() -> set[bool]:
            records = [
                instance.get_latest_asset_check_evaluation_record(key) for key in check_keys(CANDLECAST.settings)
            ]
            evaluations = [one.event.asset_check_evaluation for one in records if one and one.event]
            assert len(evaluations) == len(WATCHED)
            return {one.passed for one in evaluations if one}

        for name in WATCHED:
            instance.report_runless_asset_event(dg.AssetMaterialization(name, partition="2012-07-06"))
        text, cursor = tick(None)
        assert passed() == {False}
        assert "2012-07-10" in text and all(name in text for name in WATCHED)
        assert tick(cursor)[0].startswith("Unchanged")
        for name in WATCHED:
            instance.report_runless_asset_event(dg.AssetMaterialization(name, partition="2012-07-10"))
        assert "complete" in tick(cursor)[0]
        assert passed() == {True}


def test_a_dropped_file_starts_an_ingest_of_its_sessions_and_is_moved(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    (drop / "new.csv").write_text(
        "symbol,date,open,high,low,close,volume\nAAPL,2024-01-03,10,11,9,10.5,1\nAAPL,2024-01-05,10,11,9,10.5,1\n"
    )
    an_hour_ago = time.time() - 3600
    os.utime(drop / "new.csv", (an_hour_ago, an_hour_ago))
    settings = Settings(
        market={"source": "files", "path": "bars/*.csv", "start": date(2024, 1, 2), "drop": "drop"},
        root=tmp_path,
        home=tmp_path / "home",
    )
    (sensor,) = [one for one in build_sensors(Candlecast(settings), SESSIONS) if one.name == "drop_folder"]
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        request = sensor(dg.build_sensor_context(instance=instance))
        assert isinstance(request, dg.RunRequest)
        assert (request.tags[RANGE_START], request.tags[RANGE_END]) == ("2024-01-03", "2024-01-05")
        assert sorted(file.name for file in (drop / "done").iterdir()) == ["new.csv", "new.csv.json"]
        assert isinstance(sensor(dg.build_sensor_context(instance=instance)), dg.SkipReason)


def test_dropped_sessions_without_a_partition_start_no_run(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    settings = Settings(
        market={
            "source": "files",
            "path": "bars/*.csv",
            "drop": "drop",
            "start": date(2024, 1, 2),
            "end": date(2024, 1, 4),
        },
        windows={
            "train": [date(2024, 1, 2), date(2024, 1, 2)],
            "validation": [date(2024, 1, 3), date(2024, 1, 3)],
            "test": [date(2024, 1, 4), date(2024, 1, 4)],
        },
        root=tmp_path,
        home=tmp_path / "home",
    )
    sessions = session_partitions(settings)
    (sensor,) = [one for one in build_sensors(Candlecast(settings), sessions) if one.name == "drop_folder"]
    header = "symbol,date,open,high,low,close,volume"
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        for days, expected in ((("2024-01-03", "2024-01-05"), "2024-01-03"), (("2024-01-05", "2024-01-08"), None)):
            lines = [f"AAPL,{day},10,11,9,10.5,1" for day in days]
            (drop / "new.csv").write_text("\n".join([header, *lines]) + "\n")
            os.utime(drop / "new.csv", (time.time() - 3600, time.time() - 3600))
            request = sensor(dg.build_sensor_context(instance=instance))
            if expected is None:
                assert isinstance(request, dg.SkipReason)
            else:
                assert isinstance(request, dg.RunRequest)
                assert (request.tags[RANGE_START], request.tags[RANGE_END]) == (expected, expected)
        note = (drop / "done" / "new.csv.json").read_text()
        assert "1 of its 2 sessions (2024-01-05" in note
