"""Homes to forecast in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.forecasts.forecast_home import (
    ForecastHome,
    create_home,
    publish_packaged_volatility,
    publish_tiny_chronos2,
    publish_tiny_kronos,
)


@pytest.fixture
def home(tmp_path: Path) -> ForecastHome:
    """Real bars and no checkpoint."""
    return create_home(tmp_path)


@pytest.fixture(scope="session")
def model_home(tmp_path_factory: pytest.TempPathFactory) -> ForecastHome:
    """Real bars and tiny models, for tests that only read, or that forecast origins of their own."""
    created = create_home(tmp_path_factory.mktemp("models"))
    publish_tiny_kronos(created.checkpoints)
    publish_tiny_chronos2(created.checkpoints)
    publish_packaged_volatility(created.checkpoints)
    return created
