"""What README, CONTRIBUTING and the documentation tell a reader to type or open exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from orchestration.cli.app import app
from resources.profiles import load_settings

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Pages that docs/generate.py makes.
GENERATED = {"settings.md", "command-line.md", "tables.md", "bar-rules.md", "trials.md"}
PATH_IN_REPOSITORY = re.compile(r"`((?:orchestration|assets|resources|kronos|benchmarks|docs|tests|examples)/[\w/.]+)`")
# Placeholders in instructions: a command or a file that the reader is to name.
PLACEHOLDER = re.compile(r"NAME|STAGE|COMMAND|…")


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands() -> list[str]:
    found: set[str] = set()
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        found |= {line.partition(" #")[0].strip() for block in blocks(text, "sh") for line in block.splitlines()}
        found |= set(re.findall(r"`(candlecast [^`]+)`", text))
    return sorted(line for line in found if line.startswith("candlecast ") and not PLACEHOLDER.search(line))


def toml_files() -> list[Path]:
    return [file for file in FILES if blocks(file.read_text(encoding="utf-8"), "toml")]


@pytest.mark.parametrize("file", toml_files(), ids=name_of)
def test_settings_in_a_document_can_be_loaded(file: Path, tmp_path: Path) -> None:
    text = "\n".join(blocks(file.read_text(encoding="utf-8"), "toml"))
    # A page may show further keys of a table in a second block.
    tables: dict[str, str] = {}
    for header, body in re.findall(r"^(\[profiles\.[\w.]+\])[^\n]*\n(.*?)(?=^\[|\Z)", text, re.DOTALL | re.MULTILINE):
        tables[header] = tables.get(header, "") + body
    settings = tmp_path / "candlecast.toml"
    settings.write_text("\n".join(f"{header}\n{body}" for header, body in tables.items()), encoding="utf-8")
    profiles = {header.strip("[]").split(".")[1] for header in tables}
    assert profiles
    for profile in profiles:
        assert load_settings(settings, profile).profile == profile


@pytest.mark.parametrize("line", commands())
def test_commands_in_documents_can_be_parsed(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    group: Any = typer.main.get_command(app)
    command = group.commands[name]
    # A command without arguments is mentioned, not typed.
    if arguments:
        with command.make_context(name, arguments) as context:
            assert context.params


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_make_targets_in_documents_exist(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    typed = "\n".join([*blocks(text, "sh"), *re.findall(r"`(make [^`]+)`", text)])
    offered = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([\w-]+)", typed)) <= offered


def test_the_readme_shows_how_to_run_test_and_install() -> None:
    assert {"run", "ui", "test", "test-slow", "docs"} <= set(re.findall(r"\bmake ([\w-]+)", README))
    assert "pip install" in README and "```mermaid" in README


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_links_and_paths_in_documents_exist(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", text):
        target = file.parent / link.partition("#")[0]
        external = link.startswith(("https://", "#"))
        assert external or target.exists() or target.name in GENERATED, link
    for path in PATH_IN_REPOSITORY.findall(text):
        assert PLACEHOLDER.search(path) or (ROOT / path).exists(), path


@pytest.mark.parametrize(
    "work", ["arXiv 2508.02739", "arXiv 2510.15821", "Dagster", "Qlib", "DuckDB", "Kronos", "Chronos-2"]
)
def test_the_readme_links_to_what_it_builds_on(work: str) -> None:
    assert re.search(rf"\[{re.escape(work)}\]\(https://[^)]+\)", README), work
