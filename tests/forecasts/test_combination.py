from __future__ import annotations

import numpy as np
import pytest

from assets.forecasting.combination import (
    HALF_LIFE,
    LEAST_ORIGINS,
    STRENGTH,
    PastLosses,
    combine,
    crps_weights,
    equal_weights,
    past_losses,
)

STEPS = 2
DAYS = np.datetime64("2009-01-05", "s") + np.arange(60) * np.timedelta64(7, "D")


def _past(losses: np.ndarray, origins: int = 60) -> PastLosses:
    """Two symbols, losses (models,) at every origin and step; the outcome of step h is known h days later."""
    stamps = np.repeat(DAYS[:origins], 2)
    known = stamps[:, None] + np.arange(1, STEPS + 1) * np.timedelta64(1, "D")
    return past_losses(stamps, known, np.broadcast_to(losses, (len(stamps), STEPS, len(losses))))


def test_a_model_of_lower_crps_weighs_more_by_the_stated_factor() -> None:
    weights = crps_weights(_past(np.array([0.99, 1.01])), DAYS[-1])
    assert weights.sum(axis=-1) == pytest.approx(1.0)
    assert weights[:, 0] / weights[:, 1] == pytest.approx(np.exp(STRENGTH * 0.02))


def test_no_outcome_after_the_origin_changes_a_weight() -> None:
    rng = np.random.default_rng(0)
    losses = rng.uniform(0.98, 1.02, (len(DAYS), STEPS, 3))
    known = DAYS[:, None] + np.array([1, 14]) * np.timedelta64(1, "D")
    origin = DAYS[40]
    changed = losses.copy()
    changed[known > origin] = rng.uniform(1, 9, (int((known > origin).sum()), 3))
    before, after = (crps_weights(past_losses(DAYS, known, one), origin) for one in (losses, changed))
    np.testing.assert_array_equal(before, after)
    assert not np.array_equal(before, crps_weights(past_losses(DAYS, known, changed), DAYS[-1]))


def test_weights_are_equal_until_there_are_enough_outcomes() -> None:
    past = _past(np.array([0.9, 1.1]))
    np.testing.assert_allclose(crps_weights(past, DAYS[LEAST_ORIGINS - 1]), equal_weights(STEPS, 2))
    assert (crps_weights(past, DAYS[LEAST_ORIGINS])[:, 0] > 0.9).all()


def test_a_model_without_enough_outcomes_counts_as_average() -> None:
    losses = np.ones((len(DAYS), STEPS, 3)) * [0.99, 1.01, 1.0]
    losses[:-2, :, 2] = np.nan
    known = np.repeat(DAYS[:, None], STEPS, axis=1)
    weights = crps_weights(past_losses(DAYS, known, losses), DAYS[-1])
    assert (weights[:, 0] > weights[:, 2]).all() and (weights[:, 2] > weights[:, 1]).all()


def test_a_model_that_forecast_only_calm_times_is_compared_in_calm_times() -> None:
    """Its mean CRPS is the lowest, and that of its own origins is not."""
    level = np.where(np.arange(60) % 2, 5.0, 1.0)[:, None, None] * np.ones((1, STEPS, 1))
    losses = level * [1.0, 1.0, 1.02]
    losses[1::2, :, 2] = np.nan
    weights = crps_weights(past_losses(DAYS, np.repeat(DAYS[:, None], STEPS, axis=1), losses), DAYS[-1])
    assert (weights[:, 2] < weights[:, 0]).all()


def test_older_losses_count_less() -> None:
    half = len(DAYS) // 2
    losses = np.ones((len(DAYS), 1, 2))
    losses[:half, 0, 0] = losses[half:, 0, 1] = 0.99
    assert HALF_LIFE > 0
    weights = crps_weights(past_losses(DAYS, DAYS[:, None], losses), DAYS[-1])
    assert weights[0, 1] > weights[0, 0]


def test_quantiles_are_averaged_in_log_prices_and_a_missing_model_is_left_out() -> None:
    quantiles = np.array([[[[80.0, 100.0, 125.0], [90.0, 100.0, 110.0]]], [[[80.0, 100.0, 125.0], [np.nan] * 3]]])
    found = combine(quantiles, np.array([0.25, 0.75]))
    expected = np.exp(0.25 * np.log([80, 100, 125]) + 0.75 * np.log([90, 100, 110]))
    np.testing.assert_allclose(found[0, 0], expected)
    np.testing.assert_allclose(found[1, 0], [80, 100, 125])
    assert np.isnan(combine(np.full((1, 1, 2, 3), np.nan), np.array([0.5, 0.5]))).all()


def test_combined_quantiles_do_not_decrease_where_members_agree_on_some() -> None:
    same = np.full((1, 1, 3, 4), 17.3)
    found = combine(same, np.array([0.1, 0.2, 0.7]))
    assert (np.diff(found, axis=-1) >= 0).all()
