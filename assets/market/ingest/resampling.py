"""Rows of a finer frequency: recognised, refused without the setting, and aggregated into bars with it.

A row belongs to the bar of the calendar that holds it, within the trading hours of its session: never across a break,
a half day's close or the night. The work is in finer.sql and resample.sql. Not here: the contract of single rows, which
the finer rows keep as all others do (contract.sql).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb

from assets.market.ingest.findings import Finding
from assets.market.ingest.payload_columns import PayloadColumns
from assets.market.ingest.tables import make_table, run_script
from resources.calendar import TradingCalendar
from resources.sources.protocol import Reading
from resources.sql import load_sql

PACKAGE = "assets.market.ingest"
RULE = (
    "Rows of a finer frequency are aggregated within the trading hours of a session: open of the first, highest high, "
    "lowest low, close of the last; volume and amount are sums, unknown where one of them is. A bar that lacks a row "
    "is flagged incomplete."
)
# Fewer rows may be stray ones.
_FEWEST_GAPS, _LEAST_SHARE = 3, 0.4
_SPANS = {
    True: "SELECT session::TIMESTAMP AS ts, opens_at, closes_at FROM trading_hours",
    False: "SELECT ts, ts AS opens_at, closes_at FROM grid",
}


def find_finer(connection: duckdb.DuckDBPyConnection, calendar: TradingCalendar, reading: Reading) -> None:
    """Create the tables `periods`, of payloads with rows of a finer frequency, and `bar_spans`. Needs `grid`."""
    shown = "session::DATE AS session, opens_at::TIMESTAMP AS opens_at, closes_at::TIMESTAMP AS closes_at"
    make_table(connection, "trading_hours", calendar.hours(), shown)
    connection.execute(f"CREATE OR REPLACE TEMP VIEW bar_spans AS {_SPANS[calendar.is_daily]}")
    values: dict[str, object] = {
        "zone": reading.timezone or calendar.timezone,
        "daily": calendar.is_daily,
        "period": int(calendar.period.total_seconds()) * 1_000_000,
    }
    run_script(connection, load_sql(PACKAGE, "finer.sql"), values)


def finer_findings(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[PayloadColumns], reading: Reading
) -> list[Finding]:
    """Files of a finer frequency, where `market.resample` is off."""
    if reading.resample:
        return []
    sql = "SELECT payload, us FROM periods WHERE gaps >= ? AND gaps >= ? * total ORDER BY payload"
    found = connection.execute(sql, [_FEWEST_GAPS, _LEAST_SHARE]).fetchall()
    return [_finer(number, columns[number].file, us // 60_000_000, reading.frequency) for number, us in found]


def _finer(number: int, file: str, minutes: int, frequency: str) -> Finding:
    spacing = f"{minutes} min" if minutes else "less than a minute"
    own = f', or market.frequency = "{minutes}min" for bars of that length' if minutes else ""
    message = (
        f"{file}: its rows are {spacing} apart, finer than market.frequency = {frequency}: set market.resample = true "
        f"to aggregate them into bars of {frequency}{own}"
    )
    return Finding(number, "error", message, {"resample": True})


def assign_finer(connection: duckdb.DuckDBPyConnection, values: Mapping[str, object], reading: Reading) -> None:
    """Create the table `pieces`: the bar of every finer row, or the rule that it breaks. Empty without the setting."""
    if not reading.resample:
        connection.execute("DELETE FROM periods")
    run_script(connection, load_sql(PACKAGE, "pieces.sql"), values)


def aggregate_finer(connection: duckdb.DuckDBPyConnection) -> None:
    """Replace the finer rows of `validated` by one row per bar; the others of each bar go to `absorbed`."""
    run_script(connection, load_sql(PACKAGE, "resample.sql"), {})


def reject_conflicting(connection: duckdb.DuckDBPyConnection) -> None:
    """Reject all rows of the bars that contradict those of another payload, and mark the accepted bars."""
    run_script(connection, load_sql(PACKAGE, "resampled.sql"), {})
