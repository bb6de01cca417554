"""A place that cannot be written is told in words, by every command that would write there."""

from datetime import date
from pathlib import Path

import pytest
from chain_world import World

from orchestration.cli.doctor import examine
from resources.settings import Settings


@pytest.mark.parametrize("words", [("run",), ("lineage", "bars"), ("rollback", "chronos2_model"), ("ui",)])
@pytest.mark.parametrize("home", ["file", pytest.param("/proc/nohome", marks=pytest.mark.slow)])
def test_a_home_that_cannot_be_written_is_an_error_in_words(tmp_path: Path, words, home):
    world = World(tmp_path)
    (tmp_path / "file").write_text("not a folder")
    done = world.call(*words, "--home", str(tmp_path / home))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert home in done.stderr


@pytest.mark.parametrize(
    ("home", "told"), [("file", "is not a folder"), ("/proc/nohome", "nothing can be written in /proc")]
)
def test_the_doctor_tries_to_write_in_the_home(tmp_path: Path, home, told):
    (tmp_path / "file").write_text("not a folder")
    (found,) = [one for one in examine(Settings(home=tmp_path / home)) if one.check == "home"]
    assert not found.ok and told in found.found and "CANDLECAST_HOME" in found.remedy


@pytest.mark.parametrize(
    ("calendar", "start", "ok", "told"),
    [
        ("XTAE", date(2000, 3, 1), True, "XTAE, newest session"),
        ("XSHG", date(2000, 3, 1), True, "XSHG, newest session"),
        ("XSAU", date(2000, 3, 1), False, "it begins on 2021-01-03"),
        ("XSAU", date(2021, 1, 3), True, "XSAU, newest session"),
    ],
)
def test_the_doctor_makes_the_partitions(tmp_path: Path, calendar, start, ok, told):
    settings = Settings(home=tmp_path, market={"calendar": calendar, "start": start})
    (found,) = [one for one in examine(settings) if one.check == "calendar"]
    assert found.ok == ok and told in found.found
