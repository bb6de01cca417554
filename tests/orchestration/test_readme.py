"""The commands, settings, targets and files that the README names exist."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from orchestration.cli.app import app
from resources.profiles import load_settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    lines += re.findall(r"`(candlecast [^`]+)`", TEXT)
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def test_its_settings_are_settings(tmp_path: Path) -> None:
    file = tmp_path / "candlecast.toml"
    file.write_text("\n".join(blocks("toml")))
    settings = load_settings(file, "mine")
    assert settings.market.source == "files" and settings.compute.processes == 2


@pytest.mark.parametrize(
    "arguments", [arguments for arguments in commands() if arguments[0] == "candlecast"], ids=" ".join
)
def test_its_commands_are_commands(arguments: list[str]) -> None:
    group: Any = typer.main.get_command(app)
    command = group.commands[arguments[1]]
    with command.make_context(arguments[1], arguments[2:]) as context:
        assert context.params


def test_its_targets_are_targets() -> None:
    wanted = set(re.findall(r"\bmake ([\w-]+)", "\n".join([*blocks("sh"), *re.findall(r"`(make [^`]+)`", TEXT)])))
    offered = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"run", "ui", "test", "test-slow"} <= wanted <= offered


def test_its_pictures_and_files_are_there() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (ROOT / link).is_file(), link
    for name in re.findall(r"`((?:orchestration|assets|resources|kronos|benchmarks|docs)/[\w/.]+)`", TEXT):
        assert (ROOT / name).exists(), name
