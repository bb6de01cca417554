"""Intraday bars: time zones, daylight saving, half days, markets that never close."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from assets.market.ingest.ingest import ingest
from resources.calendar import TradingCalendar
from tests.market.market_desk import HEADER, Desk


def hours(*stamps: str) -> str:
    return (
        "\n".join([HEADER, *(f"AAPL,{stamp},10,11,9,10.5,{number}" for number, stamp in enumerate(stamps, 1))]) + "\n"
    )


def stored(desk: Desk) -> list[str]:
    times: list[str] = desk.bars()["ts"].dt.strftime("%m-%d %H:%M").tolist()
    return times


def test_exchange_time_becomes_utc_on_both_sides_of_a_clock_change(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(frequency="1h")
    desk.ingest_text(
        hours("2024-03-08 09:30", "2024-03-08 15:30", "2024-03-11 09:30", "2024-11-01 09:30", "2024-11-04 09:30")
    )
    assert stored(desk) == ["03-08 14:30", "03-08 20:30", "03-11 13:30", "11-01 13:30", "11-04 14:30"]


def test_the_time_zone_of_a_timestamp_takes_precedence(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(frequency="1h")
    desk.ingest_text(hours("2024-03-08T14:30:00Z", "2024-03-08T10:30:00-05:00"))
    assert stored(desk) == ["03-08 14:30", "03-08 15:30"]


@pytest.mark.parametrize(
    ("stamp", "rule"),
    [
        ("2024-03-08 08:30", "outside_hours"),
        ("2024-03-08 16:00", "outside_hours"),
        ("2024-03-08 10:00", "off_the_grid"),
        ("2024-03-09 10:30", "not_a_session"),
        ("2024-07-03 13:30", "outside_hours"),
    ],
)
def test_bars_outside_the_hours_of_the_exchange_are_rejected(
    make_desk: Callable[..., Desk], stamp: str, rule: str
) -> None:
    desk = make_desk(frequency="1h")
    # The third of July 2024 closed at one.
    desk.ingest_text(hours("2024-07-03 12:30", stamp))
    assert (stored(desk), desk.rules()) == (["07-03 16:30"], [rule])
    assert list(desk.bars()["flags"][0]) == ["half_day"]


def test_missing_bars_are_flagged_not_filled(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(frequency="1h")
    desk.ingest_text(hours("2024-03-08 09:30", "2024-03-08 12:30", "2024-03-11 09:30", "2024-03-14 09:30"))
    assert [list(flags) for flags in desk.bars()["flags"]] == [[], ["after_gap"], ["after_gap"], ["after_suspension"]]


def test_a_nonexistent_or_ambiguous_local_time_is_rejected(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(calendar="24/7", frequency="1h", timezone="America/New_York")
    desk.ingest_text(
        hours("2024-03-10 01:00", "2024-03-10 02:00", "2024-03-10 03:00", "2024-11-03 01:00", "2024-11-03 02:00")
    )
    assert stored(desk) == ["03-10 06:00", "03-10 07:00", "11-03 07:00"]
    assert desk.rules() == ["no_such_local_time", "ambiguous_local_time"]


def test_one_warehouse_has_daily_and_intraday_bars_of_several_markets(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    desk.ingest_text(hours("2024-03-08"), "daily.csv")
    other = replace(desk, reading=replace(desk.reading, calendar="24/7", frequency="5min"), path="sub/*")
    other.write(
        "sub/coin.csv", hours("2024-03-09 00:00", "2024-03-09 00:05", "2024-03-09 00:07").replace("AAPL", "BTC-USD")
    )
    other.land()
    assert ingest(other.lake, other.warehouse).rejected == 1
    found = desk.warehouse.frame("SELECT symbol, frequency, count(*) AS bars FROM bars GROUP BY ALL ORDER BY ALL")
    assert found.to_numpy().tolist() == [["AAPL", "1d", 1], ["BTC-USD", "5min", 2]]


@pytest.mark.parametrize("name", ["XNYS", "XHKG", "24/7", "CMES"])
@pytest.mark.parametrize("frequency", ["1d", "1h", "5min"])
def test_a_grid_numbers_every_bar_once_whatever_the_range(name: str, frequency: str) -> None:
    calendar = TradingCalendar(name, frequency)
    whole, part = (
        calendar.grid(date(2024, 2, 26), date(2024, 4, 1)),
        calendar.grid(date(2024, 3, 10), date(2024, 3, 12)),
    )
    assert whole["ts"].is_unique
    assert (whole["position"].diff().dropna() == 1).all()
    both = part.merge(whole, on="ts", suffixes=("", "_whole"))
    assert len(both) == len(part)
    assert (both["position"] == both["position_whole"]).all()
    assert (whole["closes_at"] > whole["ts"]).all()


def test_future_bars_skip_holidays_and_follow_the_exchange_s_local_time() -> None:
    hourly = TradingCalendar("XNYS", "1h")
    coming = hourly.following(np.datetime64("2024-03-28T19:30:00"), 2)
    assert coming.astype(str).tolist() == ["2024-04-01T13:30:00", "2024-04-01T14:30:00"]
    daily = TradingCalendar("XNYS")
    assert daily.following(np.datetime64("2024-03-28"), 1).astype(str).tolist() == ["2024-04-01T00:00:00"]
    assert pd.Timestamp(TradingCalendar("24/7").following(np.datetime64("2024-03-29"), 1)[0]).day == 30


def test_bars_inside_three_others_reject_both(make_desk: Callable[..., Desk]) -> None:
    """As where two frequencies are mixed: which one is right is not known."""
    desk = make_desk(frequency="1h")
    days = pd.bdate_range("2012-01-03", periods=4).strftime("%Y-%m-%d")
    whole = [f"{day} {hour}:30" for day in days for hour in ("10", "11", "12", "13")]
    done = desk.ingest_text(hours(*whole, *(f"{day} 11:00" for day in days[:3])))
    assert (done.kept, sorted(desk.rules())) == (13, ["finer_frequency"] * 3 + ["off_the_grid"] * 3)


def test_a_stray_bar_inside_another_rejects_only_itself(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(frequency="1h")
    days = pd.bdate_range("2012-01-03", periods=5).strftime("%Y-%m-%d")
    good = [f"{day} {hour}:30" for day in days for hour in ("10", "11", "12")]
    done = desk.ingest_text(hours(*good, "2012-01-03 10:45", "2012-01-04 12:31"))
    assert (done.kept, desk.rules()) == (15, ["off_the_grid", "off_the_grid"])
