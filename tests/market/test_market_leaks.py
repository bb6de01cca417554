"""Bars that hold the price of another day: each planting is found and named, real and continuous prices are not."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from assets.market.acceptance import LEAK_SESSIONS, leak_signs
from assets.market.checks import build_checks
from resources.candlecast import Candlecast
from resources.settings import Settings
from resources.warehouse import Warehouse


@pytest.fixture(scope="module")
def real() -> pd.DataFrame:
    """The daily bars of the sample: symbol, ts, open, high, low, close."""
    import bokeh_sampledata

    given = pd.read_csv(Path(bokeh_sampledata.__file__).parent / "_data" / "stocks.csv.gz", parse_dates=["Date"])
    named = given.rename(
        columns={"Ticker": "symbol", "Date": "ts"} | {n: n.lower() for n in ("Open", "High", "Low", "Close")}
    )
    return named[["symbol", "ts", "open", "high", "low", "close"]].sort_values(["symbol", "ts"], ignore_index=True)


def _store(folder: Path, bars: pd.DataFrame, frequency: str = "1d") -> Warehouse:
    warehouse = Warehouse(folder / "warehouse.duckdb")
    rows = bars.assign(
        session=bars["ts"].dt.normalize(),
        frequency=frequency,
        source="t",
        payload_sha256="-",
        batch=1,
        available_at=bars["ts"],
    )
    with warehouse.write() as connection:
        connection.register("rows", rows)
        connection.execute("INSERT INTO bars BY NAME SELECT *, []::VARCHAR[] AS flags FROM rows")
    return warehouse


def _with_close(bars: pd.DataFrame, symbol: str, close: pd.Series, since: str = "1900") -> pd.DataFrame:
    """Closes of one symbol replaced, with high and low widened to hold them."""
    chosen = (bars["symbol"] == symbol) & close.notna() & (bars["ts"] >= since)
    changed = bars.assign(close=bars["close"].where(~chosen, close))
    return changed.assign(high=changed[["high", "close"]].max(axis=1), low=changed[["low", "close"]].min(axis=1))


def test_the_sample_has_no_sign_of_a_leak(real: pd.DataFrame, tmp_path: Path) -> None:
    assert leak_signs(_store(tmp_path, real), "1d").empty


@pytest.mark.parametrize(
    ("shift", "since", "sign"),
    [
        (-1, "1900", "overnight_against_move"),
        (-2, "1900", "overnight_against_move"),
        (1, "1900", "outside_next_range"),
        (-1, "2012-04-01", "overnight_against_move"),
    ],
    ids=["next day's close", "close two days later", "yesterday's close", "next day's close in the last year"],
)
def test_closes_of_another_day_are_found_and_the_symbol_is_named(
    real: pd.DataFrame, tmp_path: Path, shift: int, since: str, sign: str
) -> None:
    planted = _with_close(real, "IBM", real.groupby("symbol")["close"].shift(shift), since)
    found = leak_signs(_store(tmp_path, planted), "1d")
    assert found[["symbol", "sign"]].to_numpy().tolist() == [["IBM", sign]]
    assert found["last"].iloc[0] >= pd.Timestamp("2013-02-25")
    assert since == "1900" or found["sessions"].iloc[0] <= 250


def test_intraday_bars_are_judged_by_session(real: pd.DataFrame, tmp_path: Path) -> None:
    planted = _with_close(real, "MSFT", real.groupby("symbol")["close"].shift(-1))
    middle = planted[["open", "close"]].mean(axis=1)
    halves = [
        planted.assign(ts=planted["ts"] + pd.Timedelta("15h"), close=middle),
        planted.assign(ts=planted["ts"] + pd.Timedelta("18h"), open=middle),
    ]
    warehouse = _store(tmp_path, pd.concat(halves), "3h")
    assert leak_signs(warehouse, "3h")["symbol"].tolist() == ["MSFT"]
    assert leak_signs(warehouse, "1d").empty


def test_a_market_that_never_closes_and_a_price_that_never_moves_are_no_leak(tmp_path: Path) -> None:
    rng, days = np.random.default_rng(2), pd.date_range("2020-01-01", periods=400)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.03, 400)))
    bounce = np.r_[close[0], close[:-1] * np.exp(-0.02 * np.r_[0.0, np.diff(np.log(close))[:-1]])]
    high, low = np.maximum(bounce, close) * 1.005, np.minimum(bounce, close) * 0.995
    coin = pd.DataFrame({"symbol": "COIN", "ts": days, "open": bounce, "high": high, "low": low, "close": close})
    flat = coin.assign(symbol="FLAT", open=1.0, high=1.0, low=1.0, close=1.0)
    found = leak_signs(_store(tmp_path, pd.concat([coin, flat])), "1d")
    assert found.empty


def test_too_few_sessions_are_not_judged(real: pd.DataFrame, tmp_path: Path) -> None:
    planted = _with_close(real, "FB", real.groupby("symbol")["close"].shift(-1))
    few = planted[planted["symbol"] == "FB"].head(LEAK_SESSIONS)
    assert leak_signs(_store(tmp_path, few), "1d").empty


def test_the_check_warns_and_names_symbol_and_sessions(real: pd.DataFrame, tmp_path: Path) -> None:
    planted = _with_close(real, "AAPL", real.groupby("symbol")["close"].shift(-1))
    candlecast = Candlecast(Settings(home=tmp_path), warehouse=_store(tmp_path, planted))
    check = next(check for check in build_checks() if check.node_def.name.endswith("no_bar_holds_a_later_price"))
    result = check(candlecast)
    assert isinstance(result, dg.AssetCheckResult) and result.description
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "AAPL 2000-03-03 … 2013-03-01" in result.description
