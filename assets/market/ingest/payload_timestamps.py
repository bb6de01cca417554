"""The timestamps of one payload as SQL, from a date column, or from a date and a time column.

Not here: the formats of text (parsing.timestamps).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet

from assets.market.ingest.payload_columns import NUMBER_TYPES, PayloadColumns, as_text, literal
from assets.market.parsing.timestamps import read_stamps
from resources.calendar import DAILY
from resources.sources.protocol import Reading

_WHOLE = "(19|20)[0-9]{12}([0-9]{3})?|[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}[ T][0-9].*"


def with_clock(connection: duckdb.DuckDBPyConnection, columns: PayloadColumns, reading: Reading) -> PayloadColumns:
    """The columns with the date and the time of day put together, as text.

    A time column with whole timestamps, as Baostock's, stands alone.
    """
    clock = as_text(columns.clock or "")
    is_whole = f"coalesce(bool_and(regexp_full_match({clock}, '{_WHOLE}')), false)"
    if connection.execute(f"SELECT {is_whole} FROM payload AS p WHERE {clock} <> ''").fetchall()[0][0]:
        return replace(columns, dates=clock, types={**columns.types, "date": "VARCHAR"})
    timed = reading.frequency != DAILY or reading.resample
    if timed and _is_dates_only(connection, columns.cells["date"], columns.types["date"]):
        dates = f"{columns.cells['date']}::DATE::VARCHAR"
        columns = replace(columns, dates=dates, types={**columns.types, "date": "VARCHAR"})
    return replace(columns, dates=f"{columns.dates} || ' ' || {_clock(connection, columns.clock or '')}")


def timestamp_of(
    connection: duckdb.DuckDBPyConnection, columns: PayloadColumns, file: Path, reading: Reading
) -> tuple[str, str]:
    """The SQL of a row's local time, instant and problem, and the join that it needs."""
    cell, kind = columns.cells["date"], columns.types["date"]
    if _has_zone(kind):
        # Nanoseconds with a zone, as pandas writes them, have no casts but this one.
        zone, instant = literal(_zone(file, columns.header["date"])), f"{cell}::TIMESTAMPTZ"
        return f"timezone({zone}, {instant}), timezone('UTC', {instant}), NULL", ""
    if kind == "DATE" or kind.startswith("TIMESTAMP"):
        return f"{cell}::TIMESTAMP, {_in_stated_zone(columns, f'{cell}::TIMESTAMP')}, NULL", ""
    columns.check_type("date", NUMBER_TYPES, "a date")
    text = columns.dates
    if "INT" not in kind and kind != "VARCHAR":
        text = f"CASE WHEN {cell} <> trunc({cell}) THEN {cell}::VARCHAR ELSE try_cast({cell} AS BIGINT)::VARCHAR END"
    connection.execute(f"CREATE OR REPLACE TEMP VIEW written AS SELECT {text} AS text FROM payload AS p")
    read_stamps(connection, "written", columns.file, reading.date_order)
    instant = f"coalesce(t.instant, {_in_stated_zone(columns, 't.local')})"
    return f"t.local, {instant}, t.problem", f"LEFT JOIN stamps AS t ON t.text = {text}"


def timestamp_format(connection: duckdb.DuckDBPyConnection, columns: PayloadColumns, reading: Reading) -> str:
    """How the timestamps of the payload that was received last are written, such as "day/month/year"."""
    kind = columns.types["date"]
    if kind == "DATE" or kind.startswith("TIMESTAMP"):
        return kind
    return read_stamps(connection, "written", columns.file, reading.date_order)


def _in_stated_zone(columns: PayloadColumns, local: str) -> str:
    """The SQL of the instant of a local time, where the column's name states the zone."""
    return f"timezone('UTC', timezone({literal(columns.zone)}, {local}))" if columns.zone else "NULL"


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
    text = as_text(cell)
    longest = f"SELECT max(length({text})) FROM payload AS p WHERE regexp_full_match({text}, '[0-9]+')"
    digits = 4 if connection.execute(longest).fetchall()[0][0] in (3, 4) else 6
    return f"CASE WHEN regexp_full_match({text}, '[0-9]+') THEN lpad({text}, {digits}, '0') ELSE {text} END"


def _is_dates_only(connection: duckdb.DuckDBPyConnection, cell: str, kind: str) -> bool:
    """Whether a typed column of dates has no time of day."""
    if kind == "DATE" or not kind.startswith("TIMESTAMP") or _has_zone(kind):
        return kind == "DATE"
    all_midnight = f"SELECT bool_and({cell}::TIME = TIME '00:00') FROM payload AS p"
    return bool(connection.execute(all_midnight).fetchall()[0][0])
