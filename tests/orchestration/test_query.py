"""`candlecast query` prints every value unchanged, and writes no file."""

import json
from pathlib import Path

import pytest

from orchestration.cli.query import run_query
from resources.errors import CandlecastError
from resources.settings import Settings
from resources.warehouse import Warehouse


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path / "home")
    with Warehouse.of(settings).write() as connection:
        connection.execute("INSERT INTO payloads VALUES ('a', 'files', 'r', '[/foo].csv', 1, 1, 0, 0, now(), 1, '1d')")
    return settings


def test_brackets_in_values_and_names_are_printed_unchanged(settings: Settings) -> None:
    shown = run_query(settings, "SELECT file, '[bold]hidden' AS \"[red]\" FROM payloads", "table")
    assert "[/foo].csv" in shown and "[bold]hidden" in shown and "[red]" in shown


@pytest.mark.parametrize("sql", ["", "  ", ";", "-- nothing"])
def test_an_empty_query_is_rejected(settings: Settings, sql: str) -> None:
    with pytest.raises(CandlecastError, match="SHOW TABLES"):
        run_query(settings, sql, "table")


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{folder}/x.csv'",
        "EXPORT DATABASE '{folder}/x'",
        "ATTACH '{folder}/x.duckdb'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/x.csv'",
        "SET enable_external_access = true; COPY (SELECT 1) TO '{folder}/x.csv'",
    ],
)
@pytest.mark.parametrize("by_uri", [False, True])
def test_no_file_is_written(settings: Settings, tmp_path: Path, sql: str, by_uri: bool) -> None:
    if by_uri:
        settings = settings.model_copy(update={"warehouse": f"duckdb:{settings.home}/warehouse.duckdb"})
        assert run_query(settings, "SELECT count(*) AS n FROM payloads", "csv") == "n\n1\n"
    (tmp_path / "folder").mkdir()
    with pytest.raises(CandlecastError, match="query rejected"):
        run_query(settings, sql.format(folder=tmp_path / "folder"), "table")
    assert list((tmp_path / "folder").iterdir()) == []


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
