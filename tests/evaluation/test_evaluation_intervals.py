"""Bootstrap intervals have about their nominal coverage."""

from __future__ import annotations

import numpy as np
import pytest

from assets.forecasting.bootstrap import block_draws, bootstrap_interval, origin_weights, weighted_means
from benchmarks.interval_coverage import LEVELS, SPACINGS, coverage, losses, stochastic_volatility_returns

REPETITIONS, DRAWS = 400, 200


def _overlapping(generator: np.random.Generator, times: np.ndarray, horizon: int) -> np.ndarray:
    """Sums over the `horizon` sessions after each origin, of mean 0: (origins, repetitions)."""
    sessions = np.cumsum(generator.standard_normal((times[-1] + horizon + 1, REPETITIONS)), axis=0)
    return np.asarray(sessions[times + horizon] - sessions[times])


@pytest.mark.parametrize(
    ("times", "horizon"),
    [
        (np.arange(100), 10),
        (np.arange(40) * 5, 20),
        (np.arange(25) * 5, 10),
        (np.arange(30), 1),
        (np.r_[np.arange(40) * 5, 200 + np.arange(80)], 10),
    ],
    ids=["daily", "weekly, horizon of a month", "few", "no overlap", "weekly, then daily"],
)
def test_a_ninety_per_cent_interval_of_overlapping_forecasts_is_not_too_narrow(times: np.ndarray, horizon: int) -> None:
    """Quantiles of the draws, with blocks as long as the overlap, covered 75 to 80 % of the time."""
    values = _overlapping(np.random.default_rng(len(times)), times, horizon)
    weights = origin_weights(times, longest=max(horizon, 5))
    drawn, means = block_draws(values, weights, 5, DRAWS, seed=1), weighted_means(values, weights)
    ends = np.array([bootstrap_interval(drawn[:, n], means[n], 0.1, 1, 5) for n in range(REPETITIONS)])
    assert 0.87 <= ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean() <= 0.98


def test_intervals_of_skills_cover_the_true_skill_where_volatility_clusters() -> None:
    """100 weekly origins, and 80 weekly ones before 75 daily ones. Blocks of twice the horizon covered 75 to 88 %."""
    rng = np.random.default_rng(3)
    for spacing in SPACINGS[2], SPACINGS[4]:
        returns = stochastic_volatility_returns(rng, 600 + int(spacing.origins[-1]) + 11, 200)
        found = losses(rng, returns, spacing.origins)
        means = found["volatility"].mean(axis=(1, 2))
        volatility = coverage(found["volatility"], spacing.origins, LEVELS["volatility"], 1 - means[0] / means[1], 200)
        assert volatility.covered >= 0.9
        twins = coverage(found["twins"], spacing.origins, LEVELS["twins"], 0.0, 200)
        assert 0.88 <= twins.covered <= 0.98
        assert twins.above <= 0.07


def test_blocks_of_equal_time_are_drawn_whatever_the_number_of_origins_in_them() -> None:
    """A step function of time: each half of the time is half of the draws, though one has five times the origins."""
    weights = np.repeat([5.0, 1.0], [40, 200])
    values = np.repeat([0.0, 1.0], [40, 200])[:, None]
    drawn = block_draws(values, weights, 40, 4000, seed=0)
    assert drawn.mean() == pytest.approx(0.5, abs=0.005)
    assert drawn.std() == pytest.approx(0.5 / np.sqrt(40), rel=0.1)


def test_an_origin_before_a_gap_stands_for_no_more_than_the_longest_time() -> None:
    assert origin_weights(np.array([0, 5, 10, 300, 301]), 10).tolist() == [5, 5, 10, 1, 1]
    assert origin_weights(np.array([3]), 10).tolist() == [10]
    values = np.array([[0.1], [0.7], [0.2]])
    assert weighted_means(values, np.full(3, 5.0)) == values.sum() / 3


def test_four_blocks_give_no_interval() -> None:
    drawn = np.linspace(-1, 1, 101)
    assert np.isnan(bootstrap_interval(drawn, 0.0, 0.1, 10, 49)).all()
    low, high = bootstrap_interval(drawn, 0.0, 0.1, 10, 50)
    assert low < -0.9 and high > 0.9
