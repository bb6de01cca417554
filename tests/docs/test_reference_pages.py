"""The generated reference pages are complete, and the site builds."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import duckdb
import pytest
import typer
from typer.core import TyperGroup

from assets.market.ingest.rules import FLAGS, REASONS
from orchestration.cli.app import app
from resources.settings_reference import settings_reference
from resources.sql import load_sql

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(generate: ModuleType) -> dict[str, str]:
    return {Path(name).stem: text for name, text in generate.reference_pages().items()}


def test_every_setting_is_listed_with_type_default_and_meaning(pages: dict[str, str]) -> None:
    rows = settings_reference()
    assert len(rows) > 100
    lines = pages["settings"].splitlines()
    for row in rows:
        assert row.description
        listed = [line for line in lines if line.startswith(f"| `{row.key}` | {row.type} | `{row.default}` |")]
        assert listed, (row.section, row.key)
        assert all(len(re.findall(r"(?<!\\)\|", line)) == 6 for line in listed)
    assert pages["settings"].count("\n## ") == len({row.section for row in rows})


def test_every_command_and_option_is_listed(pages: dict[str, str]) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup) and len(group.commands) > 5
    for name, command in group.commands.items():
        assert f"## `candlecast {name}`" in pages["command-line"]
        for parameter in command.params:
            shown = parameter.opts[0] if parameter.opts[0].startswith("-") else str(parameter.name).upper()
            assert f"`{shown}`" in pages["command-line"], (name, shown)


def test_every_table_and_column_is_listed(pages: dict[str, str]) -> None:
    with duckdb.connect() as connection:
        connection.execute(load_sql("resources", "schema.sql"))
        columns = connection.execute(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal"
        ).fetchall()
    assert {"bars", "scoreboard", "adjusted_bars"} <= {table for table, _ in columns}
    sections = dict(re.findall(r"^## `(\w+)`[^\n]*\n(.*?)(?=^## |\Z)", pages["tables"], re.DOTALL | re.MULTILINE))
    for table, column in columns:
        assert f"| `{column}` |" in sections[table], (table, column)


def test_comments_of_the_schema_are_the_meanings_of_its_columns(generate: ModuleType) -> None:
    schema = """
-- All trades.
-- One row per trade.
CREATE TABLE IF NOT EXISTS trades (
    id    BIGINT NOT NULL,
    price DOUBLE NOT NULL,  -- as quoted,
                            -- in currency
    side  VARCHAR           -- null: unknown
);
"""
    (table,) = generate.schema_objects(schema)
    assert (table.name, table.kind, table.description) == ("trades", "TABLE", "All trades. One row per trade.")
    assert table.columns == {"id": "", "price": "as quoted, in currency", "side": "null: unknown"}


def test_every_rule_and_flag_is_listed(pages: dict[str, str]) -> None:
    assert all(f"| `{name}` |" in pages["bar-rules"] for name in [*REASONS, *FLAGS])


def test_every_trial_of_the_ledger_is_listed(generate: ModuleType, pages: dict[str, str]) -> None:
    ledger = (ROOT / "benchmarks" / "trials.csv").read_text(encoding="utf-8").strip()
    rows = [line for line in pages["trials"].splitlines() if re.match(r"\| \d{4}-\d\d-\d\d \|", line)]
    assert len(rows) == ledger.count("\n") > 5
    for wrong in ("2026-11-27,volatility,half a line", "2026-11-27,volatility,a,b,c,yes,too many"):
        with pytest.raises(ValueError, match=f"line {len(rows) + 2}:"):
            generate.trials_page(f"{ledger}\n{wrong}\n")


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_the_network(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.findall(
            r"<(?:script|img|iframe)[^>]*src=[\"']?https?://|<link[^>]*stylesheet[^>]*https?://", text
        )
