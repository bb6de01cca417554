"""Value at risk and expected shortfall: from quantiles, from earlier outcomes, never from later ones."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import ndtri
from scipy.stats import t as student

from assets.evaluation.risk.tails import LossForecasts, needed_levels, student_tail, tail_risks

LEVELS = np.array([0.05, 0.1, 0.5])


def _forecasts(outcomes: np.ndarray, scale: float = 1.0, symbols: int = 1) -> LossForecasts:
    """Normal forecasts of `scale` from weekly origins, `symbols` per origin; each outcome is known a week later."""
    week = np.repeat(np.arange(len(outcomes) // symbols), symbols) * np.timedelta64(7, "D")
    origins = np.datetime64("2011-01-03") + week
    losses = np.broadcast_to(-scale * ndtri(LEVELS), (len(outcomes), len(LEVELS)))
    return LossForecasts(origins, origins + np.timedelta64(7, "D"), LEVELS, losses, outcomes)


def test_without_outcomes_the_tail_is_students() -> None:
    quantile, shortfall = student_tail(0.05)
    tail = quad(lambda loss: loss * student.pdf(loss, 5), quantile, np.inf)[0] / 0.05
    assert shortfall == pytest.approx(tail)
    (found,) = tail_risks(_forecasts(np.full(3, np.nan), scale=0.02), [0.05])
    np.testing.assert_allclose(found.var, 0.02 * 1.6449, rtol=1e-4)
    np.testing.assert_allclose(found.es / found.var, shortfall / quantile)
    assert set(found.es_method) == {"student"} and set(found.var_method) == {"quantile"}


def test_the_tail_is_the_mean_excess_of_earlier_outcomes() -> None:
    # Every outcome is 0.4 units beyond the value at risk: with 30 known ones the excess is 0.4.
    (found,) = tail_risks(_forecasts(np.full(60, 1.4 * 1.6448536)), [0.05])
    assert found.es_method.tolist() == ["student"] * 30 + ["outcomes"] * 30
    assert found.outcomes[29:32].tolist() == [0, 30, 31]
    np.testing.assert_allclose(found.es[30:] / found.var[30:], 1.4)


def test_thirty_outcomes_of_one_day_are_not_enough() -> None:
    (found,) = tail_risks(_forecasts(np.full(30 * 14, 3.0), symbols=30), [0.05])
    assert found.es_method.tolist() == ["student"] * 300 + ["outcomes"] * 120


def test_no_outcome_after_an_origin_changes_its_tail() -> None:
    outcomes = np.random.default_rng(3).standard_t(4, 3000) / 1.2
    forecasts = _forecasts(outcomes, symbols=5)
    later = forecasts.targets > forecasts.origins[2000]
    other = replace(forecasts, actual=np.where(later, 50.0, outcomes))
    for one, two in zip(tail_risks(forecasts, [0.05, 0.01]), tail_risks(other, [0.05, 0.01]), strict=True):
        np.testing.assert_array_equal(one.es[:2001], two.es[:2001])
        np.testing.assert_array_equal(one.var[:2001], two.var[:2001])
        assert (one.es[-5:] != two.es[-5:]).all()


def test_below_the_lowest_level_the_value_at_risk_is_a_quantile_of_earlier_outcomes() -> None:
    outcomes = np.random.default_rng(4).standard_t(4, 40_000)
    held, deep = tail_risks(_forecasts(outcomes, scale=2.1318 / 1.6449, symbols=20), [0.05, 0.01])
    assert (deep.level, deep.var_method[-1], deep.var_method[0]) == (0.01, "outcomes", "student")
    truth = -student.ppf([0.05, 0.01], 4)
    assert [held.var[-1], deep.var[-1]] == pytest.approx(truth.tolist(), rel=0.05)
    shortfalls = [-student.expect(lambda x: x, (4,), ub=-one, conditional=True) for one in truth]
    assert [held.es[-1], deep.es[-1]] == pytest.approx(shortfalls, rel=0.06)


def test_measures_rise_as_the_level_falls() -> None:
    outcomes = np.random.default_rng(5).standard_normal(4000)
    found = tail_risks(_forecasts(outcomes, symbols=4), [0.01, 0.05, 0.002, 0.07, 0.1])
    assert [one.level for one in found] == [0.1, 0.07, 0.05, 0.01, 0.002]
    assert found[1].var_method[0] == "interpolated"
    np.testing.assert_allclose(found[1].var, -ndtri(0.07))
    for higher, lower in pairwise(found):
        assert (lower.var >= higher.var).all() and (lower.es >= higher.es).all()
    assert all((one.es >= one.var).all() for one in found)


def test_only_the_levels_that_are_needed_are_read() -> None:
    levels = [0.05, 0.1, 0.2, 0.5, 0.8]
    assert needed_levels(levels, [0.05]) == [0.05, 0.5]
    assert needed_levels(levels, [0.01]) == [0.05, 0.5]
    assert needed_levels(levels, [0.15, 0.1]) == [0.1, 0.2, 0.5]
