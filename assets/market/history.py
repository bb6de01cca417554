"""Point-in-time bars: a symbol's bars, adjusted for corporate actions as of a given bar.

The only place that reads bars for models. Prices in the warehouse are as quoted. Here they are adjusted to the price
level of an origin bar, using only the corporate actions up to that bar: nothing after the origin can change what is
read as of the origin, not even in the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache
from pathlib import Path

import numpy as np

from assets.market.selection import OWN_BARS, source_filter, wanted_symbols
from resources.publish import digest_of
from resources.settings import Settings
from resources.warehouse import Warehouse

FIELDS = ("open", "high", "low", "close", "volume", "amount")
OPEN, HIGH, LOW, CLOSE, VOLUME = (FIELDS.index(name) for name in ("open", "high", "low", "close", "volume"))
PRICES = slice(0, 4)

_OF_SYMBOLS = f"""
FROM bars
WHERE frequency = $frequency
  AND ($last IS NULL OR session <= $last)
  AND ($symbols IS NULL OR list_contains($symbols, symbol))
  AND {OWN_BARS}
"""
# A column of symbols would take longer than all others: it becomes one Python object per bar.
_BARS = f"SELECT ts, session, open, high, low, close, volume, amount {_OF_SYMBOLS} ORDER BY symbol, ts"
_COUNTS = f"SELECT symbol, count(*) AS bars {_OF_SYMBOLS} GROUP BY symbol ORDER BY symbol"
_ACTIONS = """
SELECT symbol, ex_date, price_factor, CASE kind WHEN 'split' THEN value ELSE 1 END AS split
FROM corporate_actions
WHERE ($last IS NULL OR ex_date <= $last)
ORDER BY symbol, ex_date, kind
"""
# Everything that histories are read from.
_STATE = """
SELECT count(*) AS bars,
       bit_xor(hash(symbol, ts, session, frequency, source, open, high, low, close, volume, amount)) AS content,
       (SELECT count(*) FROM bar_versions) AS versions,
       (SELECT bit_xor(hash(symbol, ex_date, kind, value, price_factor)) FROM corporate_actions) AS actions
FROM bars
"""


@dataclass(frozen=True)
class BarHistory:
    """One symbol's bars, oldest first.

    Attributes:
        stamps: (n,) datetime64[s], timestamps of the bars, UTC.
        quoted: (n, 6) float64: open, high, low, close, volume, amount as quoted; NaN where the source has no value.
        growth: (n,) product of 1 / price factor of the actions up to each bar (splits and dividends).
        shares: (n,) product of the split ratios up to each bar.
        sessions: (n,) datetime64[D], session of each bar; None: its UTC day.
        filled: (n,) bool, bars that stand for missing ones (assets.market.gaps); None: no bar does.
        events: (n,) bool, bars with an event (assets.market.events); None: not looked up.
    """

    symbol: str
    stamps: np.ndarray
    quoted: np.ndarray
    growth: np.ndarray
    shares: np.ndarray
    sessions: np.ndarray | None = None
    filled: np.ndarray | None = None
    events: np.ndarray | None = None

    @property
    def days(self) -> np.ndarray:
        """Session of each bar, (n,) datetime64[D], comparable with the dates of settings.

        Sessions of eastern exchanges open on the UTC day before, so date ranges are cut by these, not by `stamps`.
        """
        return self.stamps.astype("datetime64[D]") if self.sessions is None else self.sessions

    def __len__(self) -> int:
        return len(self.stamps)

    def rows(self, rows: slice) -> BarHistory:
        """Some of the bars."""
        parts = ("stamps", "quoted", "growth", "shares", "filled", "events")
        own = {name: part[rows] for name in parts if (part := getattr(self, name)) is not None}
        return replace(self, **own, sessions=self.days[rows])

    def until(self, last: date) -> BarHistory:
        """The bars up to a session."""
        return self.rows(slice(int(np.searchsorted(self.days, np.datetime64(last), side="right"))))

    def index_of(self, origin: np.datetime64) -> int | None:
        """Index of the bar with timestamp `origin`; None: there is no such bar."""
        found = int(np.searchsorted(self.stamps, origin.astype("datetime64[s]")))
        return found if found < len(self) and self.stamps[found] == origin.astype("datetime64[s]") else None

    def bars_as_of(self, origin: int, first: int = 0, last: int | None = None) -> np.ndarray:
        """Bars `first` … `last` (inclusive; None: the origin), adjusted as of bar `origin`: (m, 6) float64."""
        rows = slice(first, (origin if last is None else last) + 1)
        bars = self.quoted[rows].copy()
        bars[:, PRICES] *= (self.growth[rows] / self.growth[origin])[:, None]
        bars[:, VOLUME] *= self.shares[origin] / self.shares[rows]
        return bars

    def closes_as_of(self, origin: int, first: int = 0, last: int | None = None) -> np.ndarray:
        """The closing prices of `bars_as_of`: (m,) float64."""
        rows = slice(first, (origin if last is None else last) + 1)
        closes: np.ndarray = self.quoted[rows, CLOSE] * (self.growth[rows] / self.growth[origin])
        return closes


def read_histories(
    warehouse: Warehouse,
    frequency: str,
    symbols: Sequence[str] | None = None,
    last: date | None = None,
    sources: Sequence[str] | None = None,
) -> dict[str, BarHistory]:
    """Bars and corporate actions up to session `last`, by symbol in alphabetical order.

    Args:
        symbols: symbols to read; None: all.
        last: newest session to read; None: all.
        sources: as `selection.source_filter` returns them; None: all.
    """
    parameters: dict[str, object] = {
        "frequency": frequency,
        "last": last,
        "symbols": list(symbols) if symbols is not None else None,
        "sources": list(sources) if sources is not None else None,
    }
    with warehouse.read() as connection:
        # Both of one state of the warehouse, which of a URI may change between two queries.
        connection.execute("BEGIN")
        counts = connection.execute(_COUNTS, parameters).fetchall()
        bars = connection.execute(_BARS, parameters).fetchnumpy()
        actions = connection.execute(_ACTIONS, {"last": last}).fetchnumpy()
        connection.execute("COMMIT")
    if not counts:
        return {}
    stamps = np.asarray(bars["ts"]).astype("datetime64[s]")
    quoted = np.column_stack([np.ma.filled(np.ma.asarray(bars[name], dtype=np.float64), np.nan) for name in FIELDS])
    action_names = np.asarray(actions["symbol"], dtype=object)
    sessions = np.asarray(bars["session"]).astype("datetime64[D]")
    ex_dates = np.asarray(actions["ex_date"]).astype("datetime64[D]")
    price_factors, splits = np.asarray(actions["price_factor"]), np.asarray(actions["split"])
    histories, end = {}, 0
    for name, count in counts:
        own = action_names == name
        rows, end = slice(end, end + count), end + count
        growth, shares = _cumulative(sessions[rows], ex_dates[own], price_factors[own], splits[own])
        histories[name] = BarHistory(name, stamps[rows], quoted[rows], growth, shares, sessions[rows])
    return histories


def own_histories(settings: Settings, warehouse: Warehouse, last: date | None = None) -> dict[str, BarHistory]:
    """The histories of all symbols of the settings, of bars of the own source.

    Args:
        last: newest session to read; None: all.
    """
    symbols, sources = wanted_symbols(settings), source_filter(settings, warehouse)
    return read_histories(warehouse, settings.market.frequency, symbols, last, sources)


def stored_histories(settings: Settings) -> Mapping[str, BarHistory]:
    """`own_histories` of the settings' warehouse; while its bars and actions stay the same, a process reads them once.

    Assets of forecasts, and models that read the whole market, in all vintages, share the result.
    """
    warehouse = Warehouse.of(settings)
    with warehouse.shared_reads():
        return _stored(settings, warehouse)


# The file and its version that the state was read from last, and the state.
_state: tuple[Path, str, object] | None = None


def _state_of(warehouse: Warehouse) -> object:
    """What changes with everything that histories are read from; of one version of a file it is read once."""
    global _state
    version = warehouse.version
    if version and _state and _state[:2] == (warehouse.path, version):
        return _state[2]
    found = warehouse.frame(_STATE).astype(str).to_dict("records")
    if version:
        _state = warehouse.path, version, found
    return found


def _stored(settings: Settings, warehouse: Warehouse) -> Mapping[str, BarHistory]:
    state = _state_of(warehouse)
    named = [str(warehouse.uri), str(warehouse.path), settings.market.model_dump(mode="json")]
    return _histories(_StoredBars(digest_of([state, *named]), settings))


@dataclass(frozen=True)
class _StoredBars:
    """The bars of a warehouse in one state, under some settings."""

    state: str
    settings: Settings = field(compare=False)


@lru_cache(maxsize=1)
def _histories(stored: _StoredBars) -> Mapping[str, BarHistory]:
    return own_histories(stored.settings, Warehouse.of(stored.settings))


def _cumulative(
    sessions: np.ndarray, ex_dates: np.ndarray, price_factors: np.ndarray, splits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    position = np.searchsorted(sessions, ex_dates, side="left")
    inside = position < len(sessions)
    growth, shares = np.ones(len(sessions)), np.ones(len(sessions))
    np.divide.at(growth, position[inside], np.asarray(price_factors, dtype=np.float64)[inside])
    np.multiply.at(shares, position[inside], np.asarray(splits, dtype=np.float64)[inside])
    return np.cumprod(growth), np.cumprod(shares)
