"""The doctor's checks, and the error of every command whose home is not writable."""

from datetime import date
from pathlib import Path

import pytest

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
