"""One payload's rows in the columns of bars: which column is which, and the SQL that reads its cells.

Belongs here: from a payload's Parquet to the temporary table `received`. Not here: whether a row is valid (contract).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pyarrow.parquet

from assets.market.ingest.payloads import Payload
from assets.market.parsing.columns import NUMBERS, PRICES, read_header
from assets.market.parsing.numbers import number_template
from assets.market.parsing.timestamps import read_stamps
from resources.calendar import DAILY
from resources.errors import CandlecastError
from resources.integrity import is_intact
from resources.sources.protocol import ROW, UNPARSED, Reading

# Column types that are read as names and as numbers. Text is read as either.
_NAME_TYPES = re.compile(r'U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|VARCHAR|BLOB|"NULL"')
_NUMBER_TYPES = re.compile(r'U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\)|VARCHAR|"NULL"')
_SHOWN = ("symbol", "date", "open", "high", "low", "close", "volume", "amount")

_CREATE_VIEW = """
CREATE OR REPLACE TEMP VIEW payload AS
SELECT *, {row} AS "#row" FROM read_parquet({file}, file_row_number = true, hive_partitioning = false)
"""
_INSERT_RECEIVED = """
INSERT INTO received
SELECT {number}, p."#row", {unparsed}, {symbol}, {timestamp}, {numbers}, {unreadable}
FROM payload AS p {join}
"""
_INSERT_REJECTED = """
INSERT INTO rejected
SELECT {texts}, j.session, {file}, p."#row",
       {as_received},
       j.rule, j.payload, j.symbol, j.ts
FROM payload AS p
JOIN (
    SELECT payload, row, session, rule, symbol, ts FROM validated WHERE payload = $number AND rule IS NOT NULL
    UNION ALL
    SELECT d.payload, d.row, v.session, d.outcome, v.symbol, v.ts
    FROM duplicates AS d JOIN validated AS v USING (payload, row)
    WHERE d.payload = $number AND d.outcome = 'conflicting_duplicate'
) AS j ON j.row = p."#row"
"""


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
    """

    file: str
    header: Mapping[str, str]
    cells: Mapping[str, str]
    types: Mapping[str, str]
    dates: str
    clock: str | None
    parsed: bool

    def text(self, name: str) -> str:
        """The SQL of a cell as text."""
        return self.dates if name == "date" else _as_text(self.cells[name])

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


def receive(
    connection: duckdb.DuckDBPyConnection, number: int, payload: Payload, file: Path, reading: Reading
) -> dict[str, str]:
    """Add a payload's rows to the table `received`.

    Args:
        number: of the payload in its batch.
        file: its Parquet.

    Returns:
        The SQL of the cells as text, by their names in `bars`.

    Raises:
        CandlecastError: the payload as a whole cannot be read as bars.
    """
    if not is_intact(file):
        state = "damaged, it does not match its digest" if file.exists() else "gone"
        raise CandlecastError(
            f"{payload.request.file}: its payload {file} is {state}: `candlecast run` fetches it again if its source "
            "still has it; if not, restore it from a backup"
        )
    columns = _columns(connection, payload, file, reading)
    symbol = _symbol(columns, payload)
    numbers = _numbers(connection, columns, reading)
    timestamp, join = _timestamp(connection, columns, file, reading)
    connection.execute(
        _INSERT_RECEIVED.format(
            number=number,
            unparsed="false" if columns.parsed else f'p."{UNPARSED}" IS NOT NULL',
            symbol=symbol,
            timestamp=timestamp,
            numbers=", ".join(numbers.get(name, "NULL") for name in NUMBERS),
            unreadable=_first_unreadable(columns, numbers),
            join=join,
        )
    )
    return {**{name: columns.text(name) for name in columns.cells}, "symbol": symbol}


def reject(
    connection: duckdb.DuckDBPyConnection, number: int, payload: Payload, file: Path, texts: Mapping[str, str]
) -> None:
    """Add a payload's rejected rows to the table `rejected`, as they were received."""
    types = _open(connection, file)
    pairs = ", ".join(f"{literal(name)}: {_cell(name)}::VARCHAR" for name in types if name not in (ROW, UNPARSED))
    as_received = f"to_json(MAP {{{pairs}}})::VARCHAR"
    if UNPARSED in types:
        as_received = f'coalesce(p."{UNPARSED}", {as_received})'
    shown = ", ".join(texts.get(name, "NULL") for name in _SHOWN)
    statement = _INSERT_REJECTED.format(texts=shown, file=literal(payload.request.file), as_received=as_received)
    connection.execute(statement, {"number": number})


def _columns(connection: duckdb.DuckDBPyConnection, payload: Payload, file: Path, reading: Reading) -> PayloadColumns:
    types = _open(connection, file)
    header = read_header(list(types), reading.columns, payload.request.file, payload.request.symbol)
    columns = PayloadColumns(
        file=payload.request.file,
        header=header.names,
        cells={name: _cell(theirs) for name, theirs in header.names.items()},
        types={name: types[theirs] for name, theirs in header.names.items()},
        dates=_as_text(_cell(header.names["date"])),
        clock=_cell(header.clock) if header.clock else None,
        parsed=UNPARSED not in types,
    )
    return _with_clock(connection, columns, reading) if columns.clock else columns


def _with_clock(connection: duckdb.DuckDBPyConnection, columns: PayloadColumns, reading: Reading) -> PayloadColumns:
    """The columns with the date and the time of day put together, as text."""
    if reading.frequency != DAILY and _is_dates_only(connection, columns.cells["date"], columns.types["date"]):
        dates = f"{columns.cells['date']}::DATE::VARCHAR"
        columns = replace(columns, dates=dates, types={**columns.types, "date": "VARCHAR"})
    return replace(columns, dates=f"{columns.dates} || ' ' || {_clock(connection, columns.clock or '')}")


def _symbol(columns: PayloadColumns, payload: Payload) -> str:
    """The SQL of a row's symbol."""
    if "symbol" not in columns.cells:
        return literal(str(payload.request.symbol))
    # 700.0 and true are what tools make of the symbols 0700 and TRUE.
    columns.check_type("symbol", _NAME_TYPES, "a name")
    return columns.text("symbol")


def _numbers(connection: duckdb.DuckDBPyConnection, columns: PayloadColumns, reading: Reading) -> dict[str, str]:
    """The SQL of the numbers that the payload has, by their names in `bars`."""
    names = [name for name in NUMBERS if name in columns.cells and (name != "factor" or reading.basis == "factor")]
    for name in names:
        columns.check_type(name, _NUMBER_TYPES, "a number")
    written = {name: columns.cells[name].removeprefix("p.") for name in names if columns.is_text(name)}
    prices = [cell for name, cell in written.items() if name in PRICES]
    others = [cell for name, cell in written.items() if name not in PRICES]
    template = number_template(connection, prices, others, columns.file)
    numbers = {
        name: template.replace("{c}", columns.cells[name])
        if columns.is_text(name)
        else f"{columns.cells[name]}::DOUBLE"
        for name in names
    }
    if reading.lot != 1 and "volume" in numbers:
        numbers["volume"] += f" * {reading.lot}"
    return numbers


def _first_unreadable(columns: PayloadColumns, numbers: Mapping[str, str]) -> str:
    """The SQL of the name of a row's first text cell that is not a number."""
    cases = " ".join(
        f"WHEN {columns.text(name)} <> '' AND {sql} IS NULL THEN '{name}'"
        for name, sql in numbers.items()
        if columns.is_text(name)
    )
    return f"CASE {cases} END" if cases else "NULL"


def _timestamp(
    connection: duckdb.DuckDBPyConnection, columns: PayloadColumns, file: Path, reading: Reading
) -> tuple[str, str]:
    """The SQL of a row's local time, instant and problem, and the join that it needs."""
    cell, kind = columns.cells["date"], columns.types["date"]
    if _has_zone(kind):
        # Nanoseconds with a zone, as pandas writes them, have no casts but this one.
        zone, instant = literal(_zone(file, columns.header["date"])), f"{cell}::TIMESTAMPTZ"
        return f"timezone({zone}, {instant}), timezone('UTC', {instant}), NULL", ""
    if kind == "DATE" or kind.startswith("TIMESTAMP"):
        return f"{cell}::TIMESTAMP, NULL, NULL", ""
    columns.check_type("date", _NUMBER_TYPES, "a date")
    text = columns.dates
    if "INT" not in kind and kind != "VARCHAR":
        text = f"CASE WHEN {cell} <> trunc({cell}) THEN {cell}::VARCHAR ELSE try_cast({cell} AS BIGINT)::VARCHAR END"
    connection.execute(f"CREATE OR REPLACE TEMP VIEW written AS SELECT {text} AS text FROM payload AS p")
    read_stamps(connection, "written", columns.file, reading.date_order)
    return "t.local, t.instant, t.problem", f"LEFT JOIN stamps AS t ON t.text = {text}"


def _open(connection: duckdb.DuckDBPyConnection, file: Path) -> dict[str, str]:
    """Create the view `payload` of a file. Returns its columns' types."""
    rows = f"SELECT * FROM (DESCRIBE FROM read_parquet({literal(str(file))}, hive_partitioning = false))"
    types = {name: kind for name, kind, *_ in connection.execute(rows).fetchall()}
    row = f'"{ROW}"' if ROW in types else "file_row_number + 1"
    connection.execute(_CREATE_VIEW.format(row=row, file=literal(str(file))))
    return types


def _has_zone(kind: str) -> bool:
    """Whether a type holds instants."""
    return "TIME ZONE" in kind or kind.startswith("TIMESTAMPTZ")


def _zone(file: Path, column: str) -> str:
    """The zone in which a column of instants was written: a daily bar's midnight is its day there. DuckDB drops it."""
    schema = pyarrow.parquet.read_schema(file)
    zone = str(schema.field(column).type.tz or "UTC") if column in schema.names else "UTC"
    return f"UTC{zone}" if zone[0] in "+-" else zone


def _clock(connection: duckdb.DuckDBPyConnection, cell: str) -> str:
    """The SQL of a time of day as text: 93000 is 09:30:00, and 930 is 09:30 where the leading zero was dropped."""
    text = _as_text(cell)
    longest = f"SELECT max(length({text})) FROM payload AS p WHERE regexp_full_match({text}, '[0-9]+')"
    digits = 4 if connection.execute(longest).fetchall()[0][0] in (3, 4) else 6
    return f"CASE WHEN regexp_full_match({text}, '[0-9]+') THEN lpad({text}, {digits}, '0') ELSE {text} END"


def _is_dates_only(connection: duckdb.DuckDBPyConnection, cell: str, kind: str) -> bool:
    """Whether a typed column of dates has no time of day."""
    if kind == "DATE" or not kind.startswith("TIMESTAMP") or _has_zone(kind):
        return kind == "DATE"
    all_midnight = f"SELECT bool_and({cell}::TIME = TIME '00:00') FROM payload AS p"
    return bool(connection.execute(all_midnight).fetchall()[0][0])


def _as_text(cell: str) -> str:
    return f"trim({cell}::VARCHAR)"


def _cell(column: str) -> str:
    return 'p."' + column.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal, where a statement takes no parameters."""
    return "'" + text.replace("'", "''") + "'"
