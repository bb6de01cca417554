"""`candlecast query` shows every value as it is, and writes nothing anywhere."""

import json
from pathlib import Path

import pytest

from orchestration.cli.query import answer
from resources.errors import CandlecastError
from resources.settings import Settings
from resources.warehouse import Warehouse


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path / "home")
    with Warehouse.of(settings).write() as connection:
        connection.execute("INSERT INTO payloads VALUES ('a', 'files', 'r', '[/foo].csv', 1, 1, 0, 0, now(), 1, '1d')")
    return settings


def test_values_and_names_in_brackets_are_shown_as_they_are(settings: Settings):
    shown = answer(settings, "SELECT file, '[bold]hidden' AS \"[red]\" FROM payloads", "table")
    assert "[/foo].csv" in shown and "[bold]hidden" in shown and "[red]" in shown


@pytest.mark.parametrize("sql", ["", "  ", ";", "-- nothing"])
def test_an_empty_query_is_refused_in_words(settings: Settings, sql: str):
    with pytest.raises(CandlecastError, match="the query is empty"):
        answer(settings, sql, "table")


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
def test_no_file_is_written(settings: Settings, tmp_path: Path, sql: str, by_uri: bool):
    if by_uri:
        settings = settings.model_copy(update={"warehouse": f"duckdb:{settings.home}/warehouse.duckdb"})
        assert answer(settings, "SELECT count(*) AS n FROM payloads", "csv") == "n\n1\n"
    (tmp_path / "folder").mkdir()
    with pytest.raises(CandlecastError, match="query refused"):
        answer(settings, sql.format(folder=tmp_path / "folder"), "table")
    assert list((tmp_path / "folder").iterdir()) == []


def test_numbers_within_values_are_json_too(settings: Settings):
    told = answer(settings, "SELECT [1.5, 'nan'::DOUBLE] AS a, {'x': 'inf'::DOUBLE} AS b", "json")
    assert json.loads(told, parse_constant=pytest.fail) == [{"a": [1.5, None], "b": {"x": None}}]


def test_columns_of_one_name_are_all_in_json(settings: Settings):
    told = answer(settings, "SELECT 1 AS a, 2 AS a, 3 AS a_1", "json")
    assert json.loads(told) == [{"a": 1, "a_2": 2, "a_1": 3}]


def test_what_does_not_fit_a_table_is_listed_whole(settings: Settings):
    long = "x" * 150
    told = answer(settings, f"SELECT '{long}' AS text, 1.5 AS number UNION ALL SELECT 'short', 2", "table")
    assert long in told and "row 2" in told
    fitting = answer(settings, "SELECT 'short' AS text, 1.5::DOUBLE AS number", "table")
    assert "short" in fitting and "row 1" not in fitting
