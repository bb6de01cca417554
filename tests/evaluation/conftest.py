"""Worlds in which forecasts have been made and came true."""

from __future__ import annotations

import shutil
import sys
from datetime import date
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "forecasts"))

from forecast_world import World, make_world, open_world

from assets.forecasting.baselines import baseline_forecasters
from assets.forecasts.generate import make_forecasts


@pytest.fixture(scope="session")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real bars, and the baselines' forecasts of nine months."""
    home = tmp_path_factory.mktemp("made")
    world = make_world(home)
    tasks = world.tasks(date(2012, 1, 3), date(2012, 9, 28))
    for forecaster in baseline_forecasters(world.settings):
        make_forecasts(world.room, forecaster, tasks)
    return home


@pytest.fixture
def forecast_world(made_home: Path, tmp_path: Path) -> World:
    """A copy of it to score in."""
    return open_world(Path(shutil.copytree(made_home, tmp_path / "home")))
