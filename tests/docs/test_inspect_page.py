"""The outputs on the page about `candlecast inspect` are those of the command."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration.cli.app import app

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "inspect-files.md"
_FILE = re.compile(r'```csv title="(?P<name>[^"]+)"\n(?P<text>.*?)```', re.DOTALL)
_OUTPUT = re.compile(r"```console\n\$ (?P<command>candlecast [^\n]+)\n(?P<output>.*?)```", re.DOTALL)


def test_the_outputs_on_the_page_are_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`CANDLECAST_SNAPSHOT=1 pytest tests/docs/test_inspect_page.py` writes them."""
    page = PAGE.read_text(encoding="utf-8")
    for file in _FILE.finditer(page):
        (tmp_path / file["name"]).write_text(file["text"], encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def current(shown: re.Match[str]) -> str:
        done = CliRunner().invoke(app, shlex.split(shown["command"])[1:], catch_exceptions=False)
        return f"```console\n$ {shown['command']}\n{done.output}```"

    found = _OUTPUT.sub(current, page)
    if os.environ.get("CANDLECAST_SNAPSHOT"):
        PAGE.write_text(found, encoding="utf-8")
    assert len(_OUTPUT.findall(page)) == 5
    assert found == page or os.environ.get("CANDLECAST_SNAPSHOT")
