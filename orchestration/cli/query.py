"""`candlecast query`: a read-only SQL query on the warehouse, as a table, CSV or JSON."""

import csv
import json
import math
import re
from collections.abc import Sequence
from io import StringIO
from typing import Any

import duckdb

from resources.disclosure import conceal
from resources.errors import CandlecastError
from resources.settings import Settings
from resources.warehouse import Warehouse

TABLE_WIDTH = 160
# Beside the pragmas that are table functions: `table_info`, `storage_info`, `version`, …
_LISTING_PRAGMAS = frozenset({"show_tables", "show_tables_expanded", "database_list"})
_PRAGMA = re.compile(r"\s*PRAGMA\s+(\w+)", re.IGNORECASE)
# `EXPLAIN (SELECT 1)` has no options, `EXPLAIN (FORMAT json) SELECT 1` has: the one whose rest can be parsed is right.
_EXPLAIN = (
    re.compile(r"\s*EXPLAIN\s+(?:ANALYZE\s+|VERBOSE\s+)*(.*)", re.IGNORECASE | re.DOTALL),
    re.compile(r"\s*EXPLAIN\s*\([^()]*\)\s*(.*)", re.IGNORECASE | re.DOTALL),
)


def run_query(settings: Settings, sql: str, output: str) -> str:
    """The result of one query as text.

    Args:
        output: "table", "csv" or "json" (a list of objects).

    Raises:
        CandlecastError: the warehouse does not exist yet, or DuckDB rejects the query; the message has its reason.
    """
    warehouse = Warehouse.of(settings)
    if not warehouse.exists:
        raise CandlecastError(
            f"{warehouse.label} does not exist yet: `candlecast run` or `candlecast backfill` creates it"
        )
    try:
        with warehouse.read(alone=True) as connection:
            _require_read(connection, sql)
            _forbid_files(connection)
            found = connection.execute(sql)
            columns = [str(column[0]) for column in found.description or []]
            rows = found.fetchall()
    except duckdb.Error as error:
        raise CandlecastError(f"query rejected: {error}") from None
    formats = {"csv": _as_csv, "json": _as_json, "table": _as_table}
    text = formats[output](columns, rows)
    return conceal(text, warehouse.uri) if warehouse.uri else text


def _require_read(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """One statement of a type that only reads, by DuckDB's own parser. `EXPLAIN ANALYZE` executes what it explains."""
    statements = duckdb.extract_statements(sql)
    if not statements:
        raise CandlecastError('the query is empty: `candlecast query "SHOW TABLES"` lists the tables')
    if len(statements) > 1:
        kinds = ", ".join(statement.type.name for statement in statements)
        raise CandlecastError(f"query rejected: {len(statements)} statements ({kinds}). Send one at a time")
    (statement,) = statements
    kind, text = statement.type, statement.query
    if kind == duckdb.StatementType.SELECT or (kind == duckdb.StatementType.PRAGMA and _pragma_reads(connection, text)):
        return
    if kind == duckdb.StatementType.EXPLAIN and (explained := _explained(text)) is not None:
        _require_read(connection, explained)
        return
    raise CandlecastError(
        f"query rejected: a statement of type {kind.name} is not allowed, because it can write. Allowed: SELECT, FROM, "
        "WITH, SHOW, DESCRIBE, SUMMARIZE, PIVOT … ON column IN (…), EXPLAIN of these, PRAGMA table_info and its like"
    )


def _pragma_reads(connection: duckdb.DuckDBPyConnection, text: str) -> bool:
    """Whether the pragma returns rows. Others change settings, and DuckDB gives `COPY FROM DATABASE` this type too."""
    name = _PRAGMA.match(text)
    if name is None:
        return False
    known = "SELECT 1 FROM duckdb_functions() WHERE function_type = 'table' AND function_name = 'pragma_' || $name"
    lower = name[1].lower()
    return lower in _LISTING_PRAGMAS or bool(connection.execute(known, {"name": lower}).fetchall())


def _explained(text: str) -> str | None:
    """The statement after EXPLAIN and its options; None if it cannot be determined."""
    for pattern in _EXPLAIN:
        if found := pattern.match(text):
            try:
                if duckdb.extract_statements(found[1]):
                    return found[1]
            except duckdb.Error:
                continue
    return None


def _forbid_files(connection: duckdb.DuckDBPyConnection) -> None:
    """No file but the attached database's own is read, and nothing in the query can change that."""
    lakes = connection.execute("SELECT database_name FROM duckdb_databases() WHERE type = 'ducklake'").fetchall()
    folders = [
        folder
        for (lake,) in lakes
        for (folder,) in connection.execute(
            f"SELECT value FROM \"__ducklake_metadata_{lake}\".ducklake_metadata WHERE key = 'data_path'"
        ).fetchall()
    ]
    if folders:
        connection.execute("SET allowed_directories = $folders", {"folders": folders})
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _as_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _as_json(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    names = _unique(columns)
    return json.dumps([dict(zip(names, map(finite, row), strict=True)) for row in rows], default=str) + "\n"


def _unique(columns: Sequence[str]) -> list[str]:
    """Column names with a number appended to repeated ones, because the keys of a JSON object are unique."""
    names: list[str] = []
    for name in columns:
        own, count = name, 0
        while own in names or (count and own in columns):
            own, count = f"{name}_{count + 1}", count + 1
        names.append(own)
    return names


def finite(value: object) -> object:
    """The value with None for NaN and infinity, which JSON cannot represent, at every depth."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _as_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table if it fits into `TABLE_WIDTH`, else one list per row: nothing is truncated."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[f"{value:,.6g}" if isinstance(value, float) else str(value) for value in row] for row in rows]
    widest = [max(len(text) for text in column) for column in zip(columns, *cells, strict=True)]
    if sum(widest) + 3 * len(widest) + 1 > TABLE_WIDTH:
        return "\n".join(_as_list(number, columns, row) for number, row in enumerate(cells, 1))
    table = Table()
    for position, column in enumerate(columns):
        numeric = all(isinstance(row[position], int | float) for row in rows[:100])
        table.add_column(Text(column), justify="right" if numeric and rows else "left")
    for row in cells:
        # Text: a value such as [bold] is not markup.
        table.add_row(*map(Text, row))
    text = StringIO()
    Console(file=text, width=TABLE_WIDTH).print(table)
    return text.getvalue()


def _as_list(number: int, columns: Sequence[str], row: Sequence[str]) -> str:
    widest = max(map(len, columns))
    lines = "\n".join(f"{column:<{widest}}  {cell}" for column, cell in zip(columns, row, strict=True))
    return f"row {number}\n{lines}\n"
