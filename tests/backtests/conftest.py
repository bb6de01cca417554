from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from backtest_world import score_world, settings_of, small_world

from resources.layout import Home
from resources.settings import Settings, load_settings
from resources.warehouse import Warehouse


@pytest.fixture(scope="session")
def finished_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with bars, forecasts, scores and a scoreboard, for copying."""
    file = tmp_path_factory.mktemp("world") / "warehouse.duckdb"
    score_world(small_world(file), load_settings())
    return file


@pytest.fixture
def home(tmp_path: Path, finished_world: Path) -> Home:
    shutil.copy(finished_world, tmp_path / "warehouse.duckdb")
    return Home(tmp_path)


@pytest.fixture
def warehouse(home: Home) -> Warehouse:
    return Warehouse(home.warehouse)


@pytest.fixture
def settings(home: Home) -> Settings:
    return settings_of(home)
