"""A home holds the bars of one profile: those of another are refused before they mix."""

from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from orchestration.home_owner import claim_home
from orchestration.resources import CandlecastResource
from resources.errors import CandlecastError
from resources.layout import Home
from resources.settings import MarketSettings, Settings
from tests.market.market_desk import GOOD, HEADER, make_desk_in


def _claim(folder: Path, profile: str, source: str = "sample", path: str | None = None) -> None:
    market = MarketSettings.model_validate({"source": source, "path": path, "start": date(2000, 3, 1)})
    settings = Settings(profile=profile, market=market, root=folder, home=folder / "home")
    claim_home(settings)


def _store_bars(folder: Path) -> None:
    make_desk_in(folder).ingest_text(f"{HEADER}\n{GOOD}\n")


def test_a_profile_with_other_bars_is_refused_with_the_remedy(tmp_path: Path) -> None:
    _claim(tmp_path, "mine", "files", "bars/*.csv")
    _store_bars(tmp_path)
    with pytest.raises(CandlecastError, match=r"'mine'.*--home .*other"):
        _claim(tmp_path, "other", "files", "elsewhere/*.csv")
    with pytest.raises(CandlecastError, match="'mine'"):
        _claim(tmp_path, "sample")


def test_a_run_of_the_ui_is_refused_as_well(tmp_path: Path) -> None:
    _claim(tmp_path, "mine", "files", "bars/*.csv")
    _store_bars(tmp_path)
    file = tmp_path / "candlecast.toml"
    file.write_text("[profiles.sample.market]\nsource = 'sample'\nstart = 2000-03-01\n")
    resource = CandlecastResource(settings_file=str(file), profile="sample", home=str(tmp_path / "home"))
    with pytest.raises(CandlecastError, match="'mine'"):
        resource.create_resource(dg.build_init_resource_context())


def test_profiles_with_the_same_bars_share_a_home_and_a_profile_may_move_its_files(tmp_path: Path) -> None:
    _claim(tmp_path, "mine", "files", "bars/*.csv")
    _store_bars(tmp_path)
    _claim(tmp_path, "larger", "files", "bars/*.csv")
    _claim(tmp_path, "mine", "files", "moved/*.csv")
    assert "moved" in Home(tmp_path / "home").owner.read_text()


def test_a_home_without_bars_belongs_to_whoever_uses_it_next(tmp_path: Path) -> None:
    _claim(tmp_path, "mine", "files", "bars/*.csv")
    _claim(tmp_path, "sample")


def test_a_home_of_an_earlier_version_is_recognised_by_its_bars(tmp_path: Path) -> None:
    _store_bars(tmp_path)
    with pytest.raises(CandlecastError, match="files"):
        _claim(tmp_path, "sample")
    _claim(tmp_path, "mine", "files", "bars/*.csv")
    assert Home(tmp_path / "home").owner.is_file()
