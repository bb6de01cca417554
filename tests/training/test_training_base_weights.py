"""Base weights from the hub or a folder: their identity, and the dates that bound their training data."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path

import pytest

from assets.forecasting.models.weights import find_weights
from assets.market.history import read_histories
from assets.training.build_checkpoint import build_checkpoint
from assets.training.checkpoint_request import checkpoint_request
from assets.training.data.current_windows import TrainingWindows
from assets.training.data.dataset import write_arrays
from assets.training.data.windows import build_windows
from assets.training.fit.base_weights import WEIGHTS, base_of
from resources.checkpoints import Checkpoint, CheckpointStore, is_bounded
from resources.errors import CandlecastError
from resources.hub_download import fetch_model
from resources.layout import Home
from resources.settings import Chronos2Settings, PredictorSettings, Settings
from tests.resources.local_hub import LocalHub
from tests.training.test_training_assets import in_process
from tests.training.training_setup import filled_home, small_settings

NAME, KRONOS = "somebody/some-chronos", "NeoQuasar/Kronos-small"


def files(note: str, **card: str) -> dict[str, bytes]:
    """A repository whose weights differ by a note, with a card if one is given."""
    found = {"config.json": json.dumps({"note": note}).encode(), "model.safetensors": note.encode() * 100}
    return {**found, "card.json": json.dumps(card).encode()} if card else found


def test_a_hub_base_is_its_commit_and_is_bounded_by_its_date(hub: LocalHub, tmp_path: Path) -> None:
    settings, section = Settings(home=tmp_path / "home"), Chronos2Settings(base=NAME, mode="zero-shot")
    first = hub.commit(NAME, "2025-10-20", files("first"))
    with pytest.raises(CandlecastError, match=f"{NAME} was not fetched"):
        base_of("chronos2_model", section, settings)
    fetch_model(Home(settings.home), NAME, None)
    hub.commit(NAME, "2026-03-01", files("second"))
    base = base_of("chronos2_model", section, settings)
    assert (base.digest, base.cutoff, base.bounded) == (f"hub:{NAME}@{first}", date(2025, 10, 20), True)
    fetch_model(Home(settings.home), NAME, None, update=True)
    moved = base_of("chronos2_model", section, settings)
    assert moved.digest != base.digest and moved.cutoff == date(2026, 3, 1)
    stated = base_of("chronos2_model", section.model_copy(update={"cutoff": date(2025, 6, 30)}), settings)
    assert (stated.cutoff, stated.bounded) == (date(2025, 6, 30), False)


def test_a_cutoff_that_the_weights_state_is_not_replaced(hub: LocalHub, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    hub.commit(KRONOS, "2025-08-01", files("published"))
    hub.commit(NAME, "2026-03-01", files("with a card", cutoff="2024-12-31"))
    for name, cutoff in ((KRONOS, date(2024, 6, 30)), (NAME, date(2024, 12, 31))):
        fetch_model(Home(settings.home), name, None)
        section = PredictorSettings(base=name, published=date(2026, 5, 1))
        base = base_of("kronos_predictor", section, settings)
        assert (base.cutoff, base.bounded) == (cutoff, False)
        used_as_they_are = find_weights(settings, name, None)
        assert (used_as_they_are.cutoff, f"hub:{used_as_they_are.identity}") == (cutoff, base.digest)
        with pytest.raises(CandlecastError, match=rf"predictor\.cutoff = 2023-01-01.*{cutoff}"):
            base_of("kronos_predictor", section.model_copy(update={"cutoff": date(2023, 1, 1)}), settings)


def test_a_date_and_a_licence_that_are_stated_later_reach_the_card_of_existing_weights(tmp_path: Path) -> None:
    home, warehouse = filled_home(tmp_path / "home")
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(WEIGHTS / "chronos2_model" / name, folder)
    settings = small_settings(home, chronos2=Chronos2Settings(base=str(folder), mode="zero-shot"))
    found = build_windows(read_histories(warehouse, "1d"), settings.windows)
    windows, store = TrainingWindows(found.digest, home.windows / found.digest), CheckpointStore(home)
    windows.folder.mkdir(parents=True)
    write_arrays(windows.folder, found.arrays, dict(found.manifest))

    def built(**stated: date | str) -> Checkpoint:
        section = settings.chronos2.model_copy(update=stated)
        dated = settings.model_copy(update={"chronos2": section})
        request = checkpoint_request("chronos2_model", dated, windows)
        return build_checkpoint(request, dated, home, store, windows, run=in_process)

    unknown = built()
    assert unknown.cutoff is None and not is_bounded(unknown.card)
    bounded = built(published=date(2025, 10, 20))
    assert bounded.digest == unknown.digest and bounded.cutoff == date(2025, 10, 20) and is_bounded(bounded.card)
    assert "2025-10-20" in (bounded.folder / "README.md").read_text()
    exact = built(published=date(2025, 10, 20), cutoff=date(2025, 1, 31))
    assert exact.digest == unknown.digest and exact.cutoff == date(2025, 1, 31) and not is_bounded(exact.card)
    licensed = built(published=date(2025, 10, 20), cutoff=date(2025, 1, 31), licence="CC-BY-4.0")
    assert licensed.digest == unknown.digest
    assert licensed.card["licence"] == licensed.card["base"]["licence"] == "CC-BY-4.0"
    assert "CC-BY-4.0" in (licensed.folder / "README.md").read_text()
