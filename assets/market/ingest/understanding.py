"""What is understood of one file of bars, by the code that ingests it: columns, symbols, timestamps, basis, warnings.

Belongs here: one file without a lake or a warehouse, for `candlecast inspect` and `candlecast init`. Not here: which
settings are right (inspection), how it is shown, and any rule: all of them are the ingest's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet

from assets.market.ingest.contract import validate_payloads
from assets.market.ingest.findings import Finding
from assets.market.ingest.lake import utc_now
from assets.market.ingest.payload_columns import PayloadColumns, cell_of
from assets.market.ingest.payload_rows import number_format_of, scale_of
from assets.market.ingest.payload_timestamps import timestamp_format
from assets.market.ingest.payloads import Payload
from assets.market.ingest.rules import REASONS
from assets.market.parsing.columns import NUMBERS
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.publish import scratch_folder
from resources.sources.files import FilesSource
from resources.sources.protocol import ROW, UNPARSED, Reading

# Rules whose rows are not lost: read again later, or left out on purpose.
NOT_LOST = frozenset({"not_closed_yet", "other_series"})
_BASES = {"raw": "as quoted", "split-adjusted": "adjusted for splits", "factor": "multiplied by a factor"}
_EXAMPLE = """SELECT arg_min({cell}, "#row") FROM payload AS p WHERE {cell} <> ''"""
_BASIS = "SELECT basis, derives FROM payloads WHERE number = 0"
_ROWS = """
SELECT symbol, ts, open, high, low, close, volume, amount, dividend, split
FROM accepted WHERE NOT folded ORDER BY ts {order}, symbol {order} LIMIT 1
"""
_COUNTS = """
SELECT count(*), count(DISTINCT symbol), min(session), max(session), count(DISTINCT session)
FROM accepted WHERE NOT folded
"""
_REJECTIONS = """
SELECT rule, count(*), arg_min(concat_ws(', ', 'row ' || row_number, detail) || ': ' || left(received, 200), row_number)
FROM rejected GROUP BY rule ORDER BY 2 DESC, 1
"""


@dataclass(frozen=True)
class ColumnReading:
    """How one column is read.

    Attributes:
        role: the standard name, "clock" for a time of day beside the date, or empty: the column is not used.
        name: in the file.
        type: of the cells, as DuckDB names it; VARCHAR is text.
        example: the first cell that is not empty, as text.
        format: how the cells are written, where that is inferred: "day/month/year", "decimal comma".
        zone: of timestamps.
        scale: factor from the file's unit to that of bars.
    """

    role: str
    name: str
    type: str
    example: str
    format: str = ""
    zone: str = ""
    scale: float = 1.0


@dataclass(frozen=True)
class StoredRow:
    """A bar as it would be stored; `ts` is UTC, and of a daily bar the session at 00:00."""

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
class Rejection:
    """Rows that break one rule, with the first of them as text."""

    rule: str
    rows: int
    example: str

    @property
    def reason(self) -> str:
        return REASONS[self.rule]


@dataclass(frozen=True)
class FileReading:
    """What is understood of a file.

    Attributes:
        columns: all columns in the order of the file.
        symbol_rule: where the symbol comes from, as text.
        stamp: whether timestamps start or end their bars.
        basis: of the prices, as text.
        actions: where splits and dividends come from, as text; empty: there are none.
        received, accepted: rows; the others are rejected, or repeat an accepted one.
        rejections: by rule, the most frequent first.
        first, last: bars as they would be stored; None: no row is accepted.
        symbols, sessions: their numbers.
        findings: errors that would refuse the file, and warnings, with the settings that correct them.
    """

    file: str
    columns: tuple[ColumnReading, ...]
    symbol_rule: str
    stamp: str
    basis: str
    actions: str
    received: int
    accepted: int
    rejections: tuple[Rejection, ...]
    first: StoredRow | None
    last: StoredRow | None
    symbols: int
    sessions: int
    findings: tuple[Finding, ...]

    @property
    def ignored(self) -> tuple[str, ...]:
        """Names of the columns that are not used."""
        return tuple(column.name for column in self.columns if not column.role)

    @property
    def rejected(self) -> dict[str, int]:
        """Rows by rule."""
        return {one.rule: one.rows for one in self.rejections}

    @property
    def lost(self) -> int:
        """Rejected rows that count for `market.max_rejected`."""
        return sum(one.rows for one in self.rejections if one.rule not in NOT_LOST)

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "error")


def understand(file: Path, reading: Reading, scratch: Path, name: str = "") -> FileReading:
    """What is understood of a file under the given settings (`reading_of(settings.market)`).

    Args:
        scratch: a folder for temporary files.
        name: of the file in messages; empty: its name without folders.

    Raises:
        CandlecastError: the file cannot be read at all, or a required column is missing. The message names the setting.
    """
    calendar = TradingCalendar(reading.calendar, reading.frequency)
    findings: list[Finding] = []
    with scratch_folder(scratch) as folder, duckdb.connect() as connection:
        payload, parquet = fetch(file, reading, folder, name)
        columns = validate_payloads(connection, [(payload, parquet)], reading, calendar, report=findings.extend)[0]
        return _reading(connection, payload, columns, reading, calendar, findings)


def fetch(file: Path, reading: Reading, folder: Path, name: str = "") -> tuple[Payload, Path]:
    """A file as a payload, and the Parquet of its cells in the folder.

    Raises:
        CandlecastError: it cannot be read.
    """
    # From the root, so that a pattern of `market.symbol_from` may name any folder above the file.
    source = FilesSource(str(file), Path(file.anchor), reading)
    request = replace(source.request_of(file), file=name or file.name)
    parquet = folder / "payload.parquet"
    sha256 = source.fetch(request, parquet)
    rows = pyarrow.parquet.read_metadata(parquet).num_rows
    return Payload(source.name, request, sha256, utc_now(), rows), parquet


def first_cells(file: Path, reading: Reading, scratch: Path) -> tuple[ColumnReading, ...]:
    """The columns of a file without their roles, with examples. Empty: it cannot be split into cells."""
    with suppress(CandlecastError, duckdb.Error), scratch_folder(scratch) as folder, duckdb.connect() as connection:
        _, parquet = fetch(file, reading, folder)
        rows = connection.execute("FROM read_parquet(?) LIMIT 20", [str(parquet)]).df()
        names = [str(name) for name in rows if name not in (ROW, UNPARSED)]
        return tuple(ColumnReading("", name, "", next((str(v) for v in rows[name] if v), "")) for name in names)
    return ()


def _reading(
    connection: duckdb.DuckDBPyConnection,
    payload: Payload,
    columns: PayloadColumns,
    reading: Reading,
    calendar: TradingCalendar,
    findings: Sequence[Finding],
) -> FileReading:
    basis, derives = connection.execute(_BASIS).fetchall()[0]
    accepted, symbols, _, _, sessions = connection.execute(_COUNTS).fetchall()[0]
    first, last = (connection.execute(_ROWS.format(order=order)).fetchall() for order in ("", "DESC"))
    rejections = [Rejection(*row) for row in connection.execute(_REJECTIONS).fetchall()]
    return FileReading(
        file=payload.request.file,
        columns=_columns(connection, columns, reading, calendar),
        symbol_rule=f"column {columns.header['symbol']!r}" if "symbol" in columns.header else "file name",
        stamp=reading.stamp or "start",
        basis=_basis(basis, reading),
        actions=_actions(columns.header, bool(derives)),
        received=payload.rows,
        accepted=accepted,
        rejections=tuple(rejections),
        first=StoredRow(*first[0]) if first else None,
        last=StoredRow(*last[0]) if last else None,
        symbols=symbols,
        sessions=sessions,
        findings=tuple(findings),
    )


def _basis(basis: str, reading: Reading) -> str:
    if reading.adjusted == "splits and dividends" and basis == "raw":
        return "adjusted for splits and dividends"
    return _BASES[basis]


def _actions(header: Mapping[str, str], derives: bool) -> str:
    stated = [header[name] for name in ("dividend", "split") if name in header]
    if derives:
        derived = [header[name] for name in ("adj_close", "factor") if name in header]
        return f"derived from {', '.join(map(repr, derived or stated))}"
    return f"columns {', '.join(map(repr, stated))}" if stated else ""


def _columns(
    connection: duckdb.DuckDBPyConnection, columns: PayloadColumns, reading: Reading, calendar: TradingCalendar
) -> tuple[ColumnReading, ...]:
    """All columns in the order of the file."""
    roles = {name: role for role, name in columns.header.items()}
    numbers, dates = number_format_of(connection, columns), timestamp_format(connection, columns, reading)
    cells = {name: columns.clock == cell_of(name) for name, *_ in _described(connection)}
    found = []
    for name, kind in _described(connection):
        role = roles.get(name, "clock" if cells[name] else "")
        is_time = role in ("date", "clock")
        text_numbers = role in NUMBERS and columns.is_text(role)
        written = ("decimal comma" if numbers.decimal_mark == "," else "") if text_numbers else ""
        sql = _EXAMPLE.format(cell=f"trim({cell_of(name)}::VARCHAR)")
        found.append(
            ColumnReading(
                role,
                name,
                kind,
                str(connection.execute(sql).fetchall()[0][0] or ""),
                dates if role == "date" else written,
                (reading.timezone or columns.zone or calendar.timezone) if is_time else "",
                scale_of(role, columns, reading) if role in NUMBERS else 1.0,
            )
        )
    return tuple(found)


def _described(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    rows: list[tuple[Any, ...]] = connection.execute("DESCRIBE payload").fetchall()
    return [(name, kind) for name, kind, *_ in rows if name not in (ROW, UNPARSED, "#row", "file_row_number")]
