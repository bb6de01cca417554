"""Vendors' columns in other languages, units in cells, and what looks like a volume and is not read as one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from assets.market.ingest.file_warnings import file_warnings
from assets.market.parsing.exchanges import suggested_calendars
from resources.errors import CandlecastError
from tests.market.market_desk import Desk

OHLC = "open,high,low,close"


def lines(*rows: str) -> str:
    return "\n".join([*rows, ""])


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("일자,종목코드,시가,고가,저가,종가,거래량", "2012-01-03,MMM,10,11,9,10.5,70"),
        ("日付,コード,始値,高値,安値,終値,出来高", "2012-01-03,MMM,10,11,9,10.5,70"),
        ("Datum;Ticker;Eröffn.;Hoch;Tief;Zuletzt;Vol.", "17.01.2012;MMM;10,0;11,0;9,0;10,5;0,07K"),
        ("DATE1,SYMBOL,OPEN_PRICE,HIGH_PRICE,LOW_PRICE,CLOSE_PRICE,TTL_TRD_QNTY", "03-Jan-2012,MMM,10,11,9,10.5,70"),
        ("Datum;Ticker;Erster;Hoch;Tief;Schlusskurs;Stuecke;Volumen", "17.01.2012;MMM;10,0;11,0;9,0;10,5;70;735"),
        ("日期,證券代號,成交股數,成交金額,開盤價,最高價,最低價,收盤價", "2012-01-03,MMM,70,735,10,11,9,10.5"),
        ("instrument_name,open,high,low,close,vol,window_start", "MMM,10,11,9,10.5,70,2012-01-03"),
        ("Datum;Ticker;Eröffnung;Hoch;Tief;Schluss;Volumen", "17.01.2012;MMM;10,0;11,0;9,0;10,5;70"),
        ("Date,Symbols,Open,High,Low,Close,Volume", "3-January-2012,MMM,10,11,9,10.5,70"),
    ],
)
def test_columns_in_other_languages(desk: Desk, header: str, row: str) -> None:
    desk.ingest_text(lines(header, row, row.replace("MMM", "AOS")))
    found = desk.bars()[["symbol", "open", "high", "low", "close", "volume"]]
    assert found.to_numpy().tolist() == [[symbol, 10.0, 11.0, 9.0, 10.5, 70.0] for symbol in ("AOS", "MMM")]


@pytest.mark.parametrize("pieces", ["Stuecke", "Stücke"])
def test_volumen_beside_pieces_is_the_amount(desk: Desk, pieces: str) -> None:
    desk.ingest_text(lines(f"Datum;Ticker;Open;High;Low;Close;Volumen;{pieces}", "17.01.2012;M;10;11;9;10,5;840,5;80"))
    assert desk.bars()[["volume", "amount"]].to_numpy().tolist() == [[80, 840.5]]


@pytest.mark.parametrize(
    ("written", "volume"), [("2万手", 2e6), ("35手", 3500), ("1.2亿股", 1.2e8), ("700股", 700), ("4万", 4e4)]
)
def test_units_in_cells(make_desk: Callable[..., Desk], written: str, volume: float) -> None:
    desk = make_desk(calendar="XSHG")
    desk.ingest_text(lines(f"日期,{OHLC},成交量", f"2012-01-05,10,11,9,10.5,{written}"))
    assert desk.bars()["volume"].tolist() == [volume]


def test_a_column_that_may_be_the_volume_is_warned_of(make_desk: Callable[..., Desk]) -> None:
    text = lines(f"date,{OHLC},units_qty", "2012-01-03,10,11,9,10.5,70")
    unset = make_desk("unset")
    unset.ingest_text(text)
    assert '[market.columns] volume = "units_qty"' in "".join(file_warnings(unset.lake, unset.source))
    for name, value in (("named", "units_qty"), ("left out", "")):
        desk = make_desk(name, columns={"volume": value})
        desk.ingest_text(text)
        assert file_warnings(desk.lake, desk.source) == []
        assert desk.bars()["volume"].notna().tolist() == [bool(value)]


def test_two_series_of_one_symbol_and_date_are_refused(desk: Desk) -> None:
    text = lines(f"SYMBOL,SERIES,DATE,{OHLC}", "FIG, EQ, 03-Jan-2012,10,11,9,10.5", "FIG, BE, 03-Jan-2012,20,21,19,20")
    with pytest.raises(CandlecastError, match=r"'SERIES'.*market\] series"):
        desk.ingest_text(text)


@pytest.mark.parametrize(
    ("symbols", "columns", "calendar"),
    [
        (["005930.KS"], [], "XKRX"),
        (["AVAXUSDT"], [], "24/7"),
        (["ETH-USD"], [], "24/7"),
        (["NZDCAD"], [], "24/5"),
        (["sz.000001"], [], "XSHG"),
        (["ZNH25"], [], "CMES"),
        (["ETH_KRW"], [], "24/7"),
        (["KRW-SOL"], [], "24/7"),
        (["USDIDR"], [], "24/5"),
        (["A"], ["终价"], "XSHG"),
        (["A"], ["시가"], "XKRX"),
        (["A"], ["出来高"], "XTKS"),
        (["A"], ["開盤價"], "XTAI"),
    ],
)
def test_names_suggest_a_calendar(symbols: list[str], columns: list[str], calendar: str) -> None:
    assert suggested_calendars(symbols, columns, False)[0] == calendar


def test_names_of_no_exchange_suggest_none() -> None:
    assert suggested_calendars(["MSFT", "BRK.B", "CAD"], ["Date", "Close"], False) == []
