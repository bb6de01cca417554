"""What is understood of one file of bars, by the code that ingests it: columns, symbols, timestamps, basis, warnings.

Belongs here: one file without a lake or a warehouse, for `candlecast inspect` and for error messages. Not here: how it
is shown, and any rule: all of them are the ingest's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow.parquet

from assets.market.ingest.contract import validate_payloads
from assets.market.ingest.findings import Finding
from assets.market.ingest.lake import utc_now
from assets.market.ingest.payload_columns import PayloadColumns
from assets.market.ingest.payload_rows import scale_of
from assets.market.ingest.payloads import Payload
from assets.market.parsing.columns import NUMBERS
from resources.calendar import TradingCalendar
from resources.publish import scratch_folder
from resources.sources.files import FilesSource
from resources.sources.protocol import Reading

_EXAMPLE = "SELECT min({cell}) FROM payload AS p WHERE {cell} <> ''"
_BASIS = "SELECT basis, derives FROM payloads WHERE number = 0"
_ROWS = """
SELECT symbol, ts, open, high, low, close, volume, amount, dividend, split
FROM accepted WHERE NOT folded ORDER BY ts, symbol
"""
_SPACING = """
SELECT mode(gap)::VARCHAR FROM (
    SELECT ts - lag(ts) OVER (PARTITION BY symbol ORDER BY ts) AS gap
    FROM (SELECT DISTINCT symbol, coalesce(instant, local) AS ts FROM received)
) WHERE gap IS NOT NULL
"""


@dataclass(frozen=True)
class ColumnReading:
    """How one column is read.

    Attributes:
        role: the standard name, or "clock" for a time of day beside the date.
        name: in the file.
        type: of the cells, as DuckDB names it; VARCHAR is text.
        example: a cell as text.
        zone: of timestamps.
        scale: factor from the file's unit to that of bars.
    """

    role: str
    name: str
    type: str
    example: str
    zone: str = ""
    scale: float = 1.0


@dataclass(frozen=True)
class StoredRow:
    """A bar as it would be stored; `ts` is UTC."""

    symbol: str
    ts: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    amount: float | None
    dividend: float | None
    split: float | None


@dataclass(frozen=True)
class FileReading:
    """What is understood of a file.

    Attributes:
        columns: those with a role.
        ignored: names of the others.
        symbol_rule: where the symbol comes from, as text.
        stamp: whether timestamps start or end their bars.
        basis: of the prices: raw, split-adjusted or factor.
        derives_actions: whether splits and dividends are derived from an adjusted close or a factor.
        spacing: the most frequent time between two rows of a symbol, as DuckDB writes an interval.
        received, accepted: rows.
        rejected: rule → rows.
        first, last: bars as they would be stored; None: no row is accepted.
        symbols: number of symbols.
        findings: errors that would refuse the file, and warnings, with the settings that mend them.
    """

    file: str
    columns: tuple[ColumnReading, ...]
    ignored: tuple[str, ...]
    symbol_rule: str
    stamp: str
    basis: str
    derives_actions: bool
    spacing: str
    received: int
    accepted: int
    rejected: dict[str, int]
    first: StoredRow | None
    last: StoredRow | None
    symbols: int
    findings: tuple[Finding, ...]


def understand(file: Path, reading: Reading, scratch: Path) -> FileReading:
    """What is understood of a file under the given settings (`reading_of(settings.market)`).

    Args:
        scratch: a folder for temporary files.

    Raises:
        CandlecastError: the file cannot be read at all, or a required column is missing. The message names the setting.
    """
    source = FilesSource(file.name, file.parent, reading)
    request = source.request_of(file)
    calendar = TradingCalendar(reading.calendar, reading.frequency)
    findings: list[Finding] = []
    with scratch_folder(scratch) as folder, duckdb.connect() as connection:
        parquet = folder / "payload.parquet"
        sha256 = source.fetch(request, parquet)
        rows = pyarrow.parquet.read_metadata(parquet).num_rows
        payload = Payload(source.name, request, sha256, utc_now(), rows)
        columns = validate_payloads(connection, [(payload, parquet)], reading, calendar, report=findings.extend)[0]
        return _reading(connection, payload, columns, reading, calendar, findings)


def _reading(
    connection: duckdb.DuckDBPyConnection,
    payload: Payload,
    columns: PayloadColumns,
    reading: Reading,
    calendar: TradingCalendar,
    findings: Sequence[Finding],
) -> FileReading:
    basis, derives = connection.execute(_BASIS).fetchall()[0]
    bars = [StoredRow(*row) for row in connection.execute(_ROWS).fetchall()]
    rejected = connection.execute("SELECT rule, count(*) FROM rejected GROUP BY rule ORDER BY 2 DESC, 1").fetchall()
    return FileReading(
        file=payload.request.file,
        columns=tuple(_column(connection, role, columns, reading, calendar) for role in _roles(columns)),
        ignored=columns.ignored,
        symbol_rule=_symbol_rule(payload, columns),
        stamp=reading.stamp or "start",
        basis=basis,
        derives_actions=bool(derives),
        spacing=connection.execute(_SPACING).fetchall()[0][0] or "",
        received=payload.rows,
        accepted=len(bars),
        rejected=dict(rejected),
        first=bars[0] if bars else None,
        last=bars[-1] if bars else None,
        symbols=len({bar.symbol for bar in bars}),
        findings=tuple(findings),
    )


def _roles(columns: PayloadColumns) -> list[str]:
    order = ("symbol", "series", "date", *NUMBERS)
    return sorted(columns.header, key=order.index) + (["clock"] if columns.clock else [])


def _column(
    connection: duckdb.DuckDBPyConnection,
    role: str,
    columns: PayloadColumns,
    reading: Reading,
    calendar: TradingCalendar,
) -> ColumnReading:
    cell = columns.clock if role == "clock" and columns.clock else columns.cells[role]
    name = cell.removeprefix('p."').removesuffix('"').replace('""', '"')
    example = connection.execute(_EXAMPLE.format(cell=f"trim({cell}::VARCHAR)")).fetchall()[0][0] or ""
    zone = (reading.timezone or columns.zone or calendar.timezone) if role in ("date", "clock") else ""
    scale = scale_of(role, columns, reading) if role in NUMBERS else 1.0
    return ColumnReading(role, name, columns.types.get(role, "VARCHAR"), example, zone, scale)


def _symbol_rule(payload: Payload, columns: PayloadColumns) -> str:
    if "symbol" in columns.header:
        return f"column {columns.header['symbol']!r}"
    return f"file name: {payload.request.symbol}"
