"""From the lake into the warehouse: every committed batch that is not there yet, one transaction a batch.

Judging happens before the transaction (contract), so the warehouse is held for a short time. A batch that another
process put in meanwhile is left alone. Not here: landing payloads (lake), corporate actions (actions).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from importlib.resources import files

import duckdb
import pandas as pd

from assets.market.contract import Staged, make_split_ratios, make_table, run_script, staged
from assets.market.lake import Batch, Lake
from assets.market.rules import REASONS
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.progress import Progress, silent
from resources.warehouse import Warehouse

COMPARE = files("assets.market").joinpath("compare.sql").read_text(encoding="utf-8")
TOUCHED = files("assets.market").joinpath("touched.sql").read_text(encoding="utf-8")
APPLY = files("assets.market").joinpath("apply.sql").read_text(encoding="utf-8")

_INGESTED = "SELECT coalesce(max(batch), 0) FROM payloads"
_FOREIGN = """
SELECT DISTINCT i.symbol, b.source FROM (SELECT DISTINCT symbol, payload FROM incoming) AS i
JOIN contributed AS c ON c.number = i.payload
JOIN (SELECT DISTINCT symbol, source FROM bars WHERE frequency = $frequency) AS b ON b.symbol = i.symbol
WHERE b.source <> c.source ORDER BY i.symbol LIMIT 1
"""
_MENTIONED = """
CREATE TEMP TABLE mentioned AS
SELECT symbol, ts FROM incoming UNION ALL SELECT name, ts FROM read_parquet($rejected) WHERE ts IS NOT NULL
"""
_CHANGED = """
SELECT session FROM fate WHERE NOT same
UNION
SELECT b.session FROM bars AS b JOIN gone AS g ON g.symbol = b.symbol AND g.ts = b.ts WHERE b.frequency = $frequency
ORDER BY session
"""
_FOLDING = "SELECT DISTINCT request FROM payloads WHERE folded > 0 AND frequency = $frequency"
_HELD = "DELETE FROM gone USING read_parquet($kept) AS k WHERE gone.symbol = k.symbol AND gone.ts = k.ts"
_SPAN = """
SELECT min(t.sees_from)::DATE, greatest(max(t.last), max(b.ts))::DATE
FROM touched AS t LEFT JOIN bars AS b ON b.symbol = t.symbol AND b.ts >= t.sees_from AND b.frequency = $frequency
"""


@dataclass(frozen=True)
class Ingested:
    """What batches changed in the warehouse.

    Attributes:
        batches: how many were put in.
        received, kept, folded, rejected: rows; received = kept + folded + rejected.
        sessions: those whose bars changed, oldest first.
    """

    batches: int = 0
    received: int = 0
    kept: int = 0
    folded: int = 0
    rejected: int = 0
    sessions: tuple[date, ...] = ()


def ingest(lake: Lake, warehouse: Warehouse, progress: Progress = silent) -> Ingested:
    """Put every batch of the lake that is missing into the warehouse, in order.

    Raises:
        CandlecastError: a payload cannot be read as bars, or a symbol already comes from another source.
    """
    total = Ingested()
    for batch in lake.batches(after=last_ingested(warehouse)):
        total = _sum(total, ingest_batch(batch, lake, warehouse, progress))
    return total


def last_ingested(warehouse: Warehouse) -> int:
    """The number of the newest batch in the warehouse; 0: none."""
    if not warehouse.exists:
        return 0
    with warehouse.read() as connection:
        return int(connection.execute(_INGESTED).fetchall()[0][0])


def ingest_batch(batch: Batch, lake: Lake, warehouse: Warehouse, progress: Progress = silent) -> Ingested:
    """Put one batch in. Nothing changes if it is there already."""
    calendar = TradingCalendar(batch.reading.calendar, batch.reading.frequency)
    payload_files = [lake.file(payload) for payload in batch.payloads]
    scratch = lake.home.scratch / "contract"
    with staged(batch, payload_files, calendar, scratch, progress) as judged, warehouse.write() as connection:
        if connection.execute(_INGESTED).fetchall()[0][0] >= batch.number:
            return Ingested()
        return merge(connection, judged, calendar, lake)


def sessions_changed(connection: duckdb.DuckDBPyConnection, judged: Staged, lake: Lake) -> list[date]:
    """The sessions whose bars a judged batch would change, but for flags. Writes nothing."""
    compare(connection, judged, lake)
    return [
        session for (session,) in connection.execute(_CHANGED, {"frequency": judged.batch.reading.frequency}).fetchall()
    ]


def compare(connection: duckdb.DuckDBPyConnection, judged: Staged, lake: Lake) -> None:
    """Make the temporary tables that say what a judged batch changes."""
    frequency = judged.batch.reading.frequency
    connection.execute("CREATE TEMP TABLE incoming AS FROM read_parquet($kept)", {"kept": str(judged.kept)})
    make_table(connection, "contributed", _contributed(judged), "*")
    connection.execute(_MENTIONED, {"rejected": str(judged.rejected)})
    _refuse_another_source(connection, judged.batch)
    run_script(connection, COMPARE, {"frequency": frequency})
    if connection.execute("SELECT count(*) FROM gone").fetchall()[0][0]:
        _keep_what_others_say(connection, judged.batch, lake)
    run_script(connection, TOUCHED, {"frequency": frequency})


def merge(connection: duckdb.DuckDBPyConnection, judged: Staged, calendar: TradingCalendar, lake: Lake) -> Ingested:
    """Apply a judged batch inside the connection's transaction."""
    batch = judged.batch
    values = {
        "frequency": batch.reading.frequency,
        "batch": batch.number,
        "rejected": str(judged.rejected),
    }
    compare(connection, judged, lake)
    make_table(connection, "reasons", pd.DataFrame(REASONS.items(), columns=["rule", "reason"]), "*")
    make_split_ratios(connection)
    span = connection.execute(_SPAN, {"frequency": batch.reading.frequency}).fetchall()[0]
    make_table(connection, "grid", calendar.grid(*span), "ts::TIMESTAMP AS ts, half_day, position")
    run_script(connection, APPLY, values)
    sessions = connection.execute("SELECT session FROM sessions_touched ORDER BY session").fetchall()
    counts = connection.execute(
        "SELECT sum(received), sum(kept), sum(folded), sum(rejected) FROM payloads WHERE batch = ?", [batch.number]
    ).fetchall()[0]
    received, kept, folded, rejected = (int(count) for count in counts)
    return Ingested(1, received, kept, folded, rejected, tuple(session for (session,) in sessions))


def _keep_what_others_say(connection: duckdb.DuckDBPyConnection, batch: Batch, lake: Lake) -> None:
    """A withdrawn row stays where another current payload holds it too. Rare, so those payloads are judged again."""
    revised = {payload.request.key for payload in batch.payloads}
    folding = {
        key for (key,) in connection.execute(_FOLDING, {"frequency": batch.reading.frequency}).fetchall()
    } - revised
    current = {(payload.request.key, payload.sha256) for payload, _ in lake.current().values()}
    calendar = TradingCalendar(batch.reading.calendar, batch.reading.frequency)
    for earlier in lake.batches():
        witnesses = tuple(
            payload
            for payload in earlier.payloads
            if payload.request.key in folding and (payload.request.key, payload.sha256) in current
        )
        if not witnesses:
            continue
        payload_files = [lake.file(payload) for payload in witnesses]
        again = replace(earlier, payloads=witnesses)
        with staged(again, payload_files, calendar, lake.home.scratch / "contract") as judged:
            connection.execute(_HELD, {"kept": str(judged.kept)})


def _contributed(judged: Staged) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "number": number,
                "sha256": count.payload.sha256,
                "source": count.payload.source,
                "request": count.payload.request.key,
                "file": count.payload.request.file,
                "by_range": count.payload.request.first is not None,
                "fetched_at": count.payload.fetched_at,
                "received": count.received,
                "folded": count.folded,
                "rejected": count.rejected,
            }
            for number, count in enumerate(judged.counts)
        ]
    )


def _refuse_another_source(connection: duckdb.DuckDBPyConnection, batch: Batch) -> None:
    foreign = connection.execute(_FOREIGN, {"frequency": batch.reading.frequency}).fetchall()
    if foreign:
        symbol, source = foreign[0]
        raise CandlecastError(
            f"{symbol} at {batch.reading.frequency} already comes from source {source!r} in this warehouse; bars of "
            f"{batch.payloads[0].source!r} are not mixed in. Give this profile its own home: CANDLECAST_HOME=…"
        )


def _sum(one: Ingested, other: Ingested) -> Ingested:
    return Ingested(
        one.batches + other.batches,
        one.received + other.received,
        one.kept + other.kept,
        one.folded + other.folded,
        one.rejected + other.rejected,
        tuple(sorted({*one.sessions, *other.sessions})),
    )
