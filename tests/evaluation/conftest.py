"""Homes with forecasts whose actuals are known."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pytest

from assets.forecasting.baselines.closed_form import baseline_forecasters
from assets.forecasts.generate import generate_forecasts
from tests.forecasts.forecast_home import ForecastHome, create_home, open_home


@pytest.fixture(scope="session")
def forecast_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a home with real bars, and the baselines' forecasts of nine months."""
    folder = tmp_path_factory.mktemp("forecasts")
    home = create_home(folder)
    tasks = home.tasks(date(2012, 1, 3), date(2012, 9, 28))
    for forecaster in baseline_forecasters(home.settings):
        generate_forecasts(home.candlecast, forecaster, tasks)
    return folder


@pytest.fixture
def home(forecast_folder: Path, tmp_path: Path) -> ForecastHome:
    """A copy of that home to score in."""
    return open_home(Path(shutil.copytree(forecast_folder, tmp_path / "home")))
