"""From the lake into the warehouse: every committed batch that is not there yet, one transaction per batch.

Validation happens before the transaction (contract), so the warehouse is held for a short time. A batch that another
process ingested meanwhile is skipped. Not here: fetching payloads (lake), which of them may land (landing), which
version of a bar is current (revisions), corporate actions (actions).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import duckdb
import pandas as pd

from assets.market.actions import refresh_actions
from assets.market.ingest.contract import StagedBatch, make_split_ratios
from assets.market.ingest.ingested import NEWEST_BATCH, OUTDATED_TABLE, is_outdated, last_ingested
from assets.market.ingest.lake import Lake
from assets.market.ingest.landing import screen_payloads, staged_when_landed
from assets.market.ingest.payload_columns import literal
from assets.market.ingest.payloads import PayloadBatch
from assets.market.ingest.refusals import refusal_of
from assets.market.ingest.revisions import PACKAGE, compare_batch
from assets.market.ingest.rules import REASONS
from assets.market.ingest.tables import make_table, run_script
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.progress import Progress, silent
from resources.publish import scratch_folder
from resources.sources.dropped import is_dropped
from resources.sql import load_sql
from resources.warehouse import Warehouse

logger = logging.getLogger("candlecast.market")
MARKET_TABLES = ("bars", "bar_versions", "rejected_bars", "payloads", "corporate_actions")
_COUNTS = "SELECT sum(received), sum(kept), sum(folded), sum(rejected) FROM payloads WHERE batch = ?"
_SPAN = """
SELECT min(t.sees_from)::DATE, greatest(max(t.last), max(b.ts))::DATE
FROM touched AS t LEFT JOIN bars AS b ON b.symbol = t.symbol AND b.ts >= t.sees_from AND b.frequency = $frequency
"""


@dataclass(frozen=True)
class Ingested:
    """What batches changed in the warehouse.

    Attributes:
        batches: number of batches ingested.
        received, kept, folded, rejected: rows; received = kept + folded + rejected.
        sessions: those whose bars changed, oldest first.
    """

    batches: int = 0
    received: int = 0
    kept: int = 0
    folded: int = 0
    rejected: int = 0
    sessions: tuple[date, ...] = ()

    def __add__(self, other: Ingested) -> Ingested:
        return Ingested(
            self.batches + other.batches,
            self.received + other.received,
            self.kept + other.kept,
            self.folded + other.folded,
            self.rejected + other.rejected,
            tuple(sorted({*self.sessions, *other.sessions})),
        )


def ingest(lake: Lake, warehouse: Warehouse, progress: Progress = silent) -> Ingested:
    """Ingest every batch of the lake that the warehouse does not have, in order.

    The market tables of a warehouse from before `bar_versions` are rebuilt first.

    Raises:
        CandlecastError: a payload cannot be read as bars, or a symbol already comes from another source; unless the
            same request has a newer payload, or its file is gone: then that payload is left out.
    """
    if is_outdated(warehouse):
        logger.warning("the market tables are of an earlier version: they are rebuilt from the lake")
        rebuild(lake, warehouse, progress)
    total = Ingested()
    for batch in lake.batches(after=last_ingested(warehouse)):
        try:
            done = ingest_batch(batch, lake, warehouse, progress)
        except Exception as error:
            done = ingest_batch(_without_outdated(batch, lake, warehouse, error), lake, warehouse, progress)
        total += done
    return total


def _without_outdated(batch: PayloadBatch, lake: Lake, warehouse: Warehouse, error: Exception) -> PayloadBatch:
    """A batch that cannot be ingested, without those of its bad payloads that a newer payload replaces."""
    refusal_of(error, "")
    refused = screen_payloads(batch, lake, warehouse).refused
    if not refused:
        raise error
    newer = {payload.request.key for later in lake.batches(after=batch.number) for payload in later.payloads}
    # A dropped file has no newer payload: it is its own request.
    current = [
        payload
        for payload in batch.payloads
        if payload.request.key in refused and payload.request.key not in newer and not is_dropped(payload.request)
    ]
    if current:
        raise CandlecastError("\n".join(refused[payload.request.key] for payload in current)) from error
    for payload in batch.payloads:
        if payload.request.key in refused:
            logger.warning("left out of batch %s: %s", batch.number, refused[payload.request.key])
    return replace(batch, payloads=tuple(p for p in batch.payloads if p.request.key not in refused))


def ingest_batch(batch: PayloadBatch, lake: Lake, warehouse: Warehouse, progress: Progress = silent) -> Ingested:
    """Ingest one batch. Nothing changes if the warehouse has it already."""
    if not batch.payloads:
        return Ingested()
    calendar = TradingCalendar(batch.reading.calendar, batch.reading.frequency)
    with staged_when_landed(batch, lake, calendar, progress) as staged, warehouse.write() as connection:
        if connection.execute(NEWEST_BATCH).fetchall()[0][0] >= batch.number:
            return Ingested()
        return _apply(connection, staged, calendar, lake)


def _apply(
    connection: duckdb.DuckDBPyConnection, staged: StagedBatch, calendar: TradingCalendar, lake: Lake
) -> Ingested:
    """Apply a validated batch inside the connection's transaction."""
    batch = staged.batch
    values: dict[str, object] = {
        "frequency": batch.reading.frequency,
        "batch": batch.number,
        "rejected": str(staged.rejected),
    }
    compare_batch(connection, staged, lake)
    make_table(connection, "reasons", pd.DataFrame(REASONS.items(), columns=["rule", "reason"]), "*")
    make_split_ratios(connection)
    run_script(connection, load_sql(PACKAGE, "touched.sql"), values)
    span = connection.execute(_SPAN, {"frequency": batch.reading.frequency}).fetchall()[0]
    make_table(connection, "grid", calendar.grid(*span), "ts::TIMESTAMP AS ts, half_day, position")
    for script in ("flags.sql", "apply.sql"):
        run_script(connection, load_sql(PACKAGE, script), values)
    sessions = connection.execute("SELECT session FROM sessions_touched ORDER BY session").fetchall()
    received, kept, folded, rejected = (int(n) for n in connection.execute(_COUNTS, [batch.number]).fetchall()[0])
    return Ingested(1, received, kept, folded, rejected, tuple(session for (session,) in sessions))


def rebuild(lake: Lake, warehouse: Warehouse, progress: Progress = silent) -> Ingested:
    """Replace the market tables by what the lake's batches give, in one transaction. For `candlecast rebuild`.

    They are built beside the warehouse first, so a killed rebuild leaves the old tables. Forecasts and scores stay.

    Raises:
        CandlecastError: the lake lacks a batch that the warehouse has, or a payload cannot be read as bars.
    """
    _require_complete(lake, warehouse)
    with scratch_folder(lake.home.scratch / "rebuild") as folder:
        fresh = Warehouse(folder / "fresh.duckdb")
        done = ingest(lake, fresh, progress)
        refresh_actions(fresh)
        for table in MARKET_TABLES:
            with fresh.read() as connection:
                connection.execute(f"COPY {table} TO {_parquet(folder, table)} (FORMAT parquet)")
        with warehouse.write() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {OUTDATED_TABLE}")
            for table in MARKET_TABLES:
                connection.execute(f"DELETE FROM {table}")
                connection.execute(f"INSERT INTO {table} BY NAME FROM read_parquet({_parquet(folder, table)})")
    return done


def _require_complete(lake: Lake, warehouse: Warehouse) -> None:
    held = {batch.number for batch in lake.batches()} | lake.set_aside()
    with warehouse.read() as connection:
        found = connection.execute("SELECT DISTINCT batch FROM payloads ORDER BY batch").fetchall()
    if lost := [number for (number,) in found if number not in held]:
        raise CandlecastError(
            f"{lake.home.lake} lacks batches {', '.join(map(str, lost[:10]))} that {warehouse.path} has bars of: "
            "restore the lake from a backup, then run `candlecast rebuild`"
        )


def _parquet(folder: Path, table: str) -> str:
    """The file of a table as an SQL literal: COPY takes no parameters."""
    return literal(str(folder / f"{table}.parquet"))
