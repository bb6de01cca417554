"""Sessions that arrived in part, late or corrected: what the checks report, and what the schedule runs."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
import yaml

from assets.backtests.signals import make_signals
from assets.forecasting.registry import checkpoints_in_use
from assets.market.universe import read_universe
from assets.sessions import RANGE_END, RANGE_START
from orchestration import completeness
from orchestration.build import build_defs
from orchestration.catch_up import EVALUATION
from orchestration.completeness import missing_at, watched_assets
from orchestration.jobs import without_freshness
from resources.candlecast import Candlecast
from resources.settings import Settings
from resources.settings_models import BUILT_IN_ASSETS, CALIBRATED_ASSET, COMBINED_ASSET

SYMBOLS = ("AA", "BB", "CC", "DD", "EE")
FIRST, LAST = date(2012, 1, 3), date(2012, 7, 10)
# The test range begins on 2012-06-01; AA to CC always arrive, DD and EE may be late.
TICK = datetime(2012, 7, 11, 0, 30, tzinfo=UTC)


@dataclass
class Desk:
    """A folder with one file of bars per symbol, and what runs and ticks do with it."""

    folder: Path
    instance: dg.DagsterInstance

    def __post_init__(self) -> None:
        market = {"source": "files", "path": "bars/*.csv", "start": FIRST, "adjusted": "none"}
        windows = {
            "train": [FIRST, date(2012, 3, 1)],
            "validation": [date(2012, 3, 20), date(2012, 5, 15)],
            "test": [date(2012, 6, 1), date(2012, 6, 29)],
            "lookback_window": 20,
            "predict_window": 3,
        }
        settings = Settings(market=market, windows=windows, root=self.folder, home=self.folder / "home")
        self.candlecast = Candlecast(settings)
        self.defs = build_defs(settings=settings, resource_overrides={"candlecast": self.candlecast})
        (self.folder / "bars").mkdir()

    def days(self, first: date = FIRST, last: date = LAST) -> list[date]:
        return [day.date() for day in self.candlecast.calendar.sessions(first, last)]

    def write(self, symbol: str, last: date = LAST, first: date = FIRST, changed: date | None = None) -> None:
        days = self.days()
        closes = 50 * np.exp(np.cumsum(np.random.default_rng(SYMBOLS.index(symbol)).normal(0, 0.01, len(days))))
        frame = pd.DataFrame({"date": days, "open": closes, "high": closes + 1, "low": closes - 1, "close": closes})
        frame.loc[frame["date"] == changed, "close"] += 0.5
        frame = frame[(frame["date"] >= first) & (frame["date"] <= last)].assign(volume=1000)
        frame.round(4).to_csv(self.folder / "bars" / f"{symbol}.csv", index=False)

    def run(self, *assets: str, first: date, last: date) -> None:
        job = dg.define_asset_job("some", without_freshness(dg.AssetSelection.assets(*assets), Settings()))
        defs = dg.Definitions.merge(self.defs, dg.Definitions(jobs=[job]))
        tags = {RANGE_START: str(first), RANGE_END: str(last)}
        assert defs.resolve_job_def("some").execute_in_process(instance=self.instance, tags=tags).success

    def run_daily(self, first: date, last: date = LAST) -> None:
        """The assets of the daily job that need no weights; the others count as materialised."""
        self.run("raw_bars", "bars", first=first, last=last)
        self.run(BUILT_IN_ASSETS[0], CALIBRATED_ASSET, COMBINED_ASSET, "forecast_scores", first=first, last=last)
        for name in BUILT_IN_ASSETS[1:]:
            for day in self.days(first, last):
                self.instance.report_runless_asset_event(dg.AssetMaterialization(name, partition=str(day)))

    def missing(self, session: date = LAST) -> dict[str, str]:
        return missing_at(self.instance, self.candlecast, session)

    def requests(self) -> list[tuple[str, str, set[str]]]:
        """First and last session and the selected assets of each run that the schedule requests."""
        context = dg.build_schedule_context(
            instance=self.instance, scheduled_execution_time=TICK, repository_def=self.defs.get_repository_def()
        )
        tick = self.defs.resolve_schedule_def("daily_after_close").evaluate_tick(context)
        return [
            (
                run.partition_key or run.tags[RANGE_START],
                run.partition_key or run.tags[RANGE_END],
                {key.to_user_string() for key in run.asset_selection or ()},
            )
            for run in tick.run_requests or []
        ]

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with self.candlecast.warehouse.read() as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "instance").mkdir()
    # Dagster's own event log takes ten times as long.
    pooled = yaml.safe_load((Path(__file__).resolve().parents[2] / "dagster.yaml").read_text())
    with dg.instance_for_test(temp_dir=str(tmp_path / "instance"), overrides=pooled) as instance:
        yield Desk(tmp_path, instance)


@pytest.mark.slow
def test_a_session_with_bars_of_some_symbols_is_incomplete_until_the_others_are_forecast(desk: Desk) -> None:
    for symbol in SYMBOLS:
        desk.write(symbol, last=date(2012, 7, 9) if symbol in ("DD", "EE") else LAST)
    desk.run_daily(date(2012, 6, 1))
    lacking = desk.missing()
    assert "DD, EE" in lacking["bars"] and "DD, EE" in lacking["baseline_forecasts"]
    assert desk.missing(date(2012, 7, 9)) == {}
    assert desk.requests() == [], "nothing has arrived that a run could take"

    desk.write("DD")
    assert desk.requests() == [("2012-07-10", "2012-07-10", set())]
    # An ingest without forecasts, as by the drop folder.
    desk.write("EE")
    desk.run("raw_bars", "bars", first=LAST, last=LAST)
    lacking = desk.missing()
    assert "bars" not in lacking and "DD, EE" in lacking["baseline_forecasts"]
    assert desk.requests() == [("2012-07-10", "2012-07-10", set())]
    desk.run_daily(LAST)
    assert desk.missing() == {} and desk.requests() == []


def test_a_tick_does_not_wait_for_a_process_that_writes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completeness, "BUSY_SECONDS", 0.2)
    desk.write("AA")
    desk.run("raw_bars", "bars", first=LAST, last=LAST)
    for name in watched_assets(Settings()):
        desk.instance.report_runless_asset_event(dg.AssetMaterialization(name, partition="2012-07-09"))
    code = "import duckdb, sys, time; held = duckdb.connect(sys.argv[1]); print('held', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, str(desk.candlecast.warehouse.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout and writer.stdout.readline()
        assert desk.requests() == [("2012-07-10", "2012-07-10", set())]
        context = dg.build_sensor_context(instance=desk.instance, repository_def=desk.defs.get_repository_def())
        tick = desk.defs.resolve_sensor_def("freshness").evaluate_tick(context)
        assert str(writer.pid) in str(tick.skip_message)
        writer.kill()


def test_only_symbols_that_still_trade_are_awaited(desk: Desk) -> None:
    desk.write("AA")
    desk.write("BB", last=LAST - timedelta(days=35))  # stopped trading
    desk.write("CC", first=LAST)  # its first session
    desk.run("raw_bars", "bars", first=date(2012, 6, 1), last=LAST)
    assert "bars" not in desk.missing()
    day_before = desk.missing(date(2012, 7, 9))
    assert "bars" not in day_before, "CC is not listed yet"
    just_after = desk.missing(date(2012, 6, 8))
    assert just_after["bars"].endswith("BB")


def test_a_session_without_any_bar_is_not_complete(desk: Desk) -> None:
    desk.write("AA", last=date(2012, 7, 9))
    desk.run("raw_bars", "bars", first=date(2012, 6, 1), last=LAST)
    assert "no bars" in desk.missing()["bars"]


def _scores(desk: Desk) -> dict[tuple[object, ...], object]:
    rows = desk.rows("SELECT symbol, origin::DATE, step, metric, value FROM forecast_scores WHERE model = 'drift'")
    return {(symbol, origin, step, metric): value for symbol, origin, step, metric, value in rows}


def _signals(desk: Desk) -> pd.DataFrame:
    candlecast = desk.candlecast
    used = checkpoints_in_use(candlecast.settings, candlecast.checkpoints)
    universe = read_universe(candlecast.settings, candlecast.warehouse)
    return make_signals(candlecast.warehouse, "1d", 1, used, universe).frame


@pytest.mark.slow
def test_a_correction_runs_its_session_and_every_later_one_with_scores(desk: Desk) -> None:
    for symbol in SYMBOLS:
        desk.write(symbol)
    desk.run("raw_bars", "bars", first=date(2012, 5, 30), last=date(2012, 5, 31))
    desk.run_daily(date(2012, 6, 1))
    desk.write("AA", changed=date(2012, 7, 6))
    assert desk.requests() == [("2012-07-06", "2012-07-10", set())]
    before, signals = _scores(desk), _signals(desk)
    assert desk.rows("FROM made_from_corrected_bars") == []
    desk.run_daily(date(2012, 7, 6))
    changed = {key[:2] for key, value in _scores(desk).items() if key[0] != "*" and value != before[key]}
    # Targets on the corrected day, the origin on it, and the scale of MASE of the next one.
    assert changed == {("AA", date(2012, 7, day)) for day in (2, 3, 5, 6, 9)}
    marked = desk.rows("SELECT DISTINCT symbol, origin::DATE FROM made_from_corrected_bars ORDER BY ALL")
    assert marked == [("AA", day) for day in desk.days(date(2012, 7, 6))]
    pd.testing.assert_frame_equal(_signals(desk), signals)
    assert desk.requests() == []
    desk.write("AA")
    desk.write("BB", changed=date(2012, 3, 5))
    first, second = desk.requests()
    assert first == ("2012-03-05", "2012-05-31", {"raw_bars", "bars", "corporate_actions"}), (
        "no origin is planned there"
    )
    assert second == ("2012-06-01", "2012-07-10", set())


@pytest.mark.slow
def test_a_correction_that_another_run_ingested_makes_the_scores_stale(desk: Desk) -> None:
    for symbol in SYMBOLS:
        desk.write(symbol)
    desk.run_daily(date(2012, 6, 1))
    desk.write("AA", changed=date(2012, 7, 6))
    desk.run("raw_bars", "bars", first=LAST, last=LAST)
    assert "corrected" in desk.missing()["forecast_scores"]
    assert desk.requests() == [("2012-07-06", "2012-07-10", set(EVALUATION))]
    daily = desk.defs.resolve_job_def("daily")
    tags = {RANGE_START: "2012-07-06", RANGE_END: str(LAST)}
    chosen = [dg.AssetKey(name) for name in EVALUATION]
    assert daily.execute_in_process(instance=desk.instance, tags=tags, asset_selection=chosen).success
    assert desk.missing() == {} and desk.requests() == []
