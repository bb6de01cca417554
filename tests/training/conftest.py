"""What several files of this folder train on."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets.forecasting.cross_section import market_of
from assets.training.data.dataset import write_arrays
from assets.training.data.windows import build_windows
from tests.training.training_setup import WINDOWS, all_histories, filled_home, trained


@pytest.fixture(scope="session")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit")
    _, warehouse = filled_home(folder)
    histories = all_histories(warehouse)
    found = build_windows(histories, WINDOWS, market=market_of(histories.values()))
    write_arrays(folder, found.arrays, dict(found.manifest))
    return folder


@pytest.fixture(scope="session")
def tokenizer(arrays: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained("kronos_tokenizer", arrays, tmp_path_factory.mktemp("tokenizer"))
