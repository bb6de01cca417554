from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.backtests.acceptance import provider_problems
from assets.backtests.plots import bar_ranges
from assets.backtests.qlib_backtest import CHILD_ENVIRONMENT
from assets.backtests.qlib_provider import current_provider, daily_bars, publish_provider
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.layout import Home
from resources.qlib import DailyBars, safe_ids, write_provider
from resources.warehouse import Warehouse

UNSAFE_SYMBOLS = [
    "NA",
    "NULL",
    "CON",
    "aapl",
    "AAPL",
    "../..",
    "BRK.B",
    "000001",
    "1E5",
    "TRUE",
    "\N{ROCKET}",
    "$close",
    "a b\tc",
]
CALENDAR = TradingCalendar("XNYS")


def few_bars(symbols: list[str], days: int = 6) -> tuple[DailyBars, np.ndarray, np.ndarray]:
    calendar = np.arange("2020-01-06", "2020-01-16", dtype="datetime64[D]")
    names = sorted(symbols)
    count = len(names) * days
    closes = 10 + np.arange(count, dtype=float)
    bars = DailyBars(
        symbol=np.repeat(np.array(names, dtype=object), days),
        session=np.tile(calendar[:days], len(names)),
        open=closes - 0.5, high=closes + 1, low=closes - 1, close=closes,
        volume=np.full(count, 100.0), factor=np.full(count, 0.5),
    )  # fmt: skip
    return bars, calendar[:days], calendar[days:]


@given(st.lists(st.text(min_size=1), unique=True, max_size=30))
def test_ids_are_unique_even_where_case_is_folded(symbols: list[str]) -> None:
    ids = safe_ids(symbols)
    assert list(ids) == symbols
    assert len({one.lower() for one in ids.values()}) == len(symbols)
    assert all(one.isascii() and one.replace("_", "").isalnum() and one == one.upper() for one in ids.values())


def test_symbols_that_break_qlib_are_renamed_and_plain_ones_kept() -> None:
    ids = safe_ids(UNSAFE_SYMBOLS)
    assert ids["AAPL"] == "AAPL"
    assert all(ids[symbol].startswith("X_") for symbol in UNSAFE_SYMBOLS if symbol != "AAPL")


def test_the_provider_reproduces_the_bars_of_the_warehouse(warehouse: Warehouse, home: Home) -> None:
    provider = publish_provider(warehouse, home, CALENDAR)
    assert provider_problems(warehouse, provider, "1d") == []
    assert provider.bars == len(daily_bars(warehouse, "1d"))
    quoted = warehouse.frame("SELECT close, volume FROM bars WHERE symbol = 'AAPL' ORDER BY ts")
    ranges = bar_ranges(provider)
    assert ranges["bars"].sum() == provider.bars
    assert ranges["last"].max() == pd.Timestamp(provider.sessions[-1])
    close, factor, volume = (provider.panel(field, ["AAPL"])[:, 0] for field in ("close", "factor", "volume"))
    present = np.isfinite(close)
    assert np.allclose(close[present] / factor[present], quoted["close"], rtol=1e-6)
    assert np.allclose(volume[present] * factor[present], quoted["volume"], rtol=1e-6)


def test_the_acceptance_check_finds_a_bar_that_changed_since(warehouse: Warehouse, home: Home) -> None:
    provider = publish_provider(warehouse, home, CALENDAR)
    with warehouse.write() as connection:
        connection.execute("UPDATE bars SET close = close * 1.01 WHERE symbol = 'IBM' AND session = '2012-06-01'")
    assert "close of IBM on 2012-06-01" in provider_problems(warehouse, provider, "1d")[0]


def test_the_same_bars_give_the_same_folder_and_write_nothing(warehouse: Warehouse, home: Home) -> None:
    first = publish_provider(warehouse, home, CALENDAR)
    modified = {file: file.stat().st_mtime_ns for file in home.qlib.rglob("*")}
    assert publish_provider(warehouse, home, CALENDAR).digest == first.digest == current_provider(home).digest
    assert {file: file.stat().st_mtime_ns for file in home.qlib.rglob("*")} == modified


def test_a_missing_session_is_a_gap_and_later_sessions_are_named(tmp_path: Path) -> None:
    bars, calendar, future = few_bars(["AAA"])
    keep = np.arange(len(bars)) != 2
    holed = DailyBars(**{name: values[keep] for name, values in vars(bars).items()})
    provider = write_provider(tmp_path / "qlib", tmp_path / "scratch", holed, calendar, future)
    assert np.isnan(provider.panel("close", ["AAA"])[2, 0])
    assert np.isclose(provider.panel("change", ["AAA"])[3, 0], 13 / 11 - 1)
    days = (provider.folder / "calendars" / "day_future.txt").read_text().split()
    assert days[: len(calendar)] == [str(day) for day in calendar]
    assert len(days) > len(calendar)


def test_missing_bars_and_a_missing_provider_are_errors_with_the_remedy(tmp_path: Path) -> None:
    bars, calendar, future = few_bars([])
    with pytest.raises(CandlecastError, match="materialise `bars`"):
        write_provider(tmp_path, tmp_path / "scratch", bars, calendar, future)
    with pytest.raises(CandlecastError, match="materialise qlib_provider"):
        current_provider(Home(tmp_path))


READ = """
import json, sys, logging, qlib
from qlib.data import D
qlib.init(provider_uri=sys.argv[1], region="us", kernels=1, logging_level=logging.ERROR)
ids = sorted(D.list_instruments(D.instruments("all"), as_list=True))
closes = D.features(ids, ["$close", "$factor"], "2020-01-06", "2020-01-13")
print(json.dumps([[i, float(v)] for (i, _), v in closes["$close"].items()]))
"""


@pytest.mark.slow
def test_qlib_itself_reads_every_symbol_whatever_its_name(tmp_path: Path) -> None:
    bars, calendar, future = few_bars(UNSAFE_SYMBOLS)
    provider = write_provider(tmp_path / "qlib", tmp_path / "scratch", bars, calendar, future)
    result = subprocess.run(
        [sys.executable, "-c", READ, str(provider.folder)],
        cwd=tmp_path, capture_output=True, text=True, check=True, env={**CHILD_ENVIRONMENT, "HOME": str(tmp_path)},
    )  # fmt: skip
    rows = json.loads(result.stdout.strip().splitlines()[-1])
    expected = sorted(zip([provider.ids[s] for s in bars.symbol], bars.close, strict=True))
    assert sorted(map(tuple, rows)) == expected


def test_a_damaged_provider_is_set_aside_and_written_again(tmp_path: Path) -> None:
    bars, calendar, future = few_bars(["AAPL", "MSFT"])
    made = write_provider(tmp_path / "qlib", tmp_path / "scratch", bars, calendar, future)
    close = made.folder / "features" / "aapl" / "close.day.bin"
    whole = close.read_bytes()
    close.write_bytes(whole[:-4] + b"\0\0\0\0")
    again = write_provider(tmp_path / "qlib", tmp_path / "scratch", bars, calendar, future)
    assert again.folder == made.folder and close.read_bytes() == whole
    assert (tmp_path / "damaged" / "qlib" / made.folder.name / "features" / "aapl" / "close.day.bin").is_file()
