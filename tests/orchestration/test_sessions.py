"""One partition per session, whatever the exchange's week and however far its calendar reaches."""

import json
import re
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import requires
from pathlib import Path

import dagster as dg
import exchange_calendars
import numpy as np
import pytest
from dagster._core.test_utils import freeze_time

from assets.sessions import KEY_FORMAT, session_partitions, sessions_of
from orchestration.cli.session_ranges import SessionPlanner
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.exchange_schedule import exchange_schedule
from resources.integrity import publish_kept_json
from resources.kept_calendars import COMPUTED_BY, LONGEST_KEPT
from resources.layout import Home
from resources.session_dates import is_calendar, newest_closed_session
from resources.settings import MarketSettings, Settings, WindowSettings
from resources.warehouse import Warehouse
from tests.training.training_setup import insert_bars, sample_rows


def yesterday() -> date:
    """The newest day that is over, also where the tests run past midnight."""
    return date.today() - timedelta(days=1)


# A week from Sunday, one that changed, Orthodox Easters, calendars that end with the year, one that never closes.
@pytest.mark.parametrize("name", ["XNYS", "XSAU", "XTAE", "ASEX", "XSHG", "XBOM", "24/7"])
def test_every_closed_session_has_a_partition_and_no_other_day(name: str) -> None:
    calendar = TradingCalendar(name)
    found = session_partitions(Settings(market=MarketSettings(calendar=name, start=date(2021, 3, 1))))
    sessions = calendar.sessions(date(2021, 3, 1), yesterday())
    assert found.get_partition_keys() == [day.strftime(KEY_FORMAT) for day in sessions]
    assert newest_closed_session(MarketSettings(calendar=name)) == sessions[-1].date()
    ended = MarketSettings(calendar=name, end=date(2021, 3, 7))
    assert newest_closed_session(ended) == calendar.sessions(date(2021, 2, 1), date(2021, 3, 7))[-1].date()


def test_listed_keys_are_those_of_the_day_on_which_they_are_asked_for() -> None:
    found = session_partitions(Settings(market=MarketSettings(start=date(2024, 1, 2))))
    plain = dg.DailyPartitionsDefinition("2024-01-02", exclusions=found.exclusions)
    for day in (9, 9, 23, 10):
        with freeze_time(datetime(2024, 1, day, tzinfo=UTC)):
            assert found.get_partition_keys() == plain.get_partition_keys()
    assert found == plain
    asked = datetime(2024, 1, 4, tzinfo=UTC)
    assert found.get_partition_keys(asked) == plain.get_partition_keys(asked) == ["2024-01-02", "2024-01-03"]


@pytest.mark.parametrize("name", ["XNYS", "XTAE", "24/7"])
def test_kept_dates_give_the_same_partitions_as_computed_ones(name: str, tmp_path: Path) -> None:
    settings = Settings(market=MarketSettings(calendar=name, start=date(2004, 3, 1)))
    home = Home(tmp_path)
    computed = session_partitions(settings)
    assert session_partitions(settings, home) == computed
    (file,) = home.calendars.glob("*.json")
    assert session_partitions(settings, home) == computed
    calendar = TradingCalendar(name)
    kept = json.loads(file.read_text())
    assert kept["sessions"] == [str(day.date()) for day in calendar.all_sessions()]


# With breaks, without, with special closures, and one that ends with the year.
@pytest.mark.parametrize("name", ["XHKG", "XNYS", "XTAE", "XSHG", "24/7"])
def test_a_kept_schedule_is_the_computed_one(name: str, tmp_path: Path) -> None:
    computed = exchange_schedule(name, Home(tmp_path))
    kept = exchange_schedule(name, Home(tmp_path))
    assert kept is not computed
    for field in fields(computed):
        mine, theirs = getattr(kept, field.name), getattr(computed, field.name)
        np.testing.assert_array_equal(mine, theirs)
        assert getattr(mine, "dtype", None) == getattr(theirs, "dtype", None)


def test_a_kept_schedule_names_the_versions_of_all_that_decide_holidays() -> None:
    needed = {re.split(r"\W", one)[0] for one in requires("exchange_calendars") or [] if "extra ==" not in one}
    # Of time zones the rules themselves are compared.
    assert {*COMPUTED_BY} == {"exchange_calendars", *needed} - {"numpy", "toolz", "tzdata"}


def kept_with(home: Home, change: dict[str, object], sessions: int | None = None) -> None:
    """Change the kept schedule of XNYS, with a digest that matches; `sessions`: leave out all but the first ones."""
    file = home.calendars / "XNYS.json"
    content = {**json.loads(file.read_text()), **change}
    for key in ("sessions", "opens", "closes") if sessions else ():
        content[key] = content[key][:sessions]
    publish_kept_json(file, content)


@pytest.mark.parametrize(
    ("change", "sessions"),
    [
        ({"exchange_calendars": "0"}, None),
        ({"timezone_rules": "0"}, None),
        ({"computed_on": str(date.today() - timedelta(days=20))}, 7_000),
        ({"computed_on": str(date.today() - LONGEST_KEPT - timedelta(days=1))}, None),
        ({"computed_on": str(date.today() + timedelta(days=2))}, None),
    ],
)
def test_a_schedule_that_is_old_of_another_version_or_ends_too_early_is_computed_again(
    change: dict[str, object], sessions: int | None, tmp_path: Path
) -> None:
    home = Home(tmp_path)
    expected = exchange_schedule("XNYS", home)
    kept_with(home, change, sessions)
    assert exchange_schedule("XNYS", home) is expected
    assert json.loads((home.calendars / "XNYS.json").read_text())["sessions"][-1] == str(expected.sessions[-1])


@pytest.mark.parametrize("damage", ["{", "changed digit"])
def test_a_damaged_schedule_is_computed_again(damage: str, tmp_path: Path) -> None:
    home, file = Home(tmp_path), tmp_path / "calendars" / "XNYS.json"
    expected = exchange_schedule("XNYS", home)
    text = file.read_text()
    file.write_text(text.replace("1990-01-02", "1990-01-01") if damage == "changed digit" else damage)
    assert exchange_schedule("XNYS", home) is expected
    assert file.read_text() == text


def test_sessions_after_the_end_of_a_kept_schedule_are_computed(tmp_path: Path) -> None:
    home, computed = Home(tmp_path), exchange_schedule("XNYS", Home(tmp_path))
    kept_with(home, {"computed_on": str(date.today() - timedelta(days=20))}, len(computed.sessions) - 60)
    calendar = TradingCalendar("XNYS", home=home)
    assert len(calendar.all_sessions()) == len(computed.sessions) - 60
    last = computed.sessions[-1]
    assert calendar.session_days(yesterday(), last.astype(object))[-1] == last
    assert calendar.following(computed.sessions[-71], 70)[-1] == last
    assert calendar.begins(computed.sessions[-1:])[0] == computed.opens[-1]


def test_every_calendar_and_alias_is_known_and_nothing_else() -> None:
    assert all(is_calendar(name) for name in exchange_calendars.get_calendar_names(include_aliases=True))
    assert not any(map(is_calendar, ["xnys", "XXXX", "", "utils", "LUNISOLAR_HOLIDAYS"]))


def test_sundays_are_sessions_in_tel_aviv_until_2026() -> None:
    days = TradingCalendar("XTAE").sessions(date(2025, 12, 1), date(2026, 1, 31))
    assert {day.date() for day in days if day.dayofweek == 6} >= {date(2025, 12, 7), date(2026, 1, 4)}
    assert max(day for day in days if day.dayofweek == 6).date() == date(2026, 1, 4)


def test_a_calendar_without_a_session_in_the_range_is_refused() -> None:
    settings = Settings(
        market=MarketSettings(calendar="XSAU", start=date(2000, 3, 1), end=date(2019, 1, 1)),
        windows=WindowSettings(train=(date(2000, 3, 1), date(2009, 12, 31))),
    )
    with pytest.raises(CandlecastError, match=r"XSAU has no session in 2000-03-01 … 2019-01-01: set market\.start"):
        session_partitions(settings)


def test_a_run_without_sessions_names_the_tags_that_choose_them() -> None:
    sessions = session_partitions(Settings(market=MarketSettings(start=date(2024, 1, 2), end=date(2024, 1, 31))))

    @dg.asset(partitions_def=sessions)
    def prices(context: dg.AssetExecutionContext) -> None:
        sessions_of(context)

    job = dg.Definitions(assets=[prices], jobs=[dg.define_asset_job("all_prices")]).resolve_job_def("all_prices")
    with pytest.raises(CandlecastError, match=r"all_prices.*dagster/asset_partition_range_start"):
        job.execute_in_process()


@pytest.mark.parametrize(
    ("stored", "fact"), [(["AAPL", "IBM"], r"ABM in 2001-01-02 … .*AAPL, IBM.*market\.symbols"), ([], '"sample"')]
)
def test_a_misspelt_symbol_is_named_beside_those_with_bars(tmp_path: Path, stored: list[str], fact: str) -> None:
    market = MarketSettings(symbols=("ABM",), start=date(2001, 1, 2), end=date(2001, 12, 31))
    windows = WindowSettings(
        train=(date(2001, 1, 2), date(2001, 6, 29)),
        validation=(date(2001, 7, 2), date(2001, 8, 31)),
        test=(date(2001, 9, 4), date(2001, 12, 31)),
    )
    settings = Settings(market=market, windows=windows, home=tmp_path)
    warehouse = Warehouse(Home(tmp_path).warehouse)
    if stored:
        insert_bars(warehouse, sample_rows(stored))
    with pytest.raises(CandlecastError, match=fact):
        SessionPlanner(settings, TradingCalendar("XNYS"), warehouse).newest_with_bars()
