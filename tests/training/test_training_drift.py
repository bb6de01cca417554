"""Input that no longer looks like the training set is told, or stops Kronos, as the settings say."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import numpy as np
import pandas as pd
import pytest
import torch

from assets.forecasting.drift import DriftLimits, InputDrift, drift_limits, drift_reference, token_distance
from assets.forecasting.drift_gate import blocked_origins
from assets.forecasting.origins import select_tasks
from assets.forecasts.drift_asset import drift_asset, not_measured
from assets.market.history import BarHistory
from assets.sessions import RANGE_END, RANGE_START
from assets.training.data.dataset import WindowArrays, write_arrays
from assets.training.data.windows import build_windows
from assets.training.fit.predictor import PredictorTask, new_predictor
from assets.training.fit.tokenizer import new_tokenizer
from kronos import Normalisation
from resources.calendar import TradingCalendar
from resources.candlecast import Candlecast
from resources.checkpoints import CheckpointStore
from resources.errors import CandlecastError
from resources.layout import Home
from resources.settings import DriftSettings
from resources.warehouse import Warehouse
from tests.training.training_setup import (
    PREDICTOR,
    TOKENIZER,
    WINDOWS,
    all_histories,
    filled_home,
    insert_bars,
    sample_rows,
    small_settings,
)

DAY = "2004-03-10"


def published(folder: Path, home: Home, warehouse: Warehouse) -> CheckpointStore:
    """An untrained tokenizer and predictor whose card keeps a true reference."""
    found = build_windows(all_histories(warehouse), WINDOWS)
    write_arrays(folder, found.arrays, dict(found.manifest))
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


class Measured(NamedTuple):
    check: dg.AssetCheckEvaluation
    blocked_origins: dict[np.datetime64, str]


def none(_: object) -> None:
    return None


def measured(folder: Path, action: str, wild: str | None, days: tuple[str, str] = (DAY, DAY)) -> Measured:
    """What `input_drift` says of some sessions, on bars that stand still from `wild` until 2004-03-20."""
    rows = sample_rows()
    home, warehouse = filled_home(folder / "home", rows)
    (folder / "arrays").mkdir()
    store = published(folder / "arrays", home, warehouse)
    if wild:
        still = rows["Date"].between(wild, "2004-03-20")
        rows.loc[still, ["Open", "High", "Low", "Close", "Volume"]] = 50
        home, warehouse = Home(folder / "other"), Warehouse(folder / "other/warehouse.duckdb")
        insert_bars(warehouse, rows)
    changes = {"windows": WINDOWS.model_copy(update={"test": (date(2004, 1, 5), date(2004, 12, 31))})}
    settings = small_settings(home, drift=DriftSettings.model_validate({"action": action}), **changes)
    run = dg.materialize(
        [drift_asset(dg.DailyPartitionsDefinition("2004-01-02"))],
        tags={RANGE_START: days[0], RANGE_END: days[1]} if days[0] != days[1] else {},
        partition_key=DAY if days[0] == days[1] else None,
        raise_on_error=False,
        resources={"candlecast": Candlecast(settings, warehouse=warehouse, checkpoints=store)},
    )
    used = store.current("kronos_predictor")
    assert used is not None
    every = [np.datetime64(day, "s") for day in pd.bdate_range("2004-01-02", "2004-12-31")]
    return Measured(run.get_asset_check_evaluations()[0], blocked_origins(home, used.digest, every))


@pytest.mark.parametrize(
    ("action", "severity"), [("warn", dg.AssetCheckSeverity.WARN), ("block", dg.AssetCheckSeverity.ERROR)]
)
def test_strange_input_is_told_or_stops(action: str, severity: dg.AssetCheckSeverity, tmp_path: Path) -> None:
    found = measured(tmp_path, action, wild="2003-11-15")
    assert not found.check.passed and found.check.severity == severity
    assert len(found.blocked_origins) == (action == "block")


def test_usual_input_passes(tmp_path: Path) -> None:
    found = measured(tmp_path, "block", wild=None)
    assert found.check.passed and not found.blocked_origins


def test_of_many_origins_those_that_drifted_are_withheld_and_the_others_go_on(tmp_path: Path) -> None:
    """The newest is as usual again: a run of many origins and runs of one agree."""
    found = measured(tmp_path, "block", wild="2003-11-15", days=("2004-01-05", "2004-10-29"))
    sessions = TradingCalendar("XNYS").sessions(date(2004, 1, 5), date(2004, 10, 29))
    planned = list(sessions[::5].to_numpy().astype("datetime64[s]"))
    assert not found.check.passed and found.check.severity == dg.AssetCheckSeverity.WARN
    assert 0 < len(found.blocked_origins) < 40 and str(min(found.blocked_origins)) in str(found.check.description)
    still = [day for day in planned if np.datetime64("2004-01-05") <= day <= np.datetime64("2004-03-19")]
    assert set(still) <= set(found.blocked_origins) and planned[-1] not in found.blocked_origins
    histories = {"AAPL": BarHistory.__new__(BarHistory)}
    with pytest.raises(CandlecastError, match="drift"):
        select_tasks(histories, list(found.blocked_origins), 30, found.blocked_origins)


def test_what_cannot_be_measured_is_not_let_through() -> None:
    assert isinstance(drift_limits({"scores": {}}, 0.99), str)
    few = {"histogram": [1], "sizes": [1], "distances": [[0.1] * 5]}
    told = str(drift_limits({"scores": {"drift": few}}, 0.99))
    assert "5 validation origins" in told and "windows.validation" in told
    assert not_measured(told, passed=False).check_results[0].severity == dg.AssetCheckSeverity.ERROR
    assert not not_measured(told, passed=False).check_results[0].passed


def test_the_limit_is_calibrated_on_validation_origins_of_as_many_symbols() -> None:
    rng = np.random.default_rng(7)
    train = rng.integers(0, 8, 10_000)
    validation, origins = rng.integers(0, 8, (600, 30)), np.repeat(np.arange(50), 12)
    kept = drift_reference(train, validation, origins, 8)
    assert kept["sizes"] == [1, 2, 4, 8, 12] and all(len(one) == 50 for one in kept["distances"])
    assert sum(kept["histogram"]) == 10_000
    allowed = drift_limits({"scores": {"drift": kept}}, 0.99)
    assert isinstance(allowed, DriftLimits)
    assert allowed.of(1) > allowed.of(3) > allowed.of(12) == allowed.of(500)
    counts = np.asarray(kept["histogram"])
    for symbols in (1, 3, 12):
        drawn = [token_distance(counts, np.bincount(rng.integers(0, 8, 30 * symbols), minlength=8)) for _ in range(300)]
        assert np.mean([InputDrift(one, allowed.of(symbols)).drifted for one in drawn]) < 0.08
        other = token_distance(counts, np.bincount(rng.integers(0, 3, 30 * symbols), minlength=8))
        assert InputDrift(other, allowed.of(symbols)).drifted
