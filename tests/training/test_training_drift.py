"""Input that no longer looks like the training set is told, or stops Kronos, as the settings say."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import numpy as np
import pytest
import torch
from training_world import PREDICTOR, TOKENIZER, WINDOWS, histories, sample_frame, small_settings, world

from assets.training.arrays import WindowArrays, write
from assets.training.drift import Drift, distance, reference, threshold
from assets.training.drift_asset import drift_asset
from assets.training.predictor import PredictorTask, new_predictor
from assets.training.tokenizer import new_tokenizer
from assets.training.windows import build_windows
from kronos import Normalisation
from resources.calendar import TradingCalendar
from resources.checkpoints import CheckpointStore
from resources.layout import Home
from resources.settings import DriftSettings
from resources.warehouse import Warehouse

DAY = "2004-03-10"


def published(folder: Path, home: Home, warehouse: Warehouse) -> CheckpointStore:
    """An untrained tokenizer and predictor whose card keeps a true reference."""
    found = build_windows(histories(warehouse), WINDOWS)
    write(folder, found.arrays, dict(found.manifest))
    torch.manual_seed(7)
    tokenizer, rule, store = new_tokenizer(TOKENIZER).eval(), Normalisation(), CheckpointStore(home)
    wide = PREDICTOR.model_copy(update={"validation_windows": 400})
    arrays = WindowArrays(folder)
    task = PredictorTask(
        arrays, tokenizer, rule, wide, np.arange(0, 1000, 5), folder / "tokens", torch.device("cpu"), 7
    )
    first = store.publish(
        "kronos_tokenizer", {"r": 1}, lambda f: none(tokenizer.save_pretrained(f, normalisation=rule)), {}
    )
    card = {"tokenizer": first.digest, "scores": {"drift": task.drift_reference(tokenizer.s1_bits)}}
    predictor = new_predictor(PREDICTOR, tokenizer)
    second = store.publish("kronos_predictor", {"r": 2}, lambda f: none(predictor.save_pretrained(f)), card)
    store.set_current("kronos_predictor", second.digest)
    return store


def none(_: object) -> None:
    return None


def checked(folder: Path, action: str, wild: bool) -> dg.AssetCheckEvaluation:
    rows = sample_frame()
    home, warehouse = world(folder / "home", rows)
    (folder / "arrays").mkdir()
    store = published(folder / "arrays", home, warehouse)
    if wild:
        late = rows["Date"] > "2003-11-15"
        rows.loc[late, ["Open", "High", "Low", "Close", "Volume"]] = 50  # a market that stands still
        home, warehouse = Home(folder / "other"), Warehouse(folder / "other/warehouse.duckdb")
        from training_world import fill

        fill(warehouse, rows)
    settings = small_settings(home, drift=DriftSettings.model_validate({"action": action}))
    run = dg.materialize(
        [drift_asset(dg.DailyPartitionsDefinition("2004-01-02"))],
        partition_key=DAY,
        raise_on_error=False,
        resources={
            "settings": settings,
            "home": home,
            "warehouse": warehouse,
            "checkpoints": store,
            "calendar": TradingCalendar("XNYS"),
        },
    )
    return run.get_asset_check_evaluations()[0]


@pytest.mark.parametrize(
    ("action", "severity"), [("warn", dg.AssetCheckSeverity.WARN), ("block", dg.AssetCheckSeverity.ERROR)]
)
def test_strange_input_is_told_or_stops(action: str, severity: dg.AssetCheckSeverity, tmp_path: Path) -> None:
    found = checked(tmp_path, action, wild=True)
    assert not found.passed and found.severity == severity
    assert "beyond" in str(found.description)


def test_usual_input_passes(tmp_path: Path) -> None:
    assert checked(tmp_path, "block", wild=False).passed


def test_the_limit_is_calibrated_on_validation_origins() -> None:
    rng = np.random.default_rng(7)
    train = rng.integers(0, 8, 10_000)
    validation, origins = rng.integers(0, 8, (200, 30)), np.repeat(np.arange(50), 4)
    kept = reference(train, validation, origins, 8)
    assert len(kept["distances"]) == 50 and sum(kept["histogram"]) == 10_000
    card = {"scores": {"drift": kept}}
    limit = threshold(card, 0.99)
    assert limit is not None
    counts = np.asarray(kept["histogram"])
    same = distance(counts, np.bincount(rng.integers(0, 8, 120), minlength=8))
    other = distance(counts, np.bincount(rng.integers(0, 3, 120), minlength=8))
    assert not Drift(same, limit * 1.5).drifted and Drift(other, limit).drifted
    assert threshold({"scores": {}}, 0.99) is None
    assert threshold({"scores": {"drift": {**kept, "distances": kept["distances"][:5]}}}, 0.99) is None
