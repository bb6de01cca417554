"""`candlecast query` prints every value unchanged, and writes no file."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from orchestration.cli.query import run_query
from resources.attached_files import OpenDatabase
from resources.errors import CandlecastError
from resources.settings import Settings
from resources.warehouse import Warehouse


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path / "home")
    with Warehouse.of(settings).write() as connection:
        values = "'a', 'files', 'r', '[/foo].csv', 1, 1, 0, 0, now(), 1, '1d', 0"
        connection.execute(f"INSERT INTO payloads VALUES ({values})")
    return settings


def test_brackets_in_values_and_names_are_printed_unchanged(settings: Settings) -> None:
    shown = run_query(settings, "SELECT file, '[bold]hidden' AS \"[red]\" FROM payloads", "table")
    assert "[/foo].csv" in shown and "[bold]hidden" in shown and "[red]" in shown


@pytest.mark.parametrize("sql", ["", "  ", ";", "-- nothing"])
def test_an_empty_query_is_rejected(settings: Settings, sql: str) -> None:
    with pytest.raises(CandlecastError, match="SHOW TABLES"):
        run_query(settings, sql, "table")


# A statement by what it does, and the type of DuckDB that the error names. {own}: the warehouse's file.
WRITING = {
    "COPY (SELECT 1) TO '{folder}/x.csv'": "COPY",
    "COPY (SELECT 'gone' AS a) TO '{own}' (FORMAT csv, USE_TMP_FILE false)": "COPY",
    "COPY (SELECT from_hex('00ff') AS b) TO '{own}.wal' (FORMAT blob)": "COPY",
    "COPY payloads FROM '{folder}/x.csv'": "COPY",
    "COPY FROM DATABASE warehouse TO other": "PRAGMA",
    "EXPORT DATABASE '{folder}/x'": "EXPORT",
    "ATTACH '{folder}/x.duckdb'": "ATTACH",
    "DETACH warehouse": "DETACH",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{own}.wal'": "COPY",
    "EXPLAIN (ANALYZE, FORMAT json) COPY (SELECT 1) TO '{own}.wal'": "COPY",
    "EXPLAIN ANALYZE DELETE FROM payloads": "DELETE",
    "SET enable_external_access = true": "SET",
    "PRAGMA memory_limit = '1GB'": "SET",
    "PRAGMA enable_profiling": "PRAGMA",
    "PRAGMA import_database('{folder}')": "PRAGMA",
    "CALL enable_logging(storage = 'file', storage_path = '{folder}')": "CALL",
    "INSTALL httpfs": "LOAD",
    "LOAD '{folder}/x.duckdb_extension'": "LOAD",
    "CREATE TEMP TABLE x AS SELECT 1": "CREATE",
    "INSERT INTO payloads SELECT * FROM payloads": "INSERT",
    "UPDATE payloads SET file = 'x'": "UPDATE",
    "CHECKPOINT": "CALL",
    "VACUUM": "VACUUM",
    "PREPARE x AS DELETE FROM payloads": "PREPARE",
    "SELECT 1; COPY (SELECT 1) TO '{own}.wal'": "COPY",
    "SELECT 1; SELECT 2": "SELECT",
}
# Type SELECT, and more than a read of the warehouse: stopped by the locked connection.
REACHING_OUT = (
    "SELECT * FROM read_csv('{outside}')",
    "SELECT * FROM '{outside}'",
    "SELECT content FROM read_text('{outside}')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM enable_logging(storage = 'file', storage_path = '{folder}')",
    "SELECT * FROM enable_logging(level = 'debug')",
)
READING = {
    "SHOW TABLES": "payloads",
    "DESCRIBE payloads": "available_at",
    "SUMMARIZE payloads": "available_at",
    "FROM payloads SELECT file": "[/foo].csv",
    "WITH x AS (SELECT 41 + 1 AS y) SELECT y FROM x": "42",
    "VALUES (42)": "42",
    "EXPLAIN SELECT * FROM payloads": "plan",
    "EXPLAIN ANALYZE SELECT * FROM payloads": "plan",
    "EXPLAIN (FORMAT json) SELECT * FROM payloads": "plan",
    "EXPLAIN (SELECT 1)": "plan",
    "PRAGMA table_info('payloads')": "available_at",
    "PRAGMA show_tables": "payloads",
    "pragma database_size;": "bytes",
    "PIVOT payloads ON source IN ('files') USING count(*) GROUP BY file": "[/foo].csv",
}


@pytest.fixture(params=["file", "uri"])
def stored(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """The settings with the warehouse as a file, and as a URI."""
    if request.param == "file":
        return settings
    return settings.model_copy(update={"warehouse": SecretStr(f"duckdb:{settings.home}/warehouse.duckdb")})


@pytest.mark.parametrize("sql", WRITING)
def test_a_statement_that_can_write_is_rejected_by_its_type(stored: Settings, tmp_path: Path, sql: str) -> None:
    own = stored.home / "warehouse.duckdb"
    before = own.read_bytes()
    (tmp_path / "folder").mkdir()
    with pytest.raises(CandlecastError, match=rf"\b{WRITING[sql]}\b"):
        run_query(stored, sql.format(folder=tmp_path / "folder", own=own), "table")
    assert list((tmp_path / "folder").iterdir()) == []
    assert list(stored.home.iterdir()) == [own] and own.read_bytes() == before


@pytest.mark.parametrize("sql", REACHING_OUT)
def test_a_query_reaches_no_other_file_and_no_setting(stored: Settings, tmp_path: Path, sql: str) -> None:
    outside = tmp_path / "folder" / "outside.csv"
    outside.parent.mkdir()
    outside.write_text("a\n1\n")
    with pytest.raises(CandlecastError, match="query rejected"):
        run_query(stored, sql.format(folder=outside.parent, outside=outside), "table")
    assert list(outside.parent.iterdir()) == [outside]


@pytest.mark.parametrize("sql", READING)
def test_every_statement_that_only_reads_works(stored: Settings, sql: str) -> None:
    assert READING[sql] in run_query(stored, sql, "csv")


def test_a_query_has_a_connection_that_cannot_write(stored: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[bool] = []
    connect = Warehouse._connect

    def recorded(warehouse: Warehouse, read_only: bool, alone: bool = False) -> OpenDatabase:
        opened.append(read_only)
        return connect(warehouse, read_only, alone)

    monkeypatch.setattr(Warehouse, "_connect", recorded)
    assert "41" in run_query(stored, "SELECT 41", "csv")
    assert opened[-1]  # an earlier one may have brought the schema up to date


def test_nested_nan_and_infinity_are_null_in_json(settings: Settings) -> None:
    text = run_query(settings, "SELECT [1.5, 'nan'::DOUBLE] AS a, {'x': 'inf'::DOUBLE} AS b", "json")
    assert json.loads(text, parse_constant=pytest.fail) == [{"a": [1.5, None], "b": {"x": None}}]


def test_json_keeps_columns_of_the_same_name(settings: Settings) -> None:
    text = run_query(settings, "SELECT 1 AS a, 2 AS a, 3 AS a_1", "json")
    assert json.loads(text) == [{"a": 1, "a_2": 2, "a_1": 3}]


def test_rows_too_wide_for_a_table_are_listed_in_full(settings: Settings) -> None:
    long = "x" * 150
    listed = run_query(settings, f"SELECT '{long}' AS text, 1.5 AS number UNION ALL SELECT 'short', 2", "table")
    assert long in listed and "row 2" in listed
    fitting = run_query(settings, "SELECT 'short' AS text, 1.5::DOUBLE AS number", "table")
    assert "short" in fitting and "row 1" not in fitting
