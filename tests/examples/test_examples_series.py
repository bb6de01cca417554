"""The simulated series of the examples, and the bounds of their forecasts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from assets.examples.acceptance import (
    BOUNDS,
    bound_problems,
    correlation_problems,
    correlations,
    forecast_problems,
)
from assets.examples.forecasts import HORIZON
from assets.examples.processes import ElectricityLoad, Sine
from assets.examples.training_series import synthetic_series


def test_the_load_correlates_with_temperature_and_humidity_as_stated() -> None:
    found = correlations(ElectricityLoad().frame())
    assert found["temperature"] > 0.6
    assert 0.3 < found["humidity"] < 0.5
    assert not correlation_problems(found)


def test_a_correlation_that_is_not_as_stated_is_named() -> None:
    (problem,) = correlation_problems(correlations(ElectricityLoad(per_percent=0.0).frame()))
    assert "humidity" in problem


def test_the_load_is_the_stated_sum_of_its_parts() -> None:
    """Without noise, a regression on the stated parts returns the stated parameters."""
    process = ElectricityLoad(noise=(0.0, 1e-9))
    frame = process.frame()
    hour = frame["timestamp"].dt.hour
    parts = {
        process.base: np.ones(len(frame)),
        process.per_degree: frame["temperature"] - 22,
        process.per_percent: frame["humidity"] - 60,
        process.daily_load: np.sin(2 * np.pi * (hour - 12) / 24),
        process.weekend: (frame["timestamp"].dt.day_name().isin(["Saturday", "Sunday"])).astype(float),
    }
    found, *_ = np.linalg.lstsq(np.column_stack(list(parts.values())), frame["load"], rcond=None)
    assert found == pytest.approx(list(parts), abs=1e-4)


def test_a_seed_gives_the_same_series_and_another_seed_another() -> None:
    for process in (Sine(), ElectricityLoad()):
        pd.testing.assert_frame_equal(process.frame(3), process.frame(3))
        assert not process.frame(3).equals(process.frame(4))


def test_the_noise_of_the_sine_is_below_the_bounds_of_its_forecast() -> None:
    """A forecast that knows the process keeps the bounds: MAE 0.08 and RMSE 0.1 remain."""
    process = Sine()
    error = process.frame()["value"] - process.amplitude * np.sin(2 * np.pi * np.arange(process.steps) / 24)
    error -= process.slope * np.arange(process.steps)
    assert float(error.std()) == pytest.approx(process.noise, rel=0.1)
    assert not bound_problems("sine", {"mae": float(error.abs().mean()), "rmse": float(error.std())})


def test_a_score_that_reaches_its_bound_is_named() -> None:
    scores = {**BOUNDS["electricity"], "mae": 10.0, "rmse": 20.0}
    (problem,) = bound_problems("electricity", scores)
    assert "mape" in problem
    assert bound_problems("sine", {"mae": float("nan"), "rmse": 0.1})


def test_a_forecast_that_is_not_finite_or_not_ordered_is_refused() -> None:
    steps = np.arange(HORIZON, dtype=np.float64)
    good = pd.DataFrame({"timestamp": steps, "0.1": steps, "0.5": steps + 1, "0.9": steps + 2, "actual": steps})
    assert not forecast_problems(good)
    assert forecast_problems(good.assign(**{"0.9": np.where(steps == 3, np.nan, good["0.9"])}))
    assert forecast_problems(good.assign(**{"0.1": good["0.5"] + 1}))
    assert forecast_problems(good.head(5))


def test_training_series_have_covariates_of_stated_effect() -> None:
    """Of a linear covariate the stated effect is its share of the target's deviation: it shows in the correlation."""
    series = list(synthetic_series(200, 300, 5))
    assert {len(one.known) + len(one.past_only) for one in series} == {0, 1, 2}
    strong = [
        abs(np.corrcoef(values, one.target)[0, 1])
        for one in series
        for name, values in one.known.items()
        if one.effects[name] > 0.9
    ]
    none = [
        abs(np.corrcoef(values, one.target)[0, 1])
        for one in series
        for name, values in one.known.items()
        if one.effects[name] == 0
    ]
    assert np.median(strong) > 0.7 > 0.3 > np.median(none)
    again = list(synthetic_series(200, 300, 5))
    assert all((a.target == b.target).all() for a, b in zip(series, again, strict=True))
