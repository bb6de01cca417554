"""Fixtures of the market tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.market.market_desk import Desk, make_desk_in


@pytest.fixture
def make_desk(tmp_path: Path) -> Callable[..., Desk]:
    """Makes desks with their own folder and home."""
    return lambda name="desk", **reading: make_desk_in(tmp_path / name, **reading)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk of daily bars of New York."""
    return make_desk_in(tmp_path)
