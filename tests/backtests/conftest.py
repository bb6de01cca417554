from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from resources.layout import Home
from resources.profiles import load_settings
from resources.settings import Settings
from resources.warehouse import Warehouse
from tests.backtests.backtest_data import score_forecasts, settings_of, small_warehouse


@pytest.fixture(scope="session")
def scored_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with bars, forecasts, scores and a scoreboard, to be copied."""
    file = tmp_path_factory.mktemp("world") / "warehouse.duckdb"
    score_forecasts(small_warehouse(file), load_settings())
    return file


@pytest.fixture
def home(tmp_path: Path, scored_warehouse: Path) -> Home:
    shutil.copy(scored_warehouse, tmp_path / "warehouse.duckdb")
    return Home(tmp_path)


@pytest.fixture
def warehouse(home: Home) -> Warehouse:
    return Warehouse(home.warehouse)


@pytest.fixture
def settings(home: Home) -> Settings:
    return settings_of(home)
