"""What a person wants to know about the bars: coverage, rejections, flags, latest prices, and whether rows add up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pandas as pd

from assets.market.ingest.lake import Lake
from resources.calendar import TradingCalendar
from resources.warehouse import Warehouse

_COVERAGE = """
SELECT symbol, year(session) AS year, count(*) AS bars FROM bars WHERE frequency = $frequency GROUP BY ALL ORDER BY ALL
"""
_REJECTIONS = """
SELECT rule, any_value(reason) AS reason, count(*) AS rows, min(session) AS first, max(session) AS last,
       arg_min(file || ', row ' || row_number, (file, row_number)) AS for_example
FROM rejected_bars WHERE frequency = $frequency GROUP BY rule ORDER BY rows DESC, rule
"""
_FLAGS = """
SELECT flag, count(*) AS bars, count(DISTINCT symbol) AS symbols, min(session) AS first, max(session) AS last
FROM (SELECT unnest(flags) AS flag, symbol, session FROM bars WHERE frequency = $frequency)
GROUP BY flag ORDER BY bars DESC, flag
"""
_LATEST = """
SELECT symbol, max(ts) AS ts, arg_max(close, ts) AS close, arg_max(volume, ts) AS volume,
       count(*) AS bars, min(ts) AS since, any_value(source) AS source
FROM bars WHERE frequency = $frequency GROUP BY symbol ORDER BY symbol
"""
_JUMPS = """
SELECT symbol, session, close, flags FROM bars
WHERE frequency = $frequency AND list_contains(flags, 'looks_like_split') ORDER BY session DESC, symbol
"""
_BOOKS = """
SELECT p.batch, p.request, p.file, p.received, p.kept, p.folded, p.rejected,
       coalesce(r.stored, 0) AS stored_rejected
FROM payloads AS p
LEFT JOIN (SELECT batch, file, count(*) AS stored FROM rejected_bars GROUP BY batch, file) AS r
    ON r.batch = p.batch AND r.file = p.file
ORDER BY p.batch, p.request
"""
_TOTALS = """
SELECT (SELECT coalesce(sum(kept), 0) FROM payloads)::BIGINT,
       (SELECT count(*) FROM bars), (SELECT count(*) FROM superseded_bars)
"""
# A bar that came back, because the payload that had replaced it withdrew its own, is there once for each time.
_KEPT_ROWS = """
SELECT count(*) FROM (
    SELECT DISTINCT symbol, ts, frequency, batch, payload_sha256 FROM (
        SELECT symbol, ts, frequency, batch, payload_sha256 FROM bars
        UNION ALL SELECT symbol, ts, frequency, batch, payload_sha256 FROM superseded_bars
    )
)
"""
_BREACHES = """
SELECT symbol, ts,
       CASE WHEN NOT (isfinite(open) AND isfinite(high) AND isfinite(low) AND isfinite(close))
            THEN 'a price is not finite'
            WHEN low <= 0 THEN 'a price is not positive'
            WHEN low > least(open, close) OR high < greatest(open, close) THEN 'open or close outside low … high'
            WHEN volume < 0 OR amount < 0 THEN 'negative volume or amount' END AS breach
FROM bars
WHERE frequency = $frequency AND breach IS NOT NULL
ORDER BY symbol, ts LIMIT 20
"""
_TWICE = """
SELECT symbol, ts, frequency, count(*) AS rows FROM bars GROUP BY ALL HAVING count(*) > 1 LIMIT 20
"""
_SESSIONS = """
SELECT DISTINCT session FROM bars WHERE frequency = $frequency AND session BETWEEN $first AND $last ORDER BY session
"""


def coverage(warehouse: Warehouse, calendar: TradingCalendar) -> pd.DataFrame:
    """Bars there are, as a share of those that the calendar expects: one row a symbol, one column a year."""
    counted = warehouse.frame(_COVERAGE, {"frequency": calendar.frequency})
    if counted.empty:
        return pd.DataFrame()
    years = range(int(counted["year"].min()), int(counted["year"].max()) + 1)
    expected = {
        year: max(1, len(calendar.stamps(*calendar.within(date(year, 1, 1), date(year, 12, 31))))) for year in years
    }
    counted["share"] = counted["bars"] / counted["year"].map(expected)
    return counted.pivot(index="symbol", columns="year", values="share").reindex(columns=years)


def rejections(warehouse: Warehouse, frequency: str) -> pd.DataFrame:
    """rule, reason, rows, first, last, for_example: one row a rule, the most frequent first."""
    return warehouse.frame(_REJECTIONS, {"frequency": frequency})


def flags(warehouse: Warehouse, frequency: str) -> pd.DataFrame:
    """flag, bars, symbols, first, last: one row a flag."""
    return warehouse.frame(_FLAGS, {"frequency": frequency})


def latest_prices(warehouse: Warehouse, frequency: str) -> pd.DataFrame:
    """symbol, ts, close, volume, bars, since, source: one row a symbol."""
    return warehouse.frame(_LATEST, {"frequency": frequency})


def possible_splits(warehouse: Warehouse, frequency: str) -> pd.DataFrame:
    """Bars whose price changed overnight as it does by a split that nobody reported."""
    return warehouse.frame(_JUMPS, {"frequency": frequency})


def rows_that_do_not_add_up(warehouse: Warehouse, lake: Lake) -> list[str]:
    """What is wrong in the books, in words; nothing: received = kept + folded + rejected, and all of it is there."""
    with warehouse.read() as connection:
        books = connection.execute(_BOOKS).fetchall()
    wrong = []
    in_lake = {(batch.number, p.request.key): p.rows for batch in lake.batches() for p in batch.payloads}
    for batch, request, file, received, kept, folded, rejected, stored in books:
        if received != kept + folded + rejected:
            wrong.append(f"{file}: {received} received, but {kept} + {folded} + {rejected} accounted for")
        if rejected != stored:
            wrong.append(f"{file}: {rejected} rejected, but {stored} in rejected_bars")
        if received != in_lake.get((batch, request)):
            wrong.append(f"{file}: {received} received, but the lake has {in_lake.get((batch, request))}")
    with warehouse.read() as connection:
        kept, stored, superseded = connection.execute(_TOTALS).fetchall()[0]
        rows = stored + superseded
        if kept != rows:
            rows = connection.execute(_KEPT_ROWS).fetchall()[0][0]
    if kept != rows:
        wrong.append(f"{kept} kept in all, but {stored} in bars and {superseded} in superseded_bars")
    return wrong


def breaches(warehouse: Warehouse, frequency: str) -> pd.DataFrame:
    """Stored bars that break the contract: symbol, ts, breach. There must be none."""
    return warehouse.frame(_BREACHES, {"frequency": frequency})


def keys_twice(warehouse: Warehouse) -> pd.DataFrame:
    """Keys that are there more than once. There must be none."""
    return warehouse.frame(_TWICE)


def sessions_without_bars(warehouse: Warehouse, frequency: str, sessions: Sequence[date]) -> list[date]:
    """Those of the sessions that no symbol has a bar of."""
    if not sessions:
        return []
    found = warehouse.frame(_SESSIONS, {"frequency": frequency, "first": min(sessions), "last": max(sessions)})
    there = set(found["session"].dt.date)
    return [session for session in sessions if session not in there]


def symbols_without_bars(warehouse: Warehouse, frequency: str, wanted: Sequence[str] | None) -> list[str]:
    """Those of the wanted symbols that have no bar."""
    if wanted is None:
        return []
    with warehouse.read() as connection:
        found = connection.execute("SELECT DISTINCT symbol FROM bars WHERE frequency = ?", [frequency]).fetchall()
    return sorted(set(wanted) - {symbol for (symbol,) in found})


def bars_and_rules(warehouse: Warehouse, frequency: str) -> tuple[int, str]:
    """How many bars there are, and how many rows each rule rejected, in words."""
    with warehouse.read() as connection:
        count = connection.execute("SELECT count(*) FROM bars WHERE frequency = ?", [frequency]).fetchall()[0][0]
    refused = rejections(warehouse, frequency)
    return count, ", ".join(f"{row.rows:,} {row.rule} ({row.reason})" for row in refused.itertuples())
