"""The columns of one payload: which of them have a role, and the SQL of their cells.

Not here: the names that are recognised (parsing), and the rows (payload_rows).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from assets.market.ingest.payloads import Payload
from assets.market.parsing.column_names import zone_of_name
from assets.market.parsing.columns import read_header
from resources.errors import CandlecastError
from resources.sources.protocol import ROW, UNPARSED, Reading
from resources.sources.text_header import UNKNOWN_ZONE

# Column types that are read as names and as numbers. Text is read as either.
NAME_TYPES = re.compile(r'U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|VARCHAR|BLOB|"NULL"')
NUMBER_TYPES = re.compile(r'U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\)|VARCHAR|"NULL"')
# HistData's stamps are Eastern standard time all year, in all of its formats.
_HISTDATA, _HISTDATA_ZONE = re.compile(r"DAT_(?:ASCII|MT|NT|XLSX)_", re.IGNORECASE), "UTC-05:00"
_CREATE_VIEW = """
CREATE OR REPLACE TEMP VIEW payload AS
SELECT *, {row} AS "#row" FROM read_parquet({file}, file_row_number = true, hive_partitioning = false)
"""
# A column called "name" holds symbols, not the names of companies.
_ALL_SYMBOLS = """
SELECT coalesce(bool_and(regexp_full_match({cell}, '[A-Z0-9^][A-Z0-9.=_^/&-]{{0,31}}')), false)
FROM payload AS p WHERE {cell} <> ''
"""
_NONZERO = "SELECT coalesce(bool_or(regexp_matches({cell}, '[1-9]')), false) FROM payload AS p"


@dataclass(frozen=True)
class PayloadColumns:
    """The columns of a payload that are used, by their names in `bars`.

    Attributes:
        file: named by errors.
        header: the names in the file.
        cells: the SQL of a cell.
        types: DuckDB's types.
        dates: the SQL of a row's date as text.
        clock: the SQL of a cell with the time of day, where the file has it in a column of its own.
        parsed: whether the file had lines that are no rows.
        zone: the time zone that the name of the date column or of the file states, and the settings do not.
        units: factors that names of columns state.
        ignored: names in the file that have no role.
    """

    file: str
    header: Mapping[str, str]
    cells: Mapping[str, str]
    types: Mapping[str, str]
    dates: str
    clock: str | None
    parsed: bool
    zone: str | None = None
    units: Mapping[str, float] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def text(self, name: str) -> str:
        """The SQL of a cell as text."""
        return self.dates if name == "date" else as_text(self.cells[name])

    def is_text(self, name: str) -> bool:
        return self.types[name] == "VARCHAR"

    def check_type(self, name: str, allowed: re.Pattern[str], wanted: str) -> None:
        """Refuse a typed column that cannot be what it is read as.

        Raises:
            CandlecastError: the message names the file, the column and its type.
        """
        if not allowed.fullmatch(self.types[name]):
            raise CandlecastError(
                f"{self.file}: column {self.header[name]!r}, read as {name}, has the type {self.types[name]}, which is "
                f"not {wanted}: write it as {wanted} or as text, or name another column in [market.columns] "
                f'{name} = "…"'
            )


def find_columns(
    connection: duckdb.DuckDBPyConnection, payload: Payload, file: Path, reading: Reading
) -> PayloadColumns:
    """The columns of a payload, whose view `payload` is created.

    Raises:
        CandlecastError: a column is missing or ambiguous.
    """
    types = open_payload(connection, file)

    def confirm(role: str, column: str, names: Mapping[str, str]) -> bool:
        return _fits(connection, role, column, names)

    name = payload.request.file
    header = read_header(list(types), reading.columns, name, payload.request.symbol, confirm)
    return PayloadColumns(
        file=name,
        header=header.names,
        cells={ours: cell_of(theirs) for ours, theirs in header.names.items()},
        types={ours: types[theirs] for ours, theirs in header.names.items()},
        dates=as_text(cell_of(header.names["date"])),
        clock=cell_of(header.clock) if header.clock else None,
        parsed=UNPARSED not in types,
        zone=None if reading.timezone else _zone(header.names["date"], name),
        units=header.units,
        ignored=header.ignored,
    )


def _zone(date: str, file: str) -> str | None:
    """The time zone that the name of the date column states, or that of the file."""
    return _HISTDATA_ZONE if date == UNKNOWN_ZONE and _HISTDATA.match(Path(file).name) else zone_of_name(date, file)


def open_payload(connection: duckdb.DuckDBPyConnection, file: Path) -> dict[str, str]:
    """Create the view `payload` of a file. Returns its columns' types."""
    rows = f"SELECT * FROM (DESCRIBE FROM read_parquet({literal(str(file))}, hive_partitioning = false))"
    types = {name: kind for name, kind, *_ in connection.execute(rows).fetchall()}
    row = f'"{ROW}"' if ROW in types else "file_row_number + 1"
    connection.execute(_CREATE_VIEW.format(row=row, file=literal(str(file))))
    return types


def _fits(connection: duckdb.DuckDBPyConnection, role: str, column: str, names: Mapping[str, str]) -> bool:
    """Whether the values of a column fit a role that its name does not decide."""
    cell = as_text(cell_of(column))
    if role == "symbol":
        sql = _ALL_SYMBOLS.format(cell=cell)
    elif role == "nonzero":
        sql = _NONZERO.format(cell=cell)
    else:
        sql = _is_money(column, names)
    return bool(connection.execute(sql).fetchall()[0][0])


def _is_money(column: str, names: Mapping[str, str]) -> str:
    """The SQL that tells money traded from a rate of turnover.

    Money is at least a small part of price × volume, as volume may be in lots and money in thousands.
    """

    def number(name: str) -> str:
        return f"try_cast(replace({as_text(cell_of(name))}, ',', '') AS DOUBLE)"

    volume = number(names["volume"]) if "volume" in names else "NULL"
    close = number(names["close"]) if "close" in names else "NULL"
    money = number(column)
    return (
        f"SELECT coalesce(median({money}) > 100, false) "
        f"AND coalesce(median({money} / nullif({close} * {volume}, 0)), 1) > 5e-4 FROM payload AS p"
    )


def as_text(cell: str) -> str:
    """The SQL of a cell as text."""
    return f"trim({cell}::VARCHAR)"


def cell_of(column: str) -> str:
    """The SQL of a cell of the view `payload`."""
    return 'p."' + column.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal, where a statement takes no parameters."""
    return "'" + text.replace("'", "''") + "'"
