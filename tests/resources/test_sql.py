"""SQL files are found in the package that names them."""

from pathlib import Path

import pytest

from resources.sql import load_sql


def test_a_sql_file_is_read_from_its_package() -> None:
    text = load_sql("resources", "schema.sql")
    assert text == (Path(__file__).parents[2] / "resources" / "schema.sql").read_text(encoding="utf-8")


def test_a_missing_sql_file_is_an_error_that_names_it() -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.sql"):
        load_sql("resources", "missing.sql")
