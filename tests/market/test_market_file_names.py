"""Symbols from file names: futures are not cut, and where a name has two readings the error states both."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from assets.market.ingest.file_warnings import file_warnings
from resources.errors import CandlecastError
from resources.sources.file_symbols import symbol_of
from tests.market.market_desk import Desk

OHLC = "open,high,low,close"


def text_of(*stamps: str) -> str:
    return (
        "\n".join([f"date,{OHLC}", *(f"{stamp},10,11,9,10.{number}" for number, stamp in enumerate(stamps, 1))]) + "\n"
    )


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("NQH25", "NQH25"),
        ("ZN-PERP", "ZN-PERP"),
        ("6J=F", "6J=F"),
        ("6J=F_1d", "6J=F"),
        ("CL_H25", "CL_H25"),
        ("MT_1d_2023", "MT"),
        ("MT_D", "MT_D"),
        ("SOL-USDT-SWAP-5m-2023-04", "SOL-USDT-SWAP"),
        ("DAT_ASCII_GBPUSD_M1_2023", "GBPUSD"),
    ],
)
def test_a_symbol_is_not_cut(name: str, symbol: str) -> None:
    assert symbol_of(f"bars/{name}.csv", ".csv", None) == symbol


@pytest.mark.parametrize(
    ("name", "stamps", "both"),
    [
        ("NQ-2012-03", ("2012-03-01", "2012-03-02"), ("'NQ'", "'NQ-2012-03'", "{symbol}-{part}-{part}")),
        ("COTTON_201203", ("2012-01-03", "2012-03-02"), ("'COTTON'", "'COTTON_201203'", "{symbol}_{part}")),
        ("GC_Jun_2012", ("2012-01-03",), ("'GC'", "'GC_Jun_2012'", "{symbol}_{part}_{part}")),
        ("GC_M5", ("2012-01-03", "2012-01-04"), ("'GC'", "'GC_M5'", "{symbol}_{part}")),
    ],
)
def test_a_name_with_two_readings_is_refused_and_both_settings_work(
    make_desk: Callable[..., Desk], name: str, stamps: tuple[str, ...], both: tuple[str, str, str]
) -> None:
    root, whole, pattern = both
    with pytest.raises(CandlecastError, match=r"symbol_from") as refused:
        make_desk("unset").ingest_text(text_of(*stamps), f"{name}.csv")
    assert all(part in str(refused.value) for part in (f"{name}.csv", root, whole, pattern))
    for rule, symbol in (("stem", whole), (pattern, root)):
        desk = make_desk(f"as {symbol}".replace("'", ""), symbol_from=rule)
        desk.ingest_text(text_of(*stamps), f"{name}.csv")
        assert desk.bars()["symbol"].str.upper().unique().tolist() == [symbol.strip("'").upper()]


@pytest.mark.parametrize(
    ("name", "symbol"), [("ETHUSDT-2012-03", "ETHUSDT"), ("ETHUSDT-1d-2012-03", "ETHUSDT"), ("GC_2012", "GC")]
)
def test_a_month_of_bars_is_no_contract(desk: Desk, name: str, symbol: str) -> None:
    desk.ingest_text(text_of("2012-03-01", "2012-03-02"), f"{name}.csv")
    assert desk.bars()["symbol"].unique().tolist() == [symbol]


def test_minutes_at_the_end_of_a_name_are_warned_of_with_the_pattern(make_desk: Callable[..., Desk]) -> None:
    text = text_of("2012-03-01 10:00", "2012-03-01 10:30")
    kept = make_desk("kept", calendar="24/7", frequency="30min")
    kept.ingest_text(text, "SOLEUR_30.csv")
    (warning,) = file_warnings(kept.lake, kept.source)
    assert all(part in warning for part in ("SOLEUR_30.csv", "'SOLEUR'", '"{symbol}_{minutes}"'))
    cut = make_desk("cut", calendar="24/7", frequency="30min", symbol_from="{symbol}_{minutes}")
    cut.ingest_text(text, "SOLEUR_30.csv")
    assert cut.bars()["symbol"].unique().tolist() == ["SOLEUR"]
    assert file_warnings(cut.lake, cut.source) == []


def test_five_minute_bars_of_that_frequency_are_no_contract(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(calendar="24/7", frequency="5min")
    desk.ingest_text(text_of("2012-03-01 10:00", "2012-03-01 10:05"), "GC_M5.csv")
    assert desk.bars()["symbol"].unique().tolist() == ["GC"]
