"""The baselines against their closed forms."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import lognorm

from assets.forecasting.baselines.closed_form import (
    ESTIMATED,
    MODELS,
    baseline_forecasters,
    drift,
    momentum,
    random_walk,
    random_walk_ewma,
)
from assets.forecasting.filters import UsedCheckpoints
from assets.forecasting.forecaster import ForecastTask
from assets.forecasting.registry import checkpoints_in_use
from assets.forecasts import summary
from assets.forecasts.batches import target_timestamps
from assets.forecasts.generate import generate_forecasts
from assets.market.history import BarHistory
from resources.settings import Settings
from tests.forecasts.forecast_home import ForecastHome, create_home, real_bars

STEPS = np.arange(1.0, 11)


def _history(closes: np.ndarray) -> BarHistory:
    stamps = np.datetime64("2010-01-01", "s") + np.arange(len(closes)) * np.timedelta64(86_400, "s")
    ones = np.ones(len(closes))
    return BarHistory("A", stamps, np.column_stack([closes] * 4 + [ones, ones]), ones, ones)


@settings(deadline=None)
@given(arrays(np.float64, st.integers(3, 400), elements=st.floats(1e-3, 1e6)))
def test_quantiles_are_finite_positive_and_rise_whatever_the_prices(closes: np.ndarray) -> None:
    task = ForecastTask("A", np.datetime64("2010-01-01", "s"), _history(closes), len(closes) - 1)
    targets = np.zeros((1, 10), dtype="datetime64[s]")
    for forecaster in baseline_forecasters(Settings()):
        quantiles = forecaster.load()([task], targets).quantiles
        if forecaster.model in ("random_walk", "random_walk_ewma") and np.abs(np.diff(np.log(closes))).max() < 2:
            assert np.isfinite(quantiles).all()
            assert (quantiles > 0).all()
        assert (np.diff(quantiles, axis=-1) >= 0).all()


def test_forecasts_of_other_bars_have_another_checkpoint(model_home: ForecastHome) -> None:
    def named(**market: str) -> UsedCheckpoints:
        changed = model_home.settings.market.model_copy(update=market)
        return checkpoints_in_use(model_home.settings.model_copy(update={"market": changed}), model_home.checkpoints)

    others = [named(), named(frequency="1h"), named(frequency="30min"), named(calendar="XLON")]
    assert set(others[0]) >= {*MODELS, *ESTIMATED, "volatility", "kronos", "chronos2", "kronos_anchored"}
    assert all(len({names[model] for names in others}) == 4 for model in others[0])
    assert not {"frequency", "calendar"} & set(baseline_forecasters(model_home.settings)[0].recipe)


def test_the_random_walk_is_lognormal_with_the_volatility_of_the_last_252_sessions(home: ForecastHome) -> None:
    task = home.tasks(date(2012, 3, 1), date(2012, 3, 1))[0]
    targets = target_timestamps([task], home.candlecast.calendar, 10)
    walk = baseline_forecasters(home.settings)[0].load()([task], targets).quantiles[0, :, 0]
    closes = task.history.closes_as_of(task.index)
    sigma = np.sqrt((np.diff(np.log(closes))[-252:] ** 2).mean())
    expected = lognorm.ppf(home.settings.forecasts.levels, sigma * np.sqrt(STEPS)[:, None], scale=closes[-1])
    np.testing.assert_allclose(walk, expected, rtol=1e-12)


def test_ewma_volatility_equals_that_of_pandas() -> None:
    returns = np.random.default_rng(0).normal(0, 0.01, 252)
    ours = random_walk_ewma(returns, STEPS)[1][0]
    assert np.isclose(ours, pd.Series(returns**2).ewm(alpha=0.06).mean().iloc[-1], rtol=1e-12)


def test_drift_has_the_mean_return_and_the_variance_of_its_estimate() -> None:
    returns = np.random.default_rng(1).normal(0.001, 0.01, 500)
    mean, variance = drift(returns, STEPS)
    np.testing.assert_allclose(mean, STEPS * returns.mean())
    assert (variance > random_walk(returns, STEPS)[1]).all()


def test_momentum_looks_at_the_last_year_without_the_last_month() -> None:
    returns = np.random.default_rng(2).normal(0, 0.01, 600)
    changed = returns.copy()
    changed[-21:] = 0.05
    changed[:-252] = -0.05
    np.testing.assert_array_equal(momentum(returns, STEPS)[0], momentum(changed, STEPS)[0])


def test_a_split_before_the_origin_is_no_return(home: ForecastHome) -> None:
    """AAPL split 2:1 on 2005-02-28: unadjusted, that day alone would give a volatility of 70 % a year more."""
    task = next(t for t in home.tasks(date(2005, 3, 1), date(2005, 3, 1)) if t.symbol == "AAPL")
    returns = np.diff(np.log(task.history.closes_as_of(task.index)))
    assert np.abs(returns[-10:]).max() < 0.15
    assert set(MODELS) == {forecaster.model for forecaster in baseline_forecasters(home.settings)}


def test_a_price_that_never_moves_lies_in_an_interval_without_width(tmp_path: Path) -> None:
    bars = real_bars().query("symbol == 'GOOG'").copy()
    bars[["open", "high", "low", "close"]] = 500.0
    home = create_home(tmp_path, bars)
    tasks = home.tasks(date(2012, 1, 3), date(2012, 12, 31))
    walk = baseline_forecasters(home.settings)[0]
    generate_forecasts(home.candlecast, walk, tasks)
    calibrated = summary.calibration(home.warehouse, summary.ForecastRange(walk, [task.origin for task in tasks]), "1d")
    assert summary.coverage(calibrated) == {0.8: 1.0, 0.9: 1.0}
    assert calibrated["share"].eq(1).all() and calibrated["below"].eq(0).all()


def test_calibrations_of_several_models_are_those_of_each(home: ForecastHome) -> None:
    ranges = []
    for model, last in zip(baseline_forecasters(home.settings)[:3], (30, 30, 29), strict=True):
        tasks = home.tasks(date(2012, 3, 1), date(2012, 3, last))
        generate_forecasts(home.candlecast, model, tasks)
        ranges.append(summary.ForecastRange(model, [task.origin for task in tasks]))
    for one, found in zip(ranges, summary.calibrations(home.warehouse, ranges, "1d"), strict=True):
        alone = summary.calibration(home.warehouse, one, "1d")
        assert len(found) and found["share"].is_monotonic_increasing
        pd.testing.assert_frame_equal(found, alone, check_exact=True)
