"""One payload's rows in the columns of bars: the SQL that reads its cells.

Belongs here: from a payload's Parquet to the temporary table `received`. Not here: whether a row is valid (contract).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import duckdb

from assets.market.ingest.payload_columns import (
    NAME_TYPES,
    NUMBER_TYPES,
    PayloadColumns,
    cell_of,
    find_columns,
    literal,
    open_payload,
)
from assets.market.ingest.payload_timestamps import timestamp_of, with_clock
from assets.market.ingest.payloads import Payload
from assets.market.parsing.columns import NUMBERS, PRICES
from assets.market.parsing.numbers import NumberFormat, number_format
from resources.errors import CandlecastError
from resources.integrity import is_intact
from resources.sources.protocol import ROW, UNPARSED, Reading

_SHOWN = ("symbol", "date", "open", "high", "low", "close", "volume", "amount")

_INSERT_RECEIVED = """
INSERT INTO received
SELECT {number}, p."#row", {unparsed}, {symbol}, {timestamp}, {numbers}, {unreadable},
       {left_out}
FROM payload AS p {join}
"""
_INSERT_REJECTED = """
INSERT INTO rejected
SELECT {texts}, j.session, {file}, p."#row",
       {as_received},
       j.rule, j.payload, j.symbol, j.ts, {detail}
FROM payload AS p
JOIN (
    SELECT payload, row, session, rule, symbol, ts FROM validated WHERE payload = $number AND rule IS NOT NULL
    UNION ALL
    SELECT d.payload, d.row, v.session, d.outcome, v.symbol, v.ts
    FROM duplicates AS d JOIN validated AS v USING (payload, row)
    WHERE d.payload = $number AND d.outcome = 'conflicting_duplicate'
) AS j ON j.row = p."#row"
LEFT JOIN received AS r ON r.payload = j.payload AND r.row = j.row AND j.rule = 'not_a_number'
"""


def receive(
    connection: duckdb.DuckDBPyConnection, number: int, payload: Payload, file: Path, reading: Reading
) -> PayloadColumns:
    """Add a payload's rows to the table `received`.

    Args:
        number: of the payload in its batch.
        file: its Parquet.

    Raises:
        CandlecastError: the payload as a whole cannot be read as bars.
    """
    if not is_intact(file):
        state = "damaged, it does not match its digest" if file.exists() else "gone"
        raise CandlecastError(
            f"{payload.request.file}: its payload {file} is {state}: `candlecast run` fetches it again if its source "
            "still has it; if not, restore it from a backup"
        )
    columns = find_columns(connection, payload, file, reading)
    columns = with_clock(connection, columns, reading) if columns.clock else columns
    formats = number_format_of(connection, columns)
    numbers = {name: _number(name, columns, formats, reading) for name in NUMBERS if name in columns.cells}
    timestamp, join = timestamp_of(connection, columns, file, reading)
    connection.execute(
        _INSERT_RECEIVED.format(
            number=number,
            unparsed="false" if columns.parsed else f'p."{UNPARSED}" IS NOT NULL',
            symbol=_symbol(columns, payload),
            timestamp=timestamp,
            numbers=", ".join(numbers.get(name, "NULL") for name in NUMBERS),
            unreadable=_first_unreadable(columns, numbers, formats),
            left_out=_other_series(columns, reading),
            join=join,
        )
    )
    return columns


def reject(
    connection: duckdb.DuckDBPyConnection, number: int, payload: Payload, file: Path, columns: PayloadColumns
) -> None:
    """Add a payload's rejected rows to the table `rejected`, as they were received."""
    types = open_payload(connection, file)
    pairs = ", ".join(f"{literal(name)}: {cell_of(name)}::VARCHAR" for name in types if name not in (ROW, UNPARSED))
    as_received = f"to_json(MAP {{{pairs}}})::VARCHAR"
    if UNPARSED in types:
        as_received = f'coalesce(p."{UNPARSED}", {as_received})'
    texts = {**{name: columns.text(name) for name in columns.cells}, "symbol": _symbol(columns, payload)}
    shown = ", ".join(texts.get(name, "NULL") for name in _SHOWN)
    statement = _INSERT_REJECTED.format(
        texts=shown, file=literal(payload.request.file), as_received=as_received, detail=_unreadable_cell(columns)
    )
    connection.execute(statement, {"number": number})


def _unreadable_cell(columns: PayloadColumns) -> str:
    """The SQL of the column and the text of a row's first cell that is not a number, such as "column 'Vol.', '1 k'"."""
    shown = {name: literal(f"column {columns.header[name]!r}, ") for name in NUMBERS if name in columns.cells}
    cases = " ".join(
        f"WHEN '{name}' THEN {text} || chr(39) || {columns.text(name)} || chr(39)" for name, text in shown.items()
    )
    return f"CASE r.unreadable {cases} END"


def _symbol(columns: PayloadColumns, payload: Payload) -> str:
    """The SQL of a row's symbol."""
    if "symbol" not in columns.cells:
        return literal(str(payload.request.symbol))
    # 700.0 and true are what tools make of the symbols 0700 and TRUE.
    columns.check_type("symbol", NAME_TYPES, "a name")
    return columns.text("symbol")


def _other_series(columns: PayloadColumns, reading: Reading) -> str:
    """The SQL that is true for rows of a series that is not read."""
    if reading.series is None:
        return "false"
    if "series" not in columns.cells:
        raise CandlecastError(
            f"{columns.file}: no column for the series, and market.series is set: name it in [market.columns] "
            'series = "…", or unset market.series'
        )
    return f"{columns.text('series')} NOT IN ({', '.join(map(literal, reading.series))})"


def number_format_of(connection: duckdb.DuckDBPyConnection, columns: PayloadColumns) -> NumberFormat:
    """How the numbers of a payload are written."""
    names = [name for name in NUMBERS if name in columns.cells]
    for name in names:
        columns.check_type(name, NUMBER_TYPES, "a number")
    written = {name: columns.cells[name].removeprefix("p.") for name in names if columns.is_text(name)}
    prices = [cell for name, cell in written.items() if name in PRICES]
    others = [cell for name, cell in written.items() if name not in PRICES]
    return number_format(connection, prices, others, columns.file)


def _number(name: str, columns: PayloadColumns, formats: NumberFormat, reading: Reading) -> str:
    """The SQL of a number in the units of bars."""
    cell = columns.cells[name]
    sql = formats.value(cell) if columns.is_text(name) else f"{cell}::DOUBLE"
    scale = scale_of(name, columns, reading)
    # Division by 10000 is exact where multiplication by 0.0001 is not.
    inverse = round(1 / scale, 6)
    if scale < 1 and inverse == int(inverse):
        return f"{sql} / {int(inverse)}"
    return sql if scale == 1 else f"{sql} * {scale}"


def scale_of(name: str, columns: PayloadColumns, reading: Reading) -> float:
    """The factor from a number as written to the units of bars: from the settings, or from the column's name."""
    kind = "price" if name in (*PRICES, "adj_close", "dividend") else name
    stated = columns.units.get(name, 1.0)
    return reading.scale.get(kind, stated) * (reading.lot if name == "volume" else 1)


def _first_unreadable(columns: PayloadColumns, numbers: Mapping[str, str], formats: NumberFormat) -> str:
    """The SQL of the name of a row's first text cell that is not a number."""
    cases = " ".join(
        f"WHEN {formats.text(columns.cells[name])} <> '' AND {sql} IS NULL THEN '{name}'"
        for name, sql in numbers.items()
        if columns.is_text(name)
    )
    return f"CASE {cases} END" if cases else "NULL"
