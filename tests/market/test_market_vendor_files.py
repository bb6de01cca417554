"""Files as vendors write them are read right, or refused with the setting that decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from assets.market.ingest.file_warnings import file_warnings
from assets.market.ingest.inference import infer_market
from assets.market.ingest.understanding import understand
from resources.errors import CandlecastError
from resources.sources.file_symbols import symbol_of
from resources.sources.protocol import Reading
from tests.market.market_desk import Desk

OHLC = "open,high,low,close"
PRICES = "10,11,9,10.5"


def lines(*rows: str) -> str:
    return "\n".join(rows) + "\n"


def stored(desk: Desk, *columns: str) -> list[tuple[object, ...]]:
    """The stored bars, timestamps as text."""
    found = desk.bars()
    found["ts"] = found["ts"].astype(str)
    return list(found[list(columns)].itertuples(index=False, name=None))


def test_end_stamps_of_a_market_with_a_break_are_refused_and_read_with_the_setting(
    make_desk: Callable[..., Desk],
) -> None:
    hours = ("09:35", "11:30", "13:05", "15:00")
    text = lines(f"date,{OHLC}", *[f"2023-06-0{day} {hour},{PRICES}" for day in (5, 6) for hour in hours])
    with pytest.raises(CandlecastError, match=r'bars\.csv.*market\.stamp = "end"'):
        make_desk("unset", calendar="XSHG", frequency="5min").ingest_text(text)

    desk = make_desk("end", calendar="XSHG", frequency="5min", stamp="end")
    assert desk.ingest_text(text).kept == 8
    first_day = [ts for (ts,) in stored(desk, "ts")][:4]
    assert first_day == [f"2023-06-05 {start}:00" for start in ("01:30", "03:25", "05:00", "06:55")]


def test_a_timestamp_that_ends_no_bar_is_rejected(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(calendar="XNYS", frequency="1h", stamp="end")
    desk.ingest_text(lines(f"date,{OHLC}", f"2023-06-05 10:30,{PRICES}", f"2023-06-05 09:30,{PRICES}"))
    assert stored(desk, "ts") == [("2023-06-05 13:30:00",)]
    assert desk.rules() == ["off_the_grid"]


def test_start_stamps_are_accepted_without_a_setting(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(calendar="XNYS", frequency="1h")
    text = lines(f"date,{OHLC}", *[f"2023-06-05 {hour}:30,{PRICES}" for hour in range(10, 16)])
    assert desk.ingest_text(text.replace("10:30,", "09:30,", 1)).kept == 6


SPLIT_ADJUSTED = lines(
    f"Date,{OHLC},Volume,Dividends,Stock Splits",
    "2022-06-03,122,124,121,122.5,1000,0,0",
    "2022-06-06,125,128,123,124.8,1100,0,20",
    "2022-06-07,122,125,121,123.1,1200,0,0",
)


def test_split_adjusted_prices_beside_a_split_column_are_not_adjusted_again(make_desk: Callable[..., Desk]) -> None:
    with pytest.raises(CandlecastError, match=r"bars\.csv.*'Stock Splits'.*20.*market\.adjusted = \"splits\""):
        make_desk("unset").ingest_text(SPLIT_ADJUSTED)

    quoted = make_desk("splits", adjusted="splits")
    quoted.ingest_text(SPLIT_ADJUSTED)
    assert [(close, split) for close, split in stored(quoted, "close", "split")][:2] == [(2450.0, 1.0), (124.8, 20.0)]

    total = make_desk("both", adjusted="splits and dividends")
    total.ingest_text(SPLIT_ADJUSTED)
    assert [close for (close,) in stored(total, "close")] == [122.5, 124.8, 123.1]
    assert total.bars()["split"].isna().all()


def test_quoted_prices_contradict_the_setting_that_they_are_adjusted(make_desk: Callable[..., Desk]) -> None:
    quoted = SPLIT_ADJUSTED.replace("122,124,121,122.5", "2440,2480,2420,2450")
    make_desk("unset").ingest_text(quoted)
    with pytest.raises(CandlecastError, match=r'market\.adjusted = "none"'):
        make_desk("splits", adjusted="splits").ingest_text(quoted)


@pytest.mark.parametrize("name", ["adj_factor", "factor"])
def test_a_factor_beside_quoted_prices_gives_the_split(make_desk: Callable[..., Desk], name: str) -> None:
    desk = make_desk(calendar="XSHG")
    desk.ingest_text(
        lines(
            f"trade_date,{OHLC},{name}",
            "20220606,30.1,30.5,29.9,30.3,50",
            "20220607,10.1,10.3,10.0,10.2,150",
            "20220608,10.2,10.4,10.1,10.3,150",
        )
    )
    assert desk.bars()["split"].tolist()[1:] == [3.0, 1.0]


def test_a_factor_that_prices_are_multiplied_by_is_divided_out(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(calendar="XSHG")
    desk.ingest_text(
        lines(
            f"trade_date,{OHLC},factor",
            "20220606,15.05,15.25,14.95,15.15,0.5",
            "20220607,15.15,15.45,15.0,15.3,1.5",
        )
    )
    assert desk.bars()["close"].round(6).tolist() == [30.3, 10.2]


@pytest.mark.parametrize("name", ["Name", "ts_code", "股票代码", "Ticker"])
def test_symbol_columns_of_vendors_are_recognised(desk: Desk, name: str) -> None:
    rows = [f"2012-01-0{day},{PRICES},{symbol}" for day in (3, 4) for symbol in ("MMM", "AOS")]
    desk.ingest_text(lines(f"date,{OHLC},{name}", *rows))
    assert sorted({str(symbol) for (symbol,) in stored(desk, "symbol")}) == ["AOS", "MMM"]


def test_several_rows_per_date_name_the_column_that_tells_them_apart(make_desk: Callable[..., Desk]) -> None:
    rows = [f"2012-01-0{day},{day},11,1,{price},{paper}" for day in (3, 4) for price, paper in ((5, "X1"), (6, "X2"))]
    text = lines(f"date,{OHLC},paper", *rows)
    with pytest.raises(CandlecastError, match=r"bars\.csv.*'paper'.*symbol = \"paper\""):
        make_desk("unset").ingest_text(text)
    named = make_desk("named", columns={"symbol": "paper"})
    assert named.ingest_text(text).kept == 4


def test_series_of_a_symbol_are_selected(make_desk: Callable[..., Desk]) -> None:
    text = lines(
        f"SYMBOL,SERIES,{OHLC},TIMESTAMP",
        f"ZED,EQ,{PRICES},03-JAN-2012",
        "ZED,BE,20,21,19,20,03-JAN-2012",
        f"YAK,EQ,{PRICES},03-JAN-2012",
    )
    with pytest.raises(CandlecastError, match=r"'SERIES'.*series = \[\"EQ\"\]"):
        make_desk("unset").ingest_text(text)
    desk = make_desk("eq", series=["EQ"])
    assert desk.ingest_text(text).kept == 2
    assert desk.rules() == ["other_series"]


@pytest.mark.parametrize("symbol", ["ETH/USD", "M&M", "^SPX", "BRK.B", "BTC-USD", "ES=F"])
def test_characters_of_symbols_are_kept(desk: Desk, symbol: str) -> None:
    desk.ingest_text(lines(f"symbol,date,{OHLC}", f"{symbol},2012-01-03,{PRICES}"))
    assert stored(desk, "symbol") == [(symbol,)]


@pytest.mark.parametrize(
    ("file", "rule", "symbol"),
    [
        ("bars/ETHUSDT-5m-2023-07.csv", None, "ETHUSDT"),
        ("bars/GBPUSD_H1_202301020000_202306302300.csv", None, "GBPUSD"),
        ("bars/MSFT.US.csv", None, "MSFT"),
        ("bars/BRK-B.csv", None, "BRK-B"),
        ("bars/200002.csv", None, "200002"),
        ("bars/GBPUSD_H1.csv", "stem", "GBPUSD_H1"),
        ("bars/MSFT/2023.csv", "folder", "MSFT"),
        ("bars/x_MSFT_y.csv", "x_{symbol}_{part}", "MSFT"),
    ],
)
def test_the_symbol_of_a_file_name(file: str, rule: str | None, symbol: str) -> None:
    assert symbol_of(file, ".csv", rule) == symbol


def test_a_file_name_that_does_not_match_the_pattern_is_named() -> None:
    with pytest.raises(CandlecastError, match=r"A\.csv.*symbol_from"):
        symbol_of("A.csv", ".csv", "{symbol}-1h-{month}")


@pytest.mark.parametrize("header", ["Gmt time", "time_utc", "Date (UTC)"])
def test_the_zone_in_the_name_of_a_column_is_used(make_desk: Callable[..., Desk], header: str) -> None:
    desk = make_desk(calendar="XNYS", frequency="1h")
    desk.ingest_text(lines(f"{header},{OHLC}", f"2023-06-05 13:30,{PRICES}", f"2023-06-05 14:30,{PRICES}"))
    assert stored(desk, "ts") == [("2023-06-05 13:30:00",), ("2023-06-05 14:30:00",)]


@pytest.mark.parametrize(
    ("header", "zone"),
    [("Time (EET)", "Europe/Athens"), ("time_CEST", "Europe/Berlin"), ("Date NZDT", "Pacific"), ("Date [BRT]", "BRT")],
)
def test_an_unclear_zone_in_the_name_of_a_column_needs_the_setting(
    make_desk: Callable[..., Desk], header: str, zone: str
) -> None:
    text = lines(f"{header},{OHLC}", f"2023-06-05 15:00,{PRICES}")
    with pytest.raises(CandlecastError, match=rf"market\.timezone.*{zone}|{zone}.*market\.timezone"):
        make_desk("unset", calendar="24/5", frequency="1h").ingest_text(text)
    desk = make_desk("set", calendar="24/5", frequency="1h", timezone="Europe/Athens")
    desk.ingest_text(text)
    assert stored(desk, "ts") == [("2023-06-05 12:00:00",)]


@pytest.mark.parametrize(
    ("written", "volume"),
    [("12.5K", 12_500), ("3.02M", 3_020_000), ("1.5B", 1.5e9), ("2.5万", 25_000), ("1.2亿", 1.2e8)],
)
def test_suffixes_and_currency_signs_of_numbers(desk: Desk, written: str, volume: float) -> None:
    desk.ingest_text(lines(f"date,{OHLC},volume", f'2012-01-03,$10.00,"$1,100.50",$9.00,$10.50,{written}'))
    assert stored(desk, "high", "volume") == [(1100.5, volume)]


def test_marks_of_no_number_leave_the_volume_empty(desk: Desk) -> None:
    desk.ingest_text(lines(f"date,{OHLC},volume", f"2012-01-03,{PRICES},-", f"2012-01-04,{PRICES},N/A"))
    assert desk.bars()["volume"].isna().tolist() == [True, True]


def test_a_rate_of_turnover_is_no_amount_and_turnover_in_money_is(make_desk: Callable[..., Desk]) -> None:
    rate, money = make_desk("rate"), make_desk("money")
    rate.ingest_text(lines(f"date,{OHLC},volume,turnover", f"2012-01-03,{PRICES},90000,1.7"))
    money.ingest_text(lines(f"date,{OHLC},volume,turnover", f"2012-01-03,{PRICES},90000,900000"))
    assert rate.bars()["amount"].isna().all()
    assert money.bars()["amount"].tolist() == [900_000]


def test_a_column_is_left_out_by_an_empty_name(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(columns={"volume": ""})
    desk.ingest_text(lines(f"date,{OHLC},volume", f"2012-01-03,{PRICES},twelve"))
    assert desk.bars()["volume"].isna().tolist() == [True]


def test_scales_of_price_and_volume(make_desk: Callable[..., Desk]) -> None:
    text = lines(f"date,{OHLC},volume", "2012-01-03,1000100,1100200,900300,1050400,12")
    with pytest.raises(CandlecastError, match=r"bars\.csv.*market\.scale\.price"):
        make_desk("unset").ingest_text(text)
    desk = make_desk("scaled", scale={"price": 1e-4, "volume": 100})
    desk.ingest_text(text)
    assert stored(desk, "open", "close", "volume") == [(100.01, 105.04, 1200.0)]


def test_weekly_bars_in_a_daily_profile_are_refused(desk: Desk) -> None:
    days = ("2012-01-06", "2012-01-13", "2012-01-20", "2012-01-27", "2012-02-03")
    with pytest.raises(CandlecastError, match=r"bars\.csv.*5 bars of 1d apart"):
        desk.ingest_text(lines(f"date,{OHLC}", *[f"{day},{PRICES}" for day in days]))


def test_a_weekly_symbol_beside_a_daily_one_is_refused_and_a_seldom_traded_one_is_not(
    make_desk: Callable[..., Desk],
) -> None:
    daily = [f"KO,2012-01-{day:02d},{PRICES}" for day in (3, 4, 5, 6, 9, 10, 11, 12, 13, 17, 18, 19, 20, 23, 24)]
    weekly = [f"PEP,{day},{PRICES}" for day in ("2012-01-06", "2012-01-13", "2012-01-20", "2012-01-27")]
    seldom = [f"OTC,{day},{PRICES}" for day in ("2012-01-04", "2012-01-11", "2012-02-08", "2012-03-01")]
    with pytest.raises(CandlecastError, match=r"bars\.csv.*PEP.*5 bars of 1d apart"):
        make_desk("weekly").ingest_text(lines(f"symbol,date,{OHLC}", *daily, *weekly))
    assert make_desk("seldom").ingest_text(lines(f"symbol,date,{OHLC}", *daily, *seldom)).kept == 19


@pytest.mark.parametrize(
    ("hours", "stamp", "settings"),
    [
        ("10:30 11:30 12:30 13:30 14:30 15:30 16:00", "end", {"calendar": "XNYS", "frequency": "1h"}),
        (
            "09:30 10:00 11:00 12:00 13:00 14:00 15:00",
            "start",
            {"calendar": "XNYS", "frequency": "1d", "resample": True},
        ),
    ],
)
def test_hourly_bars_with_a_half_hour_are_not_read_as_half_hours(
    make_desk: Callable[..., Desk], tmp_path: Path, hours: str, stamp: str, settings: dict[str, object]
) -> None:
    days = ("2023-06-05", "2023-06-06", "2023-06-07")
    text = lines(f"date,{OHLC}", *(f"{day} {hour},{PRICES}" for day in days for hour in hours.split()))
    desk = make_desk(calendar="XNYS", frequency="30min", stamp=stamp)
    file = desk.write("bars.csv", text)
    with pytest.raises(CandlecastError, match=r"bars\.csv.*2 bars of 30min.*market\.frequency.*market\.resample"):
        desk.ingest()
    assert infer_market(file, {}, tmp_path / "scratch").settings == settings


def test_title_lines_before_the_header_are_skipped(desk: Desk) -> None:
    desk.ingest_text(lines("Prices of Example Corp.", "", f"date,{OHLC}", f"2012-01-03,{PRICES}"))
    assert stored(desk, "open", "close") == [(10.0, 10.5)]


def test_a_file_without_a_header_needs_names(make_desk: Callable[..., Desk]) -> None:
    text = lines(f"2012-01-03,{PRICES},7", f"2012-01-04,{PRICES},8")
    with pytest.raises(CandlecastError, match=r"bars\.csv.*header = \["):
        make_desk("unset").ingest_text(text)
    desk = make_desk("named", header=["date", "open", "high", "low", "close", "volume"])
    desk.ingest_text(text)
    assert [volume for (volume,) in stored(desk, "volume")] == [7, 8]


def test_changed_names_of_a_header_revise_the_bars(make_desk: Callable[..., Desk]) -> None:
    text = lines("2012-01-03,10,12,8,11,5,6")
    first = make_desk("one", header=["date", "open", "high", "low", "close", "volume", "note"])
    first.ingest_text(text)
    again = Desk(first.folder, first.home, Reading("XNYS", "1d", header=["date", *OHLC.split(","), "note", "volume"]))
    again.ingest()
    assert [volume for (volume,) in stored(again, "volume")] == [6]


def test_headerless_files_of_known_vendors_are_recognised(make_desk: Callable[..., Desk]) -> None:
    binance = make_desk("binance", calendar="24/7", frequency="1h")
    binance.ingest_text(
        "1672531200000,16541.7,16545.7,16508.3,16529.6,4364.8,1672534799999,72146293.5,149854,2179,1,0\n"
    )
    assert stored(binance, "ts", "close", "volume", "amount") == [("2023-01-01", 16529.6, 4364.8, 72146293.5)]


@pytest.mark.parametrize(
    "row", ["20230704 100{}00;1.06;1.061;1.059;1.0605;0", "2023.07.04,10:1{},1.06,1.061,1.059,1.06,0"]
)
@pytest.mark.parametrize(
    ("file", "timezone", "hour"),
    [
        ("DAT_ASCII_EURUSD_M1_2023.csv", None, 15),
        ("DAT_MT_EURUSD_M1_2023.csv", None, 15),
        ("DAT_NT_EURUSD_M1_LAST_2023.csv", None, 15),
        ("EURUSD.csv", None, 10),
        ("EURUSD.csv", "Europe/Athens", 7),
    ],
)
def test_the_zone_of_a_file_without_a_header_is_told_by_its_name_or_warned_of(
    make_desk: Callable[..., Desk], row: str, file: str, timezone: str | None, hour: int
) -> None:
    desk = make_desk(calendar="24/5", frequency="1min", timezone=timezone)
    desk.ingest_text(lines(*(row.format(minute) for minute in (2, 3))), file)
    assert f"2023-07-04 {hour:02d}:" in str(stored(desk, "ts")[0])
    warned = "market.timezone" in "".join(file_warnings(desk.lake, desk.source))
    assert warned == (file == "EURUSD.csv" and timezone is None)


def test_a_header_of_several_levels_gives_the_symbol(desk: Desk) -> None:
    desk.ingest_text(lines("Price,Close,High,Low,Open", "Ticker,QQ,QQ,QQ,QQ", "Date,,,,", "2012-01-03,10.5,11,9,10"))
    assert stored(desk, "symbol", "open", "close") == [("QQ", 10.0, 10.5)]


def test_several_symbols_side_by_side_are_refused(desk: Desk) -> None:
    with pytest.raises(CandlecastError, match=r"bars\.csv.*AA, BB"):
        desk.ingest_text(lines("Price,Close,Close", "Ticker,AA,BB", "Date,,", "2012-01-03,10.5,11"))


@pytest.mark.parametrize(
    ("written", "utc"),
    [
        ("20230605 10:30:00 US/Eastern", "14:30:00"),
        ("2023-06-05 10:30 EDT", "14:30:00"),
        ("20230605103000000", "14:30:00"),
        ("1685975400000", "14:30:00"),
        ("1685975400", "14:30:00"),
        ("2023-06-05 15:30 GMT+0100", "14:30:00"),
    ],
)
def test_formats_of_timestamps(make_desk: Callable[..., Desk], written: str, utc: str) -> None:
    desk = make_desk(calendar="XNYS", frequency="1h")
    desk.ingest_text(lines(f"date,{OHLC}", f"{written},{PRICES}"))
    assert stored(desk, "ts") == [(f"2023-06-05 {utc}",)]


def test_an_hour_with_am_or_pm_alone(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(calendar="24/7", frequency="1h")
    desk.ingest_text(lines(f"date,{OHLC}", f"2017-07-01 11-PM,{PRICES}"))
    assert stored(desk, "ts") == [("2017-07-01 23:00:00",)]


def test_what_is_understood_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "MSFT_1d.csv"
    file.write_text(lines(f"Date,{OHLC},TOTTRDQTY,note", f"2012-01-03,{PRICES},5,x", f"2012-01-04,{PRICES},six,x"))
    reading = understand(file, Reading("XNYS", "1d"), tmp_path / "scratch")
    roles = {column.role: column.name for column in reading.columns}
    assert roles["volume"] == "TOTTRDQTY"
    assert reading.ignored == ("note",)
    assert (reading.received, reading.accepted, reading.rejected) == (2, 1, {"not_a_number": 1})
    assert reading.first is not None
    assert reading.first.symbol == "MSFT"
    assert reading.findings == ()
