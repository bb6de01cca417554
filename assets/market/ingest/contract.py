"""A batch of payloads against the contract of bars: accepted, folded and rejected rows, as set-based SQL.

Belongs here: from the lake's Parquet to the accepted and rejected rows of a batch, in a scratch database. Not here: the
rules (contract.sql), their reasons (rules), what the warehouse already holds (revisions).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import duckdb
import pandas as pd

from assets.market.ingest.file_names import name_findings
from assets.market.ingest.findings import Finding, basis_findings, repeated_rows, time_findings, unit_findings
from assets.market.ingest.payload_columns import PayloadColumns, literal
from assets.market.ingest.payload_rows import receive, reject
from assets.market.ingest.payloads import Payload, PayloadBatch
from assets.market.ingest.resampling import (
    aggregate_finer,
    assign_finer,
    find_finer,
    finer_findings,
    reject_conflicting,
)
from assets.market.ingest.tables import make_table, run_script
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.progress import Progress, silent
from resources.publish import scratch_folder
from resources.sources.protocol import Reading
from resources.sql import load_sql
from resources.warehouse import interruptible

PACKAGE = "assets.market.ingest"
Report = Callable[[Sequence[Finding]], None]
logger = logging.getLogger("candlecast.market")
MEMORY_LIMIT = "1GB"
# Whole shares for one, the usual fractions, and reverse splits.
SPLIT_RATIOS = sorted(
    {float(n) for n in range(2, 51)} | {3 / 2, 4 / 3, 5 / 4, 5 / 2, 5 / 3} | {1 / n for n in range(2, 51)}
)


@dataclass(frozen=True)
class PayloadCounts:
    """Rows of one payload after validation: received = accepted + folded + rejected.

    Attributes:
        aggregated: those of the folded rows that are part of a bar with other rows.
    """

    payload: Payload
    received: int
    folded: int
    rejected: int
    aggregated: int


@dataclass(frozen=True)
class StagedBatch:
    """A validated batch, as files for the warehouse to read.

    Attributes:
        accepted: Parquet: payload, row, symbol, ts, session, prices as quoted, volume, amount, dividend, split,
            actions, folded (the row repeats one of another payload), incomplete, parts (rows of an aggregated bar).
        rejected: Parquet: the columns of rejected_bars that the batch determines, and payload, name and ts.
        counts: one per payload, in the batch's order.
        warnings: what the values of the files show and what refuses none of them.
    """

    batch: PayloadBatch
    accepted: Path
    rejected: Path
    counts: tuple[PayloadCounts, ...]
    warnings: tuple[Finding, ...] = ()


@contextmanager
def stage_batch(
    batch: PayloadBatch,
    payload_files: Sequence[Path],
    calendar: TradingCalendar,
    scratch: Path,
    progress: Progress = silent,
) -> Iterator[StagedBatch]:
    """Validate a batch. The staged files exist for the length of the block.

    Args:
        payload_files: one per payload of the batch, in its order.

    Raises:
        CandlecastError: a payload as a whole cannot be read; the message names its file and what to do.
    """
    sources = list(zip(batch.payloads, payload_files, strict=True))
    with scratch_folder(scratch) as folder, _database(folder) as connection:
        warnings: list[Finding] = []

        def report(findings: Sequence[Finding]) -> None:
            _raise_errors(findings)
            warnings.extend(findings)

        validate_payloads(connection, sources, batch.reading, calendar, progress, report)
        accepted, rejected = folder / "accepted.parquet", folder / "rejected.parquet"
        for table, file in (("accepted", accepted), ("rejected", rejected)):
            connection.execute(f"COPY {table} TO {literal(str(file))} (FORMAT parquet, COMPRESSION snappy)")
        rows = connection.execute(load_sql(PACKAGE, "counts.sql")).fetchall()
        counts = tuple(PayloadCounts(sources[number][0], *numbers) for number, *numbers in rows)
        connection.close()
        yield StagedBatch(batch, accepted, rejected, counts, tuple(warnings))


def create_received(connection: duckdb.DuckDBPyConnection, calendar: TradingCalendar) -> None:
    """Create the tables that rows are received into, and the sessions by which dates are read."""
    run_script(connection, load_sql(PACKAGE, "received.sql"), {})
    sessions = pd.DataFrame({"session": calendar.all_sessions()})
    make_table(connection, "exchange_days", sessions, "session::DATE AS session")


def validate_payloads(
    connection: duckdb.DuckDBPyConnection,
    payloads: Sequence[tuple[Payload, Path]],
    reading: Reading,
    calendar: TradingCalendar,
    progress: Progress = silent,
    report: Report | None = None,
) -> list[PayloadColumns]:
    """Fill the temporary tables `validated`, `duplicates`, `accepted` and `rejected` from the payloads' files.

    Args:
        report: takes what the values of files show; None: errors are raised and warnings logged.

    Returns:
        The columns of each payload.

    Raises:
        CandlecastError: a payload as a whole cannot be read, or its values contradict the settings.
    """
    report = report or _raise_errors
    is_files = any(payload.source == "files" for payload, _ in payloads)
    create_received(connection, calendar)
    found: list[PayloadColumns] = []
    for number, (payload, file) in enumerate(payloads):
        progress(number, len(payloads), payload.request.file)
        columns = receive(connection, number, payload, file, reading)
        found.append(columns)
        derives = reading.basis != "raw" or _has_adjusted_close_only(columns.cells)
        values = [number, payload.fetched_at, reading.basis, reading.actions, derives]
        connection.execute("INSERT INTO payloads VALUES (?, ?, ?, ?, ?)", values)
        if is_files:
            report(repeated_rows(connection, number, columns))
            report(name_findings(connection, number, payload, columns, reading))
    if is_files:
        report([*basis_findings(connection, found, reading), *unit_findings(connection, found, reading)])
    shown = "ts::TIMESTAMP AS ts, session::DATE AS session, closes_at::TIMESTAMP AS closes_at, half_day, position"
    make_table(connection, "grid", _grid(connection, calendar), shown)
    find_finer(connection, calendar, reading)
    if is_files:
        report(finer_findings(connection, found, reading))
        report(time_findings(connection, found, reading, calendar))
    make_split_ratios(connection)
    derives = connection.execute("SELECT bool_or(basis <> 'raw' OR derives) FROM payloads").fetchall()[0][0]
    values_by_name: dict[str, object] = {
        "daily": calendar.is_daily,
        "ends": reading.stamp == "end" and not calendar.is_daily,
        "ends_finer": reading.stamp == "end",
        "zone": reading.timezone or calendar.timezone,
        "exchange": calendar.timezone,
        "calendar_starts": calendar.all_sessions()[0].to_pydatetime(),
    }
    assign_finer(connection, values_by_name, reading)
    run_script(connection, load_sql(PACKAGE, "contract.sql"), values_by_name)
    aggregate_finer(connection)
    compares = any({"dividend", "split", "adj_close"} <= columns.cells.keys() for columns in found)
    compared = ("stated_actions.sql",) if compares else ()
    for script in ("duplicates.sql", "derive.sql" if derives else "as_received.sql", *compared, "fold.sql"):
        run_script(connection, load_sql(PACKAGE, script), values_by_name)
    reject_conflicting(connection)
    for number, (payload, file) in enumerate(payloads):
        reject(connection, number, payload, file, found[number])
    progress(len(payloads), len(payloads))
    return found


def _raise_errors(findings: Sequence[Finding]) -> None:
    errors = [finding.message for finding in findings if finding.severity == "error"]
    if errors:
        raise CandlecastError("\n".join(errors))
    for finding in findings:
        _warn_once(finding.message)


@lru_cache(maxsize=1000)
def _warn_once(message: str) -> None:
    """A batch is validated more than once."""
    logger.warning(message)


def _has_adjusted_close_only(cells: Mapping[str, str]) -> bool:
    """Whether a payload's corporate actions must be derived from its adjusted close."""
    return "adj_close" in cells and not {"dividend", "split"} <= cells.keys()


def _grid(connection: duckdb.DuckDBPyConnection, calendar: TradingCalendar) -> pd.DataFrame:
    """Every bar that the calendar expects around the received rows."""
    if calendar.is_daily:
        return calendar.grid(None, None)
    spans = connection.execute(load_sql(PACKAGE, "spans.sql")).fetchall() or [(None, None)]
    parts = [calendar.grid(*span) for span in spans]
    return pd.concat([part for part in parts if len(part)] or parts[:1]).drop_duplicates("ts")


def make_split_ratios(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the temporary table `split_ratios` of the ratios that splits have."""
    make_table(connection, "split_ratios", pd.DataFrame({"ratio": SPLIT_RATIOS}), "ratio")


@contextmanager
def _database(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    spill = str(folder / "spill")
    with duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "temp_directory": spill}) as connection, interruptible():
        yield connection
