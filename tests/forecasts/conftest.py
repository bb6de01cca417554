"""Worlds to forecast in."""

from __future__ import annotations

from pathlib import Path

import pytest
from forecast_world import World, make_world, publish_tiny_chronos2, publish_tiny_kronos


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Real bars and no model yet."""
    return make_world(tmp_path)


@pytest.fixture(scope="session")
def model_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Real bars and tiny models, for tests that only read, or forecast origins of their own."""
    made = make_world(tmp_path_factory.mktemp("models"))
    publish_tiny_kronos(made.checkpoints)
    publish_tiny_chronos2(made.checkpoints)
    return made
