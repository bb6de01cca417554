"""`candlecast query`: a question to the warehouse, which cannot change it, as a table, CSV or JSON."""

import csv
import json
import math
from collections.abc import Sequence
from io import StringIO
from typing import Any

import duckdb

from resources.errors import CandlecastError
from resources.settings import Settings
from resources.warehouse import Warehouse

TABLE_WIDTH = 160


def answer(settings: Settings, sql: str, shape: str) -> str:
    """The result of one query.

    Args:
        shape: "table", "csv" or "json" (a list of objects).

    Raises:
        CandlecastError: there is no warehouse yet, or DuckDB refuses the query; its reason is told.
    """
    warehouse = Warehouse.of(settings)
    if not warehouse.exists:
        raise CandlecastError(
            f"{warehouse.path} does not exist yet: `candlecast run` or `candlecast backfill` makes it"
        )
    try:
        with warehouse.read() as connection:
            found = connection.execute(sql)
            columns = [str(column[0]) for column in found.description or []]
            rows = found.fetchall()
    except duckdb.Error as error:
        raise CandlecastError(f"query refused: {error}") from None
    shapes = {"csv": _as_csv, "json": _as_json, "table": _as_table}
    return shapes[shape](columns, rows)


def _as_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _as_json(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    return json.dumps([dict(zip(columns, map(_finite, row), strict=True)) for row in rows], default=str) + "\n"


def _finite(value: object) -> object:
    # JSON has no NaN.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _as_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for position, column in enumerate(columns):
        numeric = all(isinstance(row[position], int | float) for row in rows[:100])
        table.add_column(column, justify="right" if numeric and rows else "left")
    for row in rows:
        table.add_row(*(f"{value:,.6g}" if isinstance(value, float) else str(value) for value in row))
    text = StringIO()
    Console(file=text, width=TABLE_WIDTH).print(table)
    return text.getvalue()
