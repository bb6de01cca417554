"""The bars that Qlib gets: daily, adjusted as of the newest bar, whatever the frequency in the warehouse."""

from __future__ import annotations

import numpy as np

from resources.calendar import DAILY, TradingCalendar
from resources.errors import CandlecastError
from resources.layout import Home
from resources.pointers import read_pointer, write_pointer
from resources.qlib import DailyBars, QlibProvider, write_provider
from resources.warehouse import Warehouse

# Qlib looks one session past the end; a few more do no harm and read well.
SESSIONS_AHEAD = 5
CURRENT_FILE = "current.json"

_DAILY_BARS = """
SELECT a.symbol, a.session,
       arg_min(a.open, a.ts)  AS open,
       max(a.high)            AS high,
       min(a.low)             AS low,
       arg_max(a.close, a.ts) AS close,
       sum(b.volume)          AS volume,
       arg_max(a.growth, a.ts) AS growth
FROM adjusted_bars a
JOIN bars b ON b.symbol = a.symbol AND b.ts = a.ts AND b.frequency = a.frequency
WHERE a.frequency = $frequency
GROUP BY a.symbol, a.session
ORDER BY a.symbol, a.session
"""


def daily_bars(warehouse: Warehouse, frequency: str) -> DailyBars:
    """Every symbol's sessions, sorted by symbol, then session."""
    with warehouse.read() as connection:
        found = connection.execute(_DAILY_BARS, {"frequency": frequency}).fetchnumpy()
    numbers = {
        name: np.ma.filled(np.ma.asarray(found[name], dtype=np.float64), np.nan)
        for name in ("open", "high", "low", "close", "volume", "growth")
    }
    symbol = np.asarray(found["symbol"], dtype=object)
    growth = numbers.pop("growth")
    newest = np.flatnonzero(np.r_[symbol[1:] != symbol[:-1], True]) if len(symbol) else np.array([], dtype=int)
    now = np.repeat(growth[newest], np.diff(np.r_[-1, newest]))
    session = np.asarray(found["session"]).astype("datetime64[D]")
    return DailyBars(symbol=symbol, session=session, factor=growth / now, **numbers)


def publish_provider(warehouse: Warehouse, home: Home, calendar: TradingCalendar) -> QlibProvider:
    """The provider of the bars as they are now, named the current one; the same bars give the same folder.

    Raises:
        CandlecastError: there are no bars.
    """
    bars = daily_bars(warehouse, calendar.frequency)
    days, future = _calendar(bars, TradingCalendar(calendar.name, DAILY))
    provider = write_provider(home.qlib, home.scratch / "qlib", bars, days, future)
    write_pointer(home.qlib / CURRENT_FILE, provider.digest)
    return provider


def current_provider(home: Home) -> QlibProvider:
    """The provider that was published last.

    Raises:
        CandlecastError: none was.
    """
    digest = read_pointer(home.qlib / CURRENT_FILE)
    if digest is None:
        raise CandlecastError(f"there is no Qlib provider in {home.qlib}: materialise qlib_provider first")
    return QlibProvider(home.qlib / digest)


def _calendar(bars: DailyBars, calendar: TradingCalendar) -> tuple[np.ndarray, np.ndarray]:
    """Every session from the first bar to the last, what the exchange names and what bars there are besides."""
    if not len(bars):
        return np.array([], dtype="datetime64[D]"), np.array([], dtype="datetime64[D]")
    held = np.unique(bars.session)
    expected = calendar.sessions(held[0].astype(object), held[-1].astype(object)).to_numpy().astype("datetime64[D]")
    return np.union1d(held, expected), calendar.following(held[-1], SESSIONS_AHEAD).astype("datetime64[D]")
