"""Metrics against closed forms and against other libraries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scoringrules
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm, spearmanr
from utilsforecast.losses import coverage, mase

from assets.forecasting.metrics import covered, crps, direction, pit, rank_ic, score

LEVELS = np.round(np.arange(1, 20) * 0.05, 2)


@settings(deadline=None)
@given(st.floats(-3, 3), st.floats(0.1, 3), st.floats(-5, 5))
def test_crps_over_dense_levels_is_that_of_the_normal(mean: float, spread: float, actual: float) -> None:
    levels = np.linspace(0, 1, 4002)[1:-1]
    quantiles = norm.ppf(levels, mean, spread)[None]
    ours = crps(quantiles, levels, np.array([actual]))[0]
    assert np.isclose(ours, scoringrules.crps_normal(actual, mean, spread), rtol=2e-3, atol=2e-3 * spread)


def test_crps_weighs_uneven_levels_by_the_probability_between_them() -> None:
    """Twice the mean pinball loss would count crowded tails several times over."""
    even = np.linspace(0, 1, 2002)[1:-1]
    uneven = np.unique(np.r_[np.linspace(0, 0.1, 2000)[1:], even])
    actual = np.array([0.4])
    scores = [crps(norm.ppf(levels)[None], levels, actual)[0] for levels in (even, uneven)]
    assert np.isclose(scores[0], scores[1], rtol=1e-3)
    biased = scoringrules.crps_quantile(actual, norm.ppf(uneven)[None], uneven)[0]
    assert not np.isclose(biased, scores[0], rtol=0.05)


@given(arrays(np.float64, (5, 19), elements=st.floats(0.01, 10)), arrays(np.float64, 5, elements=st.floats(-5, 200)))
def test_pit_is_at_most_a_level_exactly_where_the_actual_is_at_most_its_quantile(
    steps: np.ndarray, actual: np.ndarray
) -> None:
    quantiles = np.cumsum(steps, axis=1)
    found = pit(quantiles, LEVELS, actual)
    assert ((found > 0) & (found < 1)).all()
    apart = np.abs(actual[:, None] - quantiles) > 1e-6
    assert ((found[:, None] <= LEVELS) == (actual[:, None] <= quantiles))[apart].all()


def test_coverage_and_mase_are_those_of_utilsforecast() -> None:
    generator = np.random.default_rng(0)
    past, actual = generator.lognormal(3, 0.1, 300), generator.lognormal(3, 0.1, 40)
    quantiles = np.sort(generator.lognormal(3, 0.1, (40, 19)), axis=1)
    scale = np.full(40, np.abs(np.diff(past)).mean())
    ours = score(quantiles, LEVELS, actual, np.full(40, past[-1]), scale)
    frame = pd.DataFrame(
        {
            "unique_id": "A",
            "ds": range(300, 340),
            "y": actual,
            "m": quantiles[:, 9],
            "lo": quantiles[:, 1],
            "hi": quantiles[:, 17],
        }
    )
    train = pd.DataFrame({"unique_id": "A", "ds": range(300), "y": past})
    assert np.isclose(ours["mase"].mean(), mase(frame, ["m"], seasonality=1, train_df=train)["m"][0])
    theirs = coverage(frame.rename(columns={"lo": "m-lo-80", "hi": "m-hi-80"}), ["m"], level=80)["m"][0]
    assert np.isclose(ours["coverage_80"].mean(), theirs)


@settings(deadline=None)
@given(arrays(np.float64, (6, 7), elements=st.integers(-3, 3)), arrays(np.float64, (6, 7), elements=st.integers(-3, 3)))
def test_rank_ic_is_spearmans_with_ties_and_gaps(predicted: np.ndarray, actual: np.ndarray) -> None:
    predicted[0, :5] = np.nan  # two symbols left: undefined
    predicted[1, 2] = actual[2, 3] = np.nan
    ours = rank_ic(pd.DataFrame(predicted), pd.DataFrame(actual)).to_numpy()
    for row in range(6):
        both = np.isfinite(predicted[row]) & np.isfinite(actual[row])
        one, other = predicted[row][both], actual[row][both]
        if both.sum() < 3 or len(set(one)) < 2 or len(set(other)) < 2:
            assert np.isnan(ours[row])
        else:
            assert np.isclose(ours[row], spearmanr(one, other).statistic)


def test_a_flat_forecast_has_no_direction_and_a_flat_actual_neither() -> None:
    last = np.array([10.0, 10.0, 10.0, 10.0])
    median = np.array([10.0, 10.0 * (1 + 1e-15), 10.1, 10.1])
    actual = np.array([11.0, 11.0, 10.0, 9.0])
    np.testing.assert_array_equal(direction(median, actual, last), [np.nan, np.nan, np.nan, 0.0])


def test_an_interval_covers_its_ends() -> None:
    assert covered(np.array([1.0]), np.array([2.0]), np.array([2.0])) == 1


def test_a_price_that_never_moved_has_no_mase() -> None:
    quantiles = np.tile(np.linspace(9, 11, 19), (1, 1))
    found = score(quantiles, LEVELS, np.array([10.0]), np.array([10.0]), np.array([0.0]))
    assert np.isnan(found["mase"][0])
    assert {"crps", "absolute_error", "coverage_80", "coverage_90", "direction", "pit"} < set(found)


@given(st.floats(0.1, 10))
def test_losses_do_not_depend_on_the_unit_of_the_price(unit: float) -> None:
    generator = np.random.default_rng(0)
    quantiles = np.sort(generator.lognormal(3, 0.1, (8, 19)), axis=1)
    actual, last, scale = (generator.lognormal(3, 0.1, 8) for _ in range(3))
    one, other = (score(quantiles * k, LEVELS, actual * k, last * k, scale * k) for k in (1.0, unit))
    for name in ("crps", "absolute_error", "mase"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-9)
