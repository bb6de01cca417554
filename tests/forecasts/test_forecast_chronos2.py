"""Chronos-2's quantiles beyond the steps that its weights were made for."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from assets.forecasting.chronos2.forecaster import chronos2_forecaster
from assets.forecasting.chronos2.outputs import extend_quantiles
from assets.forecasting.chronos2.pipeline import steps_at_once, suitable_series_at_once
from assets.forecasting.embedders import embedder
from assets.forecasts import acceptance, generate
from assets.forecasts.summary import ForecastRange
from assets.training.fit.base_weights import WEIGHTS
from tests.forecasts.forecast_home import ForecastHome, create_home

LEVELS = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
PACKAGED = WEIGHTS / "chronos2_model"


@pytest.mark.parametrize("drift", [0.0, 0.002])
def test_a_random_walk_is_continued_as_a_random_walk(drift: float) -> None:
    steps, close = np.arange(1, 24)[:, None], np.log(31.5)
    walk = (close + drift * steps + 0.013 * np.sqrt(steps) * norm.ppf(LEVELS))[None]
    for known in (1, 4, 7, 23):
        continued = extend_quantiles(walk[:, :known], np.array([close]), 23, median=2)
        np.testing.assert_allclose(continued, walk, rtol=1e-12)
    assert (extend_quantiles(walk, np.array([close]), 23, median=2) == walk).all()


def test_the_packaged_weights_widen_over_a_horizon_of_forty_steps(tmp_path: Path) -> None:
    inputs: dict[str, object] = {"targets": ("standardised_close",), "past_covariates": ("range",)}
    home = create_home(tmp_path).with_settings(windows={"predict_window": 40}, forecasts={"every": 20}, chronos2=inputs)

    def copy(folder: Path) -> None:
        shutil.copytree(PACKAGED, folder, dirs_exist_ok=True)

    weights = home.checkpoints.publish(
        "chronos2_model", {"base": "packaged"}, copy, {"cutoff": "2010-12-31", "settings": inputs}
    )
    home.checkpoints.set_current("chronos2_model", weights.digest)
    forecaster = chronos2_forecaster(home.settings, home.checkpoints)
    assert steps_at_once(weights.folder) == forecaster.recipe["independent_blocks"] == 16
    tasks = home.tasks(date(2012, 1, 3), date(2012, 6, 29))
    generate.generate_forecasts(home.candlecast, forecaster, tasks)
    widths = acceptance.widths_by_step(home.warehouse, [ForecastRange(forecaster, [task.origin for task in tasks])])[0]
    assert widths["n"].min() >= acceptance.MIN_FORECASTS
    assert widths["step"].tolist() == list(range(1, 41))
    assert widths["width"].is_monotonic_increasing
    growth = widths["width"] / np.sqrt(widths["step"])
    assert growth.max() / growth.min() < 1.3, "about that of a random walk"
    assert acceptance.check_widths({"chronos2": widths}).passed


def test_the_recipe_within_the_steps_of_the_weights_is_unchanged(model_home: ForecastHome) -> None:
    assert "independent_blocks" not in chronos2_forecaster(model_home.settings, model_home.checkpoints).recipe


def test_forecasts_of_a_gpu_are_in_use_on_a_machine_without_one(model_home: ForecastHome) -> None:
    settings = model_home.settings
    on_gpu = settings.model_copy(update={"compute": settings.compute.model_copy(update={"device": "cuda"})})
    of_both = [chronos2_forecaster(one, model_home.checkpoints).checkpoint for one in (settings, on_gpu)]
    assert of_both[0] == of_both[1]
    of_both = [embedder("chronos2", one, model_home.checkpoints, "last").checkpoint for one in (settings, on_gpu)]
    assert of_both[0] == of_both[1]


def test_a_band_that_shrinks_is_named_with_its_model_and_step() -> None:
    widths = pd.DataFrame({"step": range(1, 21), "width": np.sqrt(np.arange(1, 21)), "n": 60})
    widths.loc[12:, "width"] *= 0.8
    outcome = acceptance.check_widths({"drift": widths.assign(width=1.0), "kronos": widths})
    assert not outcome.passed
    assert "kronos" in outcome.description and "13" in outcome.description and "drift" not in outcome.description
    assert acceptance.check_widths({"kronos": widths.assign(n=3)}).passed


@pytest.mark.parametrize(
    ("weights", "context", "device", "expected"),
    [
        (400_000, 512, "cpu", 64),
        (120_000_000, 512, "cpu", 8),
        (400_000, 2048, "cuda:0", 128),
        (120_000_000, 256, "cuda:0", 128),
        (120_000_000, 2048, "cuda", 32),
        (120_000_000, 100_000, "cuda", 8),
    ],
)
def test_the_series_of_a_batch_suit_weights_context_and_device(
    weights: int, context: int, device: str, expected: int
) -> None:
    assert suitable_series_at_once(weights, context, device) == expected
