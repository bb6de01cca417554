"""Kupiec's and Christoffersen's tests against a published example, hand-derived numbers and planted data."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from assets.evaluation.origin_times import OriginTimes
from assets.evaluation.risk.backtest import loss_rows
from assets.evaluation.risk.block_bootstrap import BlockBootstrap, Ratio
from assets.evaluation.risk.coverage_tests import (
    block_test,
    christoffersen_test,
    independence_ratio,
    kupiec_p,
    kupiec_ratio,
    non_overlapping,
    transitions,
)
from assets.evaluation.risk.loss_outcomes import LossOutcomes, read_loss_outcomes
from assets.forecasting.filters import ForecastFilter
from assets.forecasting.verdict import REFERENCE_MODEL
from resources.settings import EvaluationSettings
from resources.warehouse import Warehouse


def test_the_ratios_are_those_of_a_published_example() -> None:
    """J.P. Morgan's 20 exceptions in 252 days of 1998 at 95 %, six of them after another (Jorion, Value at Risk, 2007,
    chapter 6): LR_uc 3.91, LR_ind 9.53."""
    assert kupiec_ratio(20, 252, 0.05) == pytest.approx(3.91, abs=0.005)
    assert independence_ratio(np.array([[218, 14], [14, 6]])) == pytest.approx(9.53, abs=0.005)


def test_the_ratios_are_those_derived_by_hand() -> None:
    # No exception in 100 outcomes: −2·100·ln(1 − p).
    assert kupiec_ratio(0, 100, 0.05) == pytest.approx(-200 * np.log(0.95))
    assert kupiec_ratio(5, 100, 0.05) == 0
    assert np.isnan(kupiec_p(0, 0, 0.05))
    # Hits that alternate: both conditional probabilities are certain, so that only the tied likelihood is left.
    hits = np.array([False, True] * 5 + [False])
    found = transitions(hits, np.zeros(11))
    np.testing.assert_array_equal(found, [[0, 5], [5, 0]])
    assert independence_ratio(found) == pytest.approx(-2 * 10 * np.log(0.5))


def test_transitions_do_not_cross_from_one_symbol_to_the_next() -> None:
    hits = np.array([False, True, True, False])
    np.testing.assert_array_equal(transitions(hits, np.array(["A", "A", "B", "B"])), [[0, 1], [1, 0]])
    assert np.isnan(christoffersen_test(np.zeros(5, dtype=bool), np.zeros(5), 0.05).independence)


def test_p_values_of_a_right_model_are_uniform_and_those_of_a_narrow_one_small() -> None:
    generator = np.random.default_rng(11)
    series = np.repeat(np.arange(20), 100)
    right = generator.random((400, 2000)) < 0.05
    kupiec = np.array([kupiec_p(int(hits.sum()), hits.size, 0.05) for hits in right])
    clusters = [christoffersen_test(hits, series, 0.05) for hits in right]
    for p in (
        kupiec,
        np.array([one.independence for one in clusters]),
        np.array([one.conditional for one in clusters]),
    ):
        assert np.mean(p < 0.1) == pytest.approx(0.1, abs=0.04)
        assert np.mean(p < 0.5) == pytest.approx(0.5, abs=0.08)
    narrow = generator.random((50, 2000)) < 0.1
    assert max(kupiec_p(int(hits.sum()), hits.size, 0.05) for hits in narrow) < 0.02


def test_exceptions_that_follow_each_other_are_found() -> None:
    generator = np.random.default_rng(12)
    hits = np.zeros(2000, dtype=bool)
    for place in range(1, len(hits)):
        hits[place] = generator.random() < (0.3 if hits[place - 1] else 0.037)
    found = christoffersen_test(hits, np.zeros(2000), 0.05)
    assert found.independence < 1e-6
    assert kupiec_p(int(hits.sum()), 2000, 0.05) > 0.01


def test_the_test_by_blocks_uses_the_spread_over_blocks() -> None:
    drawn = 0.06 + 0.01 * np.random.default_rng(0).standard_normal(20_000)
    few, many = (block_test(drawn, 0.06, 0.05, 0.1, blocks) for blocks in (5, 50))
    # t = 0.89 with 3 degrees of freedom, and 0.99 with 48.
    assert few.p == pytest.approx(0.437, abs=0.01)
    assert many.p == pytest.approx(0.327, abs=0.01)
    assert few.low < many.low < 0.06 < many.high < few.high
    assert np.isnan(block_test(drawn, 0.06, 0.05, 0.1, 0).p)


def test_horizons_of_the_chosen_forecasts_do_not_overlap() -> None:
    origins = np.array(["2012-01-02", "2012-01-09", "2012-01-16", "2012-01-17", "2012-01-30"], dtype="datetime64[D]")
    targets = origins + np.timedelta64(14, "D")
    assert non_overlapping(origins, targets).tolist() == [True, False, True, False, True]
    assert non_overlapping(origins, origins + 7).tolist() == [True, True, True, False, True]
    assert non_overlapping(origins[:0], targets[:0]).tolist() == []


def test_a_model_without_a_positive_shortfall_has_no_statistic_of_it() -> None:
    days = np.arange(np.datetime64("2012-01-02", "D"), np.datetime64("2012-01-12", "D")).astype("datetime64[s]")
    times = OriginTimes(np.arange(len(days), dtype=float), 1.0, 1.0)
    targets, one = (days + np.timedelta64(1, "D"))[None, None], np.ones((1, 1, len(days)))
    outcomes = LossOutcomes([REFERENCE_MODEL], ["A"], days, targets, var=-0.01 * one, es=-0.02 * one, loss=0 * one[0])
    rows = list(loss_rows(outcomes, 1, 0.05, BlockBootstrap(days, times, EvaluationSettings(), 0)))
    value_at_risk, shortfall = rows
    assert value_at_risk["exceptions"] == value_at_risk["n"] and value_at_risk["forecasts"] == len(days)
    assert shortfall["n"] == 0 and np.isnan(float(str(shortfall["es_z"]))) and np.isnan(float(str(shortfall["es_p"])))


def test_a_forecast_without_a_value_at_risk_is_left_out(tmp_path: Path) -> None:
    warehouse, origin, target = Warehouse(tmp_path / "w.duckdb"), datetime(2012, 1, 2), datetime(2012, 1, 3)
    measures = {
        "A": {"var": 0.02, "es": 0.03},
        "B": {"es": 0.03},
        "C": {"var": float("nan"), "es": 0.03},
        "D": {"var": 0.02},
    }
    with warehouse.write() as connection:
        for symbol, values in measures.items():
            key = ("drift", "c", symbol, origin)
            connection.execute("INSERT INTO forecasts VALUES (?, ?, ?, ?, ?, false, 0, NULL)", [*key, target])
            connection.execute("INSERT INTO scored_actuals VALUES (?, ?, 1, 99, 100, 1)", key[2:])
            for measure, value in values.items():
                row = [*key, target, measure, value]
                connection.execute(
                    "INSERT INTO forecast_risk VALUES (?, ?, ?, ?, 1, ?, ?, 0.05, ?, 'quantile', 0)", row
                )
    found = read_loss_outcomes(warehouse, ForecastFilter(), [1], [0.05])[1, 0.05]
    assert found.symbols == list(measures) and found.known[0, :, 0].tolist() == [True, False, False, True]
    np.testing.assert_array_equal(found.var[0, :, 0], [0.02, np.nan, np.nan, 0.02])
    np.testing.assert_array_equal(found.es[0, :, 0], [0.03, 0.03, 0.03, np.nan])


def test_ratios_of_many_forecasts_are_resampled_together_as_alone() -> None:
    generator = np.random.default_rng(13)
    days = np.arange(np.datetime64("2012-01-02", "D"), np.datetime64("2012-06-01", "D")).astype("datetime64[s]")
    times = OriginTimes(np.arange(len(days), dtype=float), 10.0, 1.0)
    bootstrap = BlockBootstrap(days, times, EvaluationSettings(), 0)
    # Some of the same origins, and some of fewer; one without any forecast.
    places = [np.tile(np.arange(len(days) - skipped), symbols) for skipped, symbols in ((0, 3), (0, 2), (30, 3))]
    ratios = [Ratio(place, *generator.random((2, len(place)))) for place in (*places, places[0][:0])]
    for together, one in zip(bootstrap.resample(ratios), ratios, strict=True):
        (alone,) = bootstrap.resample([one])
        assert (together.estimate == alone.estimate) or np.isnan([together.estimate, alone.estimate]).all()
        assert together.blocks == alone.blocks
        np.testing.assert_array_equal(together.drawn, alone.drawn)
    # Of all origins with equal weights the estimate is the ratio of the means by origin.
    first = ratios[0]
    assert bootstrap.resample([first])[0].estimate == pytest.approx(first.above.sum() / first.below.sum())
