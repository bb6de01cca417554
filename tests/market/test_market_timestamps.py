"""Timestamps: one invalid date rejects one row, and formats are inferred from the valid ones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pandas as pd
import pytest

from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from tests.market.market_desk import HEADER, Desk

DAYS = pd.bdate_range("2012-03-01", periods=20)


def table(*dates: str) -> str:
    return "\n".join([HEADER, *(f"AAPL,{day},10,11,9,10.5,{volume}" for volume, day in enumerate(dates))]) + "\n"


@pytest.mark.parametrize("odd", ["00000000", "99999999", "12345678"])
@pytest.mark.parametrize("place", [0, 10, 20])
def test_one_impossible_compact_date_rejects_only_its_row(desk: Desk, odd: str, place: int) -> None:
    days = [f"{day:%Y%m%d}" for day in DAYS]
    done = desk.ingest_text(table(*days[:place], odd, *days[place:]))
    assert (done.kept, desk.rules()) == (20, ["unreadable_date"])


@pytest.mark.parametrize("odd", ["2012-03-01T00:00:00X", "2012-03-01A00:00:00Z"])
def test_one_invalid_time_zone_letter_rejects_only_its_row(desk: Desk, odd: str) -> None:
    done = desk.ingest_text(table(odd, *(f"{day.date()}T00:00:00Z" for day in DAYS)))
    assert (done.kept, desk.rules()) == (20, ["unreadable_date"])


@pytest.mark.parametrize("frequency", ["1d", "1h"])
@pytest.mark.parametrize(
    ("odd", "rule"),
    [
        ("0001-01-01 00:00", "before_the_calendar"),
        ("1899-12-30 00:00", "before_the_calendar"),
        ("2262-04-10 00:00", "in_the_future"),
        ("2999-01-02 09:30", "in_the_future"),
        ("9999-12-31 00:00", "in_the_future"),
    ],
)
def test_a_date_outside_the_calendar_rejects_only_its_row(
    make_desk: Callable[..., Desk], frequency: str, odd: str, rule: str
) -> None:
    done = make_desk(frequency=frequency).ingest_text(table("2012-01-03 09:30", odd, "2012-01-04 09:30"))
    assert (done.kept, done.rejected) == (2, 1)
    assert make_desk(frequency=frequency).rules() == [rule]


@pytest.mark.parametrize("frequency", ["1d", "1h"])
def test_a_file_with_only_such_dates_is_rejected_by_name(make_desk: Callable[..., Desk], frequency: str) -> None:
    desk = make_desk(frequency=frequency)
    desk.ingest_text(table("0001-01-01 00:00", "9999-12-31 00:00"))
    assert set(desk.rules()) <= {"before_the_calendar", "in_the_future"}
    assert desk.bars().empty


def test_a_grid_is_limited_to_the_range_of_the_calendar() -> None:
    calendar = TradingCalendar("XNYS", "1h")
    assert calendar.grid(date.min, date(1990, 1, 2))["session"].nunique() <= 3
    assert calendar.grid(date(9998, 1, 1), date.max)["session"].nunique() <= 3


@pytest.mark.slow
def test_a_stray_date_expects_no_bars_of_the_years_between(
    make_desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[date, date]] = []
    grid = TradingCalendar.grid

    def recorded(self: TradingCalendar, first: date, last: date) -> pd.DataFrame:
        asked.append((first, last))
        return grid(self, first, last)

    monkeypatch.setattr(TradingCalendar, "grid", recorded)
    make_desk(calendar="24/7", frequency="1min").ingest_text(table("1995-01-03 09:30", "2024-01-03 09:30"))
    assert sum((last - first).days for first, last in asked[:2]) == 0


@pytest.mark.parametrize("offset", ["-48:00", "+99:99", "-05:99"])
def test_an_impossible_utc_offset_rejects_only_its_row(make_desk: Callable[..., Desk], offset: str) -> None:
    desk = make_desk(frequency="1h")
    done = desk.ingest_text(table("2024-03-05T09:30:00-05:00", f"2024-03-05T14:30:00{offset}"))
    assert (done.kept, desk.rules()) == (1, ["unreadable_date"])


def test_a_stray_date_does_not_swap_day_and_month(desk: Desk) -> None:
    """Month first these are the 7th, 8th and 11th of June and a Saturday; day first, all four are sessions."""
    desk.write("bars.csv", table("06/07/2012", "06/08/2012", "06/11/2012", "06/09/2012"))
    with pytest.raises(CandlecastError, match=r"bars\.csv.*date_order"):
        desk.ingest()
    assert desk.bars().empty


@pytest.mark.parametrize(("dates", "day"), [(["06/13/2012"], "2012-06-13"), (["13/06/2012"], "2012-06-13")])
def test_a_thirteenth_month_decides_at_once(desk: Desk, dates: list[str], day: str) -> None:
    desk.ingest_text(table(*dates))
    assert [str(session)[:10] for session in desk.bars()["session"]] == [day]


@pytest.mark.parametrize(
    ("clocks", "frequency", "stored"),
    [
        (["093000", "103000"], "1h", ["14:30", "15:30"]),
        (["93000", "103000"], "1h", ["14:30", "15:30"]),
        (["0930", "1030"], "1h", ["14:30", "15:30"]),
        (["930", "1030"], "1h", ["14:30", "15:30"]),
        (["09:30:00", "10:30:00"], "1h", ["14:30", "15:30"]),
        (["000000", "000000"], "1d", ["00:00", "00:00"]),
        (["0", "0"], "1d", ["00:00", "00:00"]),
    ],
)
def test_a_time_without_colons_is_parsed(
    make_desk: Callable[..., Desk], clocks: list[str], frequency: str, stored: list[str]
) -> None:
    days = ["20120103", "20120103"] if frequency == "1h" else ["20120103", "20120104"]
    rows = [f"AAPL.US,60,{day},{clock},10,11,9,10.5,5,0" for day, clock in zip(days, clocks, strict=True)]
    header = "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>"
    desk = make_desk(frequency=frequency)
    done = desk.ingest_text("\n".join([header, *rows]) + "\n")
    assert (done.kept, desk.rules()) == (2, [])
    assert desk.bars()["ts"].dt.strftime("%H:%M").tolist() == stored


@pytest.mark.parametrize("stamp", ["20120103T143000Z", "20120103 143000+0000", "20120103 1430Z", "2012-01-03T1430Z"])
def test_a_timestamp_without_colons_keeps_its_time_zone(make_desk: Callable[..., Desk], stamp: str) -> None:
    desk = make_desk(frequency="1h")
    desk.ingest_text(table(stamp))
    assert desk.bars()["ts"].dt.strftime("%m-%d %H:%M").tolist() == ["01-03 14:30"]


@pytest.mark.parametrize("odd", ["20120103 246000", "20120103 12345", "20120103 0930001"])
def test_an_impossible_time_rejects_only_its_row(make_desk: Callable[..., Desk], odd: str) -> None:
    desk = make_desk(frequency="1h")
    desk.ingest_text(table("20120103 093000", "20120103 103000", odd))
    assert (len(desk.bars()), desk.rules()) == (2, ["unreadable_date"])


@pytest.mark.parametrize(
    ("calendar", "timezone", "stamp", "day"),
    [
        # Midnight in Tokyo, with and without the zone in the stamp; its day, and the day of its close.
        ("XTKS", "UTC", "2015-01-05 15:00:00", "2015-01-06"),
        ("XTKS", "UTC", "2015-01-05 15:00:00Z", "2015-01-06"),
        ("XTKS", "UTC", "2015-01-06", "2015-01-06"),
        ("XTKS", "UTC", "2015-01-06 00:00:00", "2015-01-06"),
        ("XTKS", None, "2015-01-06 15:00:00", "2015-01-06"),
        ("XTKS", "Asia/Tokyo", "2015-01-06 15:00:00", "2015-01-06"),
        ("XNYS", "UTC", "2015-01-06 02:00:00", "2015-01-05"),
        ("XNYS", "UTC", "2015-01-06 21:00:00", "2015-01-06"),
        ("XNYS", "Asia/Shanghai", "2015-01-07 05:00:00", "2015-01-06"),
    ],
)
def test_a_daily_timestamp_with_a_time_belongs_to_the_day_of_the_exchange(
    make_desk: Callable[..., Desk], calendar: str, timezone: str | None, stamp: str, day: str
) -> None:
    desk = make_desk(calendar=calendar, timezone=timezone)
    desk.ingest_text(table(stamp))
    assert desk.bars()["session"].dt.strftime("%Y-%m-%d").tolist() == [day]


@pytest.mark.parametrize(
    ("stamp", "time"),
    [
        ("2012-01-03 9:30:00 AM", "14:30"),
        ("2012-01-03 09:30 AM", "14:30"),
        ("2012-01-03 9:30:00AM", "14:30"),
        ("2012-01-03T9:30:00 am", "14:30"),
        ("1/13/2012 1:30:00 PM", "18:30"),
        ("3-Jan-2012 1:30:00 pm", "18:30"),
        ("Jan 3, 2012 12:30 PM", "17:30"),
        ("2012-01-03 2:30:00 PM Z", "14:30"),
    ],
)
def test_a_twelve_hour_time_is_parsed(make_desk: Callable[..., Desk], stamp: str, time: str) -> None:
    desk = make_desk(frequency="1h")
    desk.ingest_text(f'{HEADER}\nAAPL,"{stamp}",10,11,9,10.5,1\n')
    assert desk.bars()["ts"].dt.strftime("%H:%M").tolist() == [time]


@pytest.mark.parametrize("odd", ["2012-01-03 10:30:00 BM", "2012-01-03 13:30:00 PM", "2012-01-03 0:30:00 AM"])
def test_an_impossible_twelve_hour_time_rejects_only_its_row(make_desk: Callable[..., Desk], odd: str) -> None:
    desk = make_desk(frequency="1h")
    desk.ingest_text(table("2012-01-03 9:30:00 AM", odd, "2012-01-03 12:30:00 PM"))
    assert desk.bars()["ts"].dt.strftime("%H:%M").tolist() == ["14:30", "17:30"]
    assert desk.rules() == ["unreadable_date"]


def test_noon_and_midnight_as_twelve_hour_times(desk: Desk) -> None:
    desk.ingest_text(table("2012-01-03 12:00:00 AM", "2012-01-04 12:00:00 PM"))
    assert desk.bars()["session"].dt.day.tolist() == [3, 4]


@pytest.mark.parametrize("stamp", ["03/01/12", "3-Jan-12"])
def test_a_year_of_two_digits_is_rejected_with_the_reason(desk: Desk, stamp: str) -> None:
    desk.ingest_text(table(stamp))
    assert "four digits" in desk.rejected()["reason"].item()
