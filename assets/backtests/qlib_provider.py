"""The bars exported to Qlib: daily, adjusted as of the first bar, for any frequency in the warehouse.

A split or dividend changes no earlier price, so that a backtest can resume from a stored account.
"""

from __future__ import annotations

import numpy as np

from resources.calendar import DAILY, TradingCalendar
from resources.errors import CandlecastError
from resources.layout import Home
from resources.pointers import read_pointer, write_pointer
from resources.qlib import DailyBars, QlibProvider, write_provider
from resources.sql import load_sql
from resources.warehouse import Warehouse

# Qlib reads one session past the end; a few more do no harm.
SESSIONS_AHEAD = 5
CURRENT_FILE = "current.json"


def daily_bars(warehouse: Warehouse, frequency: str) -> DailyBars:
    """Daily bars of all symbols, sorted by symbol and session, adjusted by the growth of all actions up to each."""
    with warehouse.read() as connection:
        found = connection.execute(
            load_sql("assets.backtests", "daily_bars.sql"), {"frequency": frequency}
        ).fetchnumpy()
    numbers = {
        name: np.ma.filled(np.ma.asarray(found[name], dtype=np.float64), np.nan)
        for name in ("open", "high", "low", "close", "volume", "factor")
    }
    symbol = np.asarray(found["symbol"], dtype=object)
    session = np.asarray(found["session"]).astype("datetime64[D]")
    return DailyBars(symbol=symbol, session=session, **numbers)


def publish_provider(warehouse: Warehouse, home: Home, calendar: TradingCalendar) -> QlibProvider:
    """Publish the provider of the current bars and make it the current provider; the same bars give the same folder.

    Raises:
        CandlecastError: there are no bars.
    """
    bars = daily_bars(warehouse, calendar.frequency)
    days, future = _calendar(bars, TradingCalendar(calendar.name, DAILY))
    provider = write_provider(home.qlib, home.scratch / "qlib", bars, days, future)
    write_pointer(home.qlib / CURRENT_FILE, provider.digest)
    return provider


def current_provider(home: Home) -> QlibProvider:
    """The provider published last.

    Raises:
        CandlecastError: none has been published.
    """
    digest = read_pointer(home.qlib / CURRENT_FILE)
    if digest is None:
        raise CandlecastError(f"no Qlib provider in {home.qlib}: materialise qlib_provider first")
    return QlibProvider(home.qlib / digest)


def _calendar(bars: DailyBars, calendar: TradingCalendar) -> tuple[np.ndarray, np.ndarray]:
    """Sessions from the first bar to the last, of the exchange and of the bars; and the sessions after them."""
    if not len(bars):
        return np.array([], dtype="datetime64[D]"), np.array([], dtype="datetime64[D]")
    present = np.unique(bars.session)
    expected = (
        calendar.sessions(present[0].astype(object), present[-1].astype(object)).to_numpy().astype("datetime64[D]")
    )
    return np.union1d(present, expected), calendar.following(present[-1], SESSIONS_AHEAD).astype("datetime64[D]")
