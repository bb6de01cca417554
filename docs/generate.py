"""MkDocs hook: reference pages generated from the code, so that they cannot differ from it.

`settings` comes from the pydantic models, `command-line` from typer, `tables` from resources/schema.sql, `bar-rules`
from the rules of the ingest, `trials` from benchmarks/trials.csv. The hook is named in mkdocs.yml; `reference_pages` is
plain Python and needs no MkDocs.
https://www.mkdocs.org/user-guide/configuration/#hooks
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

# MkDocs runs hooks without the repository on the import path.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from assets.market.ingest.rules import FLAGS, REASONS
from orchestration.cli.app import app
from resources.settings_reference import SettingRow, settings_reference
from resources.sql import load_sql

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

TRIALS = Path(__file__).resolve().parents[1] / "benchmarks" / "trials.csv"
TRIAL_COLUMNS = ("date", "model", "trial", "chosen on", "result", "kept")
_OBJECT = re.compile(r"CREATE (?P<kind>TABLE|VIEW|MACRO) IF NOT EXISTS (?P<name>\w+)")
_COLUMN = re.compile(r"^ {4}(?P<name>[a-z]\w*) .*?(?:-- *(?P<comment>.*))?$")
_COMMENT = re.compile(r"^\s*-- ?(?P<text>.*)$")


@dataclass
class SchemaObject:
    """A table, view or macro of the warehouse, with its comments in schema.sql."""

    name: str
    kind: str
    description: str
    columns: dict[str, str] = field(default_factory=dict)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    from mkdocs.structure.files import File

    for path, content in reference_pages().items():
        files.append(File.generated(config, path, content=content))
    return files


def reference_pages() -> dict[str, str]:
    """Markdown of the generated pages by path below docs/."""
    return {
        "reference/settings.md": settings_page(settings_reference()),
        "reference/command-line.md": command_line_page(),
        "reference/bar-rules.md": bar_rules_page(),
        "reference/tables.md": tables_page(load_sql("resources", "schema.sql")),
        "reference/trials.md": trials_page(TRIALS.read_text(encoding="utf-8")),
    }


def settings_page(rows: Iterable[SettingRow]) -> str:
    """One section per TOML table, one row per key."""
    parts = [
        "# Settings",
        "All keys of a profile in `candlecast.toml`, with type, default, range and meaning. A profile inherits every "
        "key that it does not set from `sample`. The environment variable `CANDLECAST__SECTION__KEY` overrides a "
        "single key; lists and tables are written as JSON. A wrong value is an error when the settings are loaded.",
    ]
    for section, keys in groupby(rows, key=lambda row: row.section):
        parts.append(f"## `[profiles.NAME.{section}]`" if section else "## `[profiles.NAME]`")
        cells = [(f"`{row.key}`", row.type, f"`{row.default}`", row.range or "any", row.description) for row in keys]
        parts.append(_table(("Key", "Type", "Default", "Range", "Meaning"), cells))
    return "\n\n".join(parts) + "\n"


def command_line_page() -> str:
    """One section per command of `candlecast`, with usage, arguments and options."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    parts = [
        "# Command line",
        str(group.help),
        "Exit status: 0 success, 1 failure of the work, 2 wrong use (settings included), 130 interrupted.",
    ]
    common = _common_options(group)
    parts += ["## Common options", "Most commands take these options.", _option_table(list(common.values()))]
    for name, command in group.commands.items():
        assert isinstance(command, TyperCommand)
        parts.append(f"## `candlecast {name}`")
        parts += _command_section(name, command, set(common))
    return "\n\n".join(parts) + "\n"


def bar_rules_page() -> str:
    """The rules that reject a row, and the flags that mark a bar."""
    parts = [
        "# Rules of the bar contract",
        "How these rules are applied: [The contract of bars](../explanation/bars.md).",
        "## Rejections",
        "A row that breaks a rule goes to `rejected_bars`, with the name of the rule.",
        _table(("Rule", "Reason and remedy"), [(f"`{name}`", reason) for name, reason in REASONS.items()]),
        "## Flags",
        "A flagged bar is kept. The flags are in the column `flags` of `bars`.",
        _table(("Flag", "Meaning"), [(f"`{name}`", meaning) for name, meaning in FLAGS.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def tables_page(schema: str) -> str:
    """One section per table, view and macro of the warehouse."""
    parts = [
        "# Tables",
        "The tables of the DuckDB warehouse (`warehouse.duckdb` in the home). Read them with "
        '`candlecast query "SELECT …"`, or with any DuckDB client in read-only mode. Timestamps are UTC.',
    ]
    types = _column_types(schema)
    for one in schema_objects(schema):
        parts.append(f"## `{one.name}`" if one.kind == "TABLE" else f"## `{one.name}` ({one.kind.lower()})")
        if one.description:
            parts.append(one.description)
        if one.name in types:
            cells = [
                (f"`{column}`", f"`{kind}`", "yes" if nullable else "", one.columns.get(column, ""))
                for column, kind, nullable in types[one.name]
            ]
            parts.append(_table(("Column", "Type", "Nullable", "Meaning"), cells))
    return "\n\n".join(parts) + "\n"


def trials_page(ledger: str) -> str:
    """All trials, in the order of the ledger.

    Raises:
        ValueError: a line does not have the columns, or an empty one.
    """
    rows = list(csv.DictReader(ledger.splitlines()))
    for line, row in enumerate(rows, 2):
        if tuple(row) != TRIAL_COLUMNS or not all(row.values()):
            raise ValueError(
                f"benchmarks/trials.csv, line {line}: needs {', '.join(TRIAL_COLUMNS)}, none of them empty"
            )
    titles = tuple(title.capitalize() for title in TRIAL_COLUMNS)
    kept = Counter(row["kept"] for row in rows)
    parts = [
        "# Ledger of trials",
        f"What was tried in choosing the models that ship: {len(rows)} trials, {kept['yes']} kept. The more trials, "
        "the better the best of them looks by chance, so those that failed are listed, too. Skill is CRPS skill "
        "against `random_walk_ewma`. Nothing was chosen on bars after 2010; what was measured on later ones is marked. "
        "New trials are lines of `benchmarks/trials.csv`.",
        _table(titles, [tuple(row.values()) for row in rows]),
    ]
    return "\n\n".join(parts) + "\n"


def schema_objects(schema: str) -> list[SchemaObject]:
    """Tables, views and macros in the order of the schema, with the comments above them and beside their columns."""
    found: list[SchemaObject] = []
    above: list[str] = []
    column: str | None = None
    inside = False
    for line in schema.splitlines():
        comment, start = _COMMENT.match(line), _OBJECT.search(line)
        if start:
            found.append(SchemaObject(start["name"], start["kind"], " ".join(above)))
            above, column, inside = [], None, not line.rstrip().endswith(";")
        elif comment and inside and column:
            found[-1].columns[column] = f"{found[-1].columns[column]} {comment['text'].strip()}".strip()
        elif comment and not inside:
            above.append(comment["text"].strip())
        elif not line.strip():
            above = []
        elif inside and found[-1].kind == "TABLE" and (match := _COLUMN.match(line)):
            column = match["name"]
            found[-1].columns[column] = (match["comment"] or "").strip()
        if inside and line.rstrip().endswith(";"):
            inside = False
    return found


def _column_types(schema: str) -> dict[str, list[tuple[str, str, bool]]]:
    """Column name, type and whether it may be null, by table and view, as DuckDB reads the schema."""
    query = (
        "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() WHERE NOT internal "
        "ORDER BY table_name, column_index"
    )
    with duckdb.connect() as connection:
        connection.execute(schema)
        rows = connection.execute(query).fetchall()
    return {
        table: [(column, kind, bool(nullable)) for _, column, kind, nullable in columns]
        for table, columns in groupby(rows, key=lambda row: str(row[0]))
    }


def _common_options(group: TyperGroup) -> dict[tuple[str, ...], TyperOption]:
    """Options, by their flags, that more than half of the commands have."""
    options = {
        tuple(one.opts): one
        for command in group.commands.values()
        for one in command.params
        if isinstance(one, TyperOption)
    }
    counts = Counter(tuple(one.opts) for command in group.commands.values() for one in command.params)
    return {flags: one for flags, one in options.items() if counts[flags] > len(group.commands) / 2}


def _command_section(name: str, command: TyperCommand, common: set[tuple[str, ...]]) -> Iterator[str]:
    yield str(command.help or "")
    context = typer.Context(command, info_name=f"candlecast {name}")
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```\ncandlecast {name} {usage}\n```"
    arguments = [one for one in command.params if isinstance(one, TyperArgument)]
    options = [one for one in command.params if isinstance(one, TyperOption) and tuple(one.opts) not in common]
    if arguments:
        rows = [(f"`{str(one.name).upper()}`", one.help or "") for one in arguments]
        yield _table(("Argument", "Meaning"), rows)
    if options:
        yield _option_table(options)


def _option_table(options: Iterable[TyperOption]) -> str:
    return _table(("Option", "Default", "Meaning"), [_option_row(one) for one in options])


def _option_row(option: TyperOption) -> tuple[str, str, str]:
    flags = ", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))
    if option.required:
        return flags, "required", option.help or ""
    shown = "" if option.default is None or option.is_flag else f"`{option.default}`"
    return flags, shown, option.help or ""


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [titles, tuple("---" for _ in titles), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return (
        text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
        if "`" not in text
        else text.replace("|", "\\|")
    )
