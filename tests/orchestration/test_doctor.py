"""The doctor's checks, and the error of every command whose home is not writable."""

import os
import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration.cli.app import app
from orchestration.cli.doctor import diagnose
from resources.settings import MarketSettings, Settings
from tests.orchestration.cli_project import CliProject


@pytest.mark.parametrize("arguments", [("run",), ("lineage", "bars"), ("rollback", "chronos2_model"), ("ui",)])
@pytest.mark.parametrize("home", ["file", pytest.param("/proc/nohome", marks=pytest.mark.slow)])
def test_a_home_that_is_not_writable_is_named(tmp_path: Path, arguments: tuple[str, ...], home: str) -> None:
    project = CliProject(tmp_path)
    (tmp_path / "file").write_text("not a folder")
    done = project.call(*arguments, "--home", str(tmp_path / home))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert home in done.stderr


@pytest.mark.parametrize(("home", "fact"), [("file", "is not a folder"), ("/proc/nohome", "/proc is not writable")])
def test_the_doctor_checks_that_the_home_is_writable(tmp_path: Path, home: str, fact: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    (found,) = [one for one in diagnose(Settings(home=tmp_path / home)) if one.check == "home"]
    assert not found.ok and fact in found.found and "CANDLECAST_HOME" in found.remedy


@pytest.mark.parametrize(
    ("calendar", "start", "ok", "fact"),
    [
        ("XTAE", date(2000, 3, 1), True, "XTAE"),
        ("XSHG", date(2000, 3, 1), True, "XSHG"),
        ("XSAU", date(2000, 3, 1), False, "2021-01-03"),
        ("XSAU", date(2021, 1, 3), True, "XSAU"),
    ],
)
def test_the_doctor_checks_the_first_session_of_the_calendar(
    tmp_path: Path, calendar: str, start: date, ok: bool, fact: str
) -> None:
    settings = Settings(home=tmp_path, market=MarketSettings(calendar=calendar, start=start))
    (found,) = [one for one in diagnose(settings) if one.check == "calendar"]
    assert found.ok == ok and fact in found.found


def test_a_byte_that_changed_in_dagsters_records_is_found_by_the_command(tmp_path: Path) -> None:
    file = tmp_path / "home" / "dagster" / "history" / "runs" / "index.db"
    file.parent.mkdir(parents=True)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE t (a TEXT, b INTEGER)")
        connection.execute("CREATE INDEX i ON t (b)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [("x" * 50, number) for number in range(2_000)])
    arguments = ["doctor", "--json", "--home", str(tmp_path / "home")]
    before = CliRunner().invoke(app, arguments)
    content, stat = bytearray(file.read_bytes()), file.stat()
    content[-4096] ^= 255  # the kind of a page that no other check reads
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = CliRunner().invoke(app, arguments)
    assert "index.db" not in before.output and "index.db is damaged" in after.output
    assert after.exit_code == 1
