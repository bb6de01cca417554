"""Bootstrap intervals have about their nominal coverage."""

from __future__ import annotations

import numpy as np
import pytest

from assets.evaluation.scoreboard import overlapping_origins
from assets.forecasting.bootstrap import block_length, bootstrap_interval, widening

REPETITIONS, DRAWS = 400, 200


def _overlapping(generator: np.random.Generator, origins: int, between: int, horizon: int) -> np.ndarray:
    """Sums over the `horizon` sessions after each origin, of mean 0: (repetitions, origins)."""
    sessions = np.cumsum(generator.standard_normal((REPETITIONS, origins * between + horizon)), axis=1)
    first = np.arange(origins) * between
    return sessions[:, first + horizon - 1] - np.where(first > 0, sessions[:, first - 1], 0.0)


def _means(generator: np.random.Generator, values: np.ndarray, block: int) -> np.ndarray:
    """Means of circular block resamples: (draws,)."""
    starts = generator.integers(0, len(values), (DRAWS, -(-len(values) // block)))
    places = (starts[..., None] + np.arange(block)) % len(values)
    return np.asarray(values[places.reshape(DRAWS, -1)[:, : len(values)]].mean(axis=1))


@pytest.mark.parametrize(("origins", "between", "horizon"), [(100, 1, 10), (40, 5, 20), (25, 5, 10), (30, 1, 1)])
def test_a_ninety_per_cent_interval_of_overlapping_forecasts_has_nearly_nominal_coverage(
    origins: int, between: int, horizon: int
) -> None:
    """Quantiles of the draws, with blocks as long as the overlap, covered 75 to 80 % of the time."""
    generator = np.random.default_rng(origins)
    block = block_length(overlapping_origins([between] * (origins - 1), horizon), origins)
    covered = 0
    for values in _overlapping(generator, origins, between, horizon):
        low, high = bootstrap_interval(_means(generator, values, block), values.mean(), 0.1, block, origins)
        covered += low <= 0 <= high
    assert 0.83 <= covered / REPETITIONS <= 0.95


@pytest.mark.parametrize(("share", "critical"), [(0.05, 1.7550), (0.1, 1.8663), (0.2, 2.0919)])
def test_the_widening_is_that_of_the_published_critical_values(share: float, critical: float) -> None:
    """Kiefer and Vogelsang (2005), Bartlett kernel, 95 % point: 1.6449 + 2.1859 b + 0.3142 b² − 0.3427 b³."""
    assert widening(0.1, round(share * 1000), 1000) * 1.6449 == pytest.approx(critical, rel=0.011)


def test_four_blocks_give_no_interval() -> None:
    drawn = np.linspace(-1, 1, 101)
    assert np.isnan(bootstrap_interval(drawn, 0.0, 0.1, 10, 49)).all()
    low, high = bootstrap_interval(drawn, 0.0, 0.1, 10, 50)
    assert low < -0.9 and high > 0.9
