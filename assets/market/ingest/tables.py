"""Temporary tables from frames, and SQL scripts with named values: what all steps of an ingest share."""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import pandas as pd


def make_table(connection: duckdb.DuckDBPyConnection, table: str, frame: pd.DataFrame, columns: str) -> None:
    """Create a temporary table from a frame. `columns` is the SELECT list."""
    connection.register("frame", frame)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT {columns} FROM frame")
    connection.unregister("frame")


def run_script(connection: duckdb.DuckDBPyConnection, script: str, values: Mapping[str, object]) -> None:
    """Run statements one by one, each with those of the named values that it uses."""
    for statement in connection.extract_statements(script):
        connection.execute(statement, {name: values[name] for name in statement.named_parameters})
