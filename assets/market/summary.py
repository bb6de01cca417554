"""Descriptive tables of the stored bars: coverage, rejections, flags, latest prices. Not here: what must hold
(acceptance)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pandas as pd

from resources.calendar import TradingCalendar
from resources.sql import load_sql
from resources.warehouse import Warehouse

_COVERAGE = """
SELECT symbol, year(session) AS year, count(*) AS bars FROM bars WHERE frequency = $frequency GROUP BY ALL ORDER BY ALL
"""
_SESSIONS = """
SELECT DISTINCT session FROM bars WHERE frequency = $frequency AND session BETWEEN $first AND $last ORDER BY session
"""


def coverage(warehouse: Warehouse, calendar: TradingCalendar) -> pd.DataFrame:
    """Stored bars as a share of the bars that the calendar expects: one row per symbol, one column per year."""
    counts = warehouse.frame(_COVERAGE, {"frequency": calendar.frequency})
    if counts.empty:
        return pd.DataFrame()
    years = range(int(counts["year"].min()), int(counts["year"].max()) + 1)
    expected = {
        year: max(1, len(calendar.stamps(*calendar.within(date(year, 1, 1), date(year, 12, 31))))) for year in years
    }
    counts["share"] = counts["bars"] / counts["year"].map(expected)
    return counts.pivot(index="symbol", columns="year", values="share").reindex(columns=years)


def rejections(warehouse: Warehouse, frequency: str) -> pd.DataFrame:
    """Rejected rows per rule, the most frequent first: rule, reason, rows, first, last, example."""
    return warehouse.frame(load_sql("assets.market", "rejections.sql"), {"frequency": frequency})


def rejection_text(warehouse: Warehouse, frequency: str) -> str:
    """Rejected rows per rule as one line of text, e.g. `12 bad_ohlc (high below close)`; empty: none."""
    rules = rejections(warehouse, frequency)
    return ", ".join(f"{row.rows:,} {row.rule} ({row.reason})" for row in rules.itertuples())


def flags(warehouse: Warehouse, frequency: str) -> pd.DataFrame:
    """Flagged bars per flag, the most frequent first: flag, bars, symbols, first, last."""
    return warehouse.frame(load_sql("assets.market", "flags.sql"), {"frequency": frequency})


def latest_prices(warehouse: Warehouse, frequency: str) -> pd.DataFrame:
    """The newest bar per symbol: symbol, ts, close, volume, bars, since, source."""
    return warehouse.frame(load_sql("assets.market", "latest_prices.sql"), {"frequency": frequency})


def bar_count(warehouse: Warehouse, frequency: str) -> int:
    """The number of stored bars."""
    with warehouse.read() as connection:
        rows = connection.execute("SELECT count(*) FROM bars WHERE frequency = ?", [frequency]).fetchall()
    return int(rows[0][0])


def sessions_without_bars(warehouse: Warehouse, frequency: str, sessions: Sequence[date]) -> list[date]:
    """Those of the sessions that have no bar of any symbol."""
    if not sessions:
        return []
    found = warehouse.frame(_SESSIONS, {"frequency": frequency, "first": min(sessions), "last": max(sessions)})
    covered = set(found["session"].dt.date)
    return [session for session in sessions if session not in covered]
