"""The volatility model as an asset: fitted or packaged, scored on the validation range, independent of later bars."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from assets.forecasting.baselines.closed_form import baseline_forecasters
from assets.forecasting.forecaster import ForecastTask
from assets.forecasting.volatility.forecaster import VolatilityPredictor
from assets.forecasting.volatility.regression import VolatilityWeights
from assets.training.assets import build_assets
from assets.training.fit.base_weights import WEIGHTS
from assets.training.prerequisites import weight_problems
from assets.training.volatility import build_volatility, compare_volatility, with_validation_scores
from resources.candlecast import Candlecast
from resources.checkpoints import Checkpoint, CheckpointStore
from resources.errors import CandlecastError
from resources.layout import Home
from resources.settings import PromotionSettings, Settings, VolatilitySettings
from resources.vintages import at_vintage
from resources.warehouse import Warehouse
from tests.training.training_setup import CUTOFF, WINDOWS, all_histories, filled_home, sample_rows, small_settings

PACKAGED = WEIGHTS / "volatility_model"
SYMBOLS = ("AAPL", "IBM", "MSFT")


def _materialise(settings: Settings, warehouse: Warehouse) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [
            dg.AssetSpec("bars"),
            dg.AssetSpec("corporate_actions"),
            *build_assets(dg.DailyPartitionsDefinition("2000-03-01")),
        ],
        selection=["volatility_model"],
        resources={"candlecast": Candlecast(settings, warehouse=warehouse)},
    )


def _in_use(home: Home) -> Checkpoint:
    used = CheckpointStore(home).current("volatility_model")
    assert used is not None
    return used


def test_it_is_fitted_scored_and_found_again_whatever_bars_come_later(tmp_path: Path) -> None:
    rows = sample_rows(SYMBOLS)
    changed = rows.copy()
    changed.loc[rows["Date"] > pd.Timestamp(CUTOFF), ["Open", "High", "Low", "Close", "Volume"]] *= 3
    home, warehouse = filled_home(tmp_path / "whole", rows)
    settings = small_settings(home)
    result = _materialise(settings, warehouse)
    assert {check.check_name for check in result.get_asset_check_evaluations()} == {
        "weights_are_finite",
        "beats_the_random_walk",
        "is_not_expired",
    }
    card = _in_use(home).card
    other, changed_bars = filled_home(tmp_path / "changed", changed)
    histories, store = all_histories(changed_bars), CheckpointStore(other)
    again = build_volatility(small_settings(other), histories, store)
    assert with_validation_scores(again, small_settings(other), histories, store).card == card
    assert (card["cutoff"], card["trained_until"]) == (str(CUTOFF), str(WINDOWS.train[1]))
    assert card["base"]["digest"] == "none" and card["note"] is None
    assert len(card["scores"]["steps"]) == WINDOWS.predict_window and card["scores"]["crps"] > 0
    assert (_in_use(home).folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    (decision,) = [
        event.metadata["promotion"].value for event in result.asset_materializations_for_node("volatility_model")
    ]
    assert "promoted" in str(decision)
    assert _materialise(small_settings(home), warehouse).success
    assert len(CheckpointStore(home).all("volatility_model")) == 1


def test_another_base_is_compared_with_the_champion_on_origins_that_neither_was_trained_on(tmp_path: Path) -> None:
    home, warehouse = filled_home(tmp_path, sample_rows(SYMBOLS))
    store, histories = CheckpointStore(home), all_histories(warehouse)
    fitted = small_settings(home, volatility=VolatilitySettings(base="none"))
    packaged = small_settings(home, volatility=VolatilitySettings(base="packaged"))
    ours, theirs = (build_volatility(one, histories, store) for one in (fitted, packaged))
    assert ours.digest != theirs.digest
    compared = compare_volatility(ours, theirs, fitted, histories)
    assert compared.skill is None and compared.in_sample == compared.origins > 0, "the packaged weights saw 2003"
    own = compare_volatility(ours, ours, fitted, histories)
    assert own.skill is not None and own.skill.skill == 0 and own.in_sample == 0


def test_auto_is_packaged_only_for_daily_bars_up_to_its_cutoff(tmp_path: Path) -> None:
    home, warehouse = filled_home(tmp_path, sample_rows(SYMBOLS))
    histories, store = all_histories(warehouse), CheckpointStore(home)
    ranges = {"validation": (date(2010, 1, 4), date(2010, 12, 31)), "test": (date(2011, 1, 3), date(2012, 12, 31))}
    later = WINDOWS.model_copy(update=ranges)
    settings = small_settings(home, windows=later)
    assert build_volatility(settings, histories, store).card["cutoff"] == "2010-12-31"
    digests = {one.digest for one in store.all("volatility_model")}
    hourly = settings.model_copy(update={"market": settings.market.model_copy(update={"frequency": "1h"})})
    expiring = settings.model_copy(update={"promotion": PromotionSettings(expires_days=90)})
    for other in (hourly, expiring, small_settings(home)):
        built = build_volatility(other, histories, store)
        assert built.digest not in digests and built.card["base"]["digest"] == "none"


def test_with_too_few_bars_it_is_the_ewma_random_walk_and_says_so(tmp_path: Path) -> None:
    windows = WINDOWS.model_copy(update={"train": (date(2002, 1, 2), date(2002, 12, 31))})
    rows = sample_rows(SYMBOLS)
    home, warehouse = filled_home(tmp_path, rows[rows["Date"] >= pd.Timestamp("2002-01-01")])
    settings = small_settings(home, windows=windows)
    result = _materialise(settings, warehouse)
    assert result.success
    (check,) = [one for one in result.get_asset_check_evaluations() if one.check_name == "beats_the_random_walk"]
    assert not check.passed and check.severity == dg.AssetCheckSeverity.WARN
    assert "windows.train" in str(check.description) and "windows.train" in _in_use(home).card["note"]
    histories = all_histories(warehouse)
    history = histories["IBM"]
    task = ForecastTask("IBM", history.stamps[400], history, 400)
    targets = history.stamps[None, 401:412]
    weights = VolatilityWeights.load(_in_use(home).folder)
    own = VolatilityPredictor(weights, histories, settings.forecasts.levels).predict([task], targets)
    walk = next(one for one in baseline_forecasters(settings) if one.model == "random_walk_ewma").load()
    # The shape of the law is interpolated between levels of 0.1 %.
    np.testing.assert_allclose(own.quantiles, walk([task], targets).quantiles, rtol=1e-4)


def test_each_vintage_is_fitted_to_bars_before_it(tmp_path: Path) -> None:
    home, warehouse = filled_home(tmp_path)
    settings = small_settings(home, windows=WINDOWS.model_copy(update={"vintage": "year"}))
    histories = all_histories(warehouse)
    built = {}
    for year in (2004, 2005):
        vintage = date(year, 1, 1)
        own, store = at_vintage(settings, vintage), CheckpointStore(home).at(vintage)
        built[year] = build_volatility(own, histories, store)
        assert built[year].cutoff == date(year - 1, 12, 31)
        until = {name: history.until(date(year - 1, 12, 31)) for name, history in histories.items()}
        assert (
            build_volatility(own, until, CheckpointStore(Home(tmp_path / "b")).at(vintage)).digest == built[year].digest
        )
        fixed = own.model_copy(update={"volatility": VolatilitySettings(base="packaged")})
        with pytest.raises(CandlecastError, match=r"volatility\.base"):
            build_volatility(fixed, histories, store)
    assert built[2004].digest != built[2005].digest


def test_weights_are_read_as_they_were_written_and_those_of_other_inputs_are_refused(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    # A transposed array, as a quantile over samples is.
    weights = VolatilityWeights(draw.normal(size=(4, 7)), np.sort(draw.normal(size=(50, 4)), axis=0).T)
    weights.save(tmp_path)
    read = VolatilityWeights.load(tmp_path)
    assert (read.weights == weights.weights).all() and (read.shape == weights.shape).all()
    folder = tmp_path / "other"
    shutil.copytree(PACKAGED, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "inputs_version": 999}))
    settings = small_settings(Home(tmp_path), volatility=VolatilitySettings(base=str(folder)))
    (problem,) = [one for one in weight_problems(settings) if one.startswith("volatility")]
    assert "999" in problem and "volatility.base" in problem


def test_the_packaged_card_names_cutoff_and_digest_of_the_weights() -> None:
    card = json.loads((PACKAGED / "card.json").read_text())
    assert (card["kind"], card["cutoff"], card["trained_until"]) == ("volatility_model", "2010-12-31", "2009-12-31")
    assert card["digest"][:12] and card["scores"]["steps"][0]["skill"] > 0.005
    assert "2010-12-31" in (PACKAGED / "README.md").read_text()
