"""Parquet columns of every type, and homes at odd places: read, or refused by name."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest

from resources.errors import CandlecastError
from tests.market.market_desk import GOOD, HEADER, Desk, make_desk_in


def put(desk: Desk, **columns: object) -> Desk:
    """Write two good rows, with these columns instead."""
    values: dict[str, object] = {
        "symbol": ["AAPL", "AAPL"],
        "date": pd.to_datetime(["2012-01-03", "2012-01-04"]),
        "open": [10.0, 10.0],
        "high": [11.0, 11.0],
        "low": [9.0, 9.0],
        "close": [10.5, 10.5],
        "volume": [1.0, 2.0],
    }
    pd.DataFrame({**values, **columns}).to_parquet(desk.folder / "bars.parquet")
    return desk


@pytest.mark.parametrize(
    ("column", "cells", "kind"),
    [
        ("open", [b"10", b"10"], "BLOB"),
        ("volume", pd.to_datetime(["2012-01-03", "2012-01-04"]), "TIMESTAMP"),
        ("close", [[1.0], [2.0]], r"DOUBLE\[\]"),
        ("date", [dt.time(9, 30), dt.time(10, 30)], "TIME"),
        ("date", [b"2012-01-03", b"2012-01-04"], "BLOB"),
        ("date", [True, False], "BOOLEAN"),
    ],
)
def test_a_column_of_a_type_that_cannot_be_is_refused_by_name(
    desk: Desk, column: str, cells: object, kind: str
) -> None:
    with pytest.raises(CandlecastError, match=rf"bars\.parquet: column '{column}'.*type {kind}.*market\.columns"):
        put(desk, **{column: cells}).ingest()


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("volume", [1, 2]),
        ("volume", [None, None]),
        ("open", [Decimal("10.5"), Decimal("10.1")]),
        ("open", ["10.5", "10.1"]),
        ("date", [dt.date(2012, 1, 3), dt.date(2012, 1, 4)]),
        ("date", [20120103, 20120104]),
        ("date", [20120103.0, 20120104.0]),
        ("note", [b"x", b"y"]),
    ],
)
def test_a_column_of_another_type_that_can_be_is_read(desk: Desk, column: str, cells: object) -> None:
    assert put(desk, **{column: cells}).ingest().kept == 2


@pytest.mark.parametrize("day", [dt.date(2012, 1, 3), pd.Timestamp("2012-01-03")])
@pytest.mark.parametrize("clocks", [["09:30", "10:30"], [dt.time(9, 30), dt.time(10, 30)]])
def test_a_date_and_a_clock_beside_it_are_one_stamp(
    make_desk: Callable[..., Desk], day: object, clocks: object
) -> None:
    desk = put(make_desk(frequency="1h"), date=[day, day], time=clocks)
    desk.ingest()
    assert desk.bars()["ts"].dt.strftime("%H:%M").tolist() == ["14:30", "15:30"]


def test_stamps_that_hold_their_time_need_no_clock(make_desk: Callable[..., Desk]) -> None:
    stamps = pd.to_datetime(["2012-01-03 09:30", "2012-01-03 10:30"])
    desk = put(make_desk(frequency="1h"), date=stamps, time=["whenever", "whenever"])
    assert desk.ingest().kept == 2


@pytest.mark.parametrize("folder", ["o'hara", "date=2012-02-01"])
def test_a_home_at_an_odd_place_works(tmp_path: Path, folder: str) -> None:
    desk = make_desk_in(tmp_path / folder)
    file = tmp_path / "bars.parquet"
    pd.DataFrame([GOOD.split(","), GOOD.replace("-03", "-07").split(",")], columns=HEADER.split(",")).to_parquet(file)
    desk.write("bars.parquet", file.read_bytes())
    desk.ingest()
    assert [str(day.date()) for day in desk.bars()["session"]] == ["2012-01-03"]
    assert desk.rejected()["date"].tolist() == ["2012-01-07"]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [([700.0, 5.0], "DOUBLE"), ([True, True], "BOOLEAN"), ([dt.date(2012, 1, 3)] * 2, "DATE")],
)
def test_a_symbol_that_a_tool_made_something_else_of_is_refused(desk: Desk, cells: object, kind: str) -> None:
    with pytest.raises(CandlecastError, match=rf"bars\.parquet: column 'symbol', read as symbol, has the type {kind}"):
        put(desk, symbol=cells).ingest()


@pytest.mark.parametrize(("cells", "symbols"), [([700, 5], ["5", "700"]), ([b"A", b"B"], ["A", "B"])])
def test_symbols_of_numbers_and_of_bytes_are_names(desk: Desk, cells: object, symbols: list[str]) -> None:
    put(desk, symbol=cells).ingest()
    assert desk.bars()["symbol"].tolist() == symbols


@pytest.mark.parametrize("name", ["_row", "_unparsed"])
def test_a_column_of_a_name_that_payloads_need_is_refused(desk: Desk, name: str) -> None:
    with pytest.raises(CandlecastError, match=rf"bars\.parquet: .*\b{name}\b"):
        put(desk, low=[12.0, 12.0], **{name: [1, 1]}).ingest()


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Tokyo", "UTC", "+03:00", "-08:00"])
def test_midnight_of_a_daily_bar_is_its_day_in_whatever_zone_it_was_written(desk: Desk, zone: str) -> None:
    days = pd.DatetimeIndex(["2012-01-04", "2012-07-05"]).tz_localize(zone)
    put(desk, date=days).ingest()
    assert desk.bars()["session"].dt.strftime("%m-%d").tolist() == ["01-04", "07-05"]


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York", "+03:00"])
@pytest.mark.parametrize("unit", ["ns", *(pytest.param(unit, marks=pytest.mark.slow) for unit in ("s", "ms", "us"))])
def test_stamps_of_every_unit_with_and_without_a_zone_are_read(
    make_desk: Callable[..., Desk], unit: Literal["s", "ms", "us", "ns"], zone: str | None
) -> None:
    days = pd.DatetimeIndex(["2012-01-03", "2012-07-05"]).tz_localize(zone).as_unit(unit)
    desk = put(make_desk(), date=days)
    desk.ingest()
    assert desk.bars()["session"].dt.strftime("%m-%d").tolist() == ["01-03", "07-05"]
    desk = put(desk, date=days, open=[12.0, 12.0])
    assert desk.ingest().rejected == 2
    assert desk.rejected()["date"].str[:4].tolist() == ["2012", "2012"]

    stamps = pd.DatetimeIndex(["2012-01-03 14:30", "2012-07-05 13:30"], tz="UTC").as_unit(unit).tz_convert(zone)
    hourly = put(make_desk("hourly", frequency="1h", timezone="UTC"), date=stamps)
    hourly.ingest()
    assert hourly.bars()["ts"].dt.strftime("%m-%d %H:%M").tolist() == ["01-03 14:30", "07-05 13:30"]


def test_a_fraction_of_a_day_is_not_rounded_to_the_next(desk: Desk) -> None:
    put(desk, date=[20120103.0, 20120104.7]).ingest()
    assert (len(desk.bars()), desk.rules()) == (1, ["unreadable_date"])


def test_a_folder_with_brackets_is_a_folder(tmp_path: Path) -> None:
    assert make_desk_in(tmp_path / "bars [2012]").ingest_text(f"{HEADER}\n{GOOD}\n").kept == 1
