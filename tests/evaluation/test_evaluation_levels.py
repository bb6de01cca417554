"""Coverage is that of the intervals that the quantile levels have, under their own names."""

import numpy as np
import pandas as pd
import pytest

from assets.backtests.report.descriptions import intervals_text
from assets.forecasting.intervals import central_intervals, drawn_intervals, nominal_coverage
from assets.forecasting.metrics import score
from assets.forecasting.verdict import verdict_text
from assets.forecasts.summary import coverage

DEFAULT = [round(0.05 * number, 2) for number in range(1, 20)]


@pytest.mark.parametrize(
    ("levels", "nominal"),
    [
        ([0.1, 0.5, 0.9], [0.8]),
        ([0.025, 0.25, 0.5, 0.75, 0.975], [0.95, 0.5]),
        ([0.05, 0.5, 0.9], []),
        ([0.5], []),
        (DEFAULT, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
    ],
)
def test_central_intervals_are_the_symmetric_pairs(levels: list[float], nominal: list[float]) -> None:
    assert [one.nominal for one in central_intervals(levels)] == nominal


def test_a_fan_chart_draws_the_widest_intervals_and_the_one_nearest_to_a_half() -> None:
    assert [one.nominal for one in drawn_intervals(DEFAULT)] == [0.9, 0.8, 0.5]
    assert [one.nominal for one in drawn_intervals([0.1, 0.5, 0.9])] == [0.8]
    assert "80\N{NO-BREAK SPACE}% interval" in intervals_text([0.1, 0.5, 0.9])
    assert "90" not in intervals_text([0.1, 0.5, 0.9])


@pytest.mark.parametrize(
    ("levels", "covered"),
    [
        ([0.1, 0.5, 0.9], {"coverage_80": 1.0}),
        ([0.01, 0.0875, 0.5, 0.9125, 0.99], {"coverage_82.5": 0.0, "coverage_98": 1.0}),
        ([0.5], {}),
    ],
)
def test_coverage_is_scored_for_the_two_widest_intervals(levels: list[float], covered: dict[str, float]) -> None:
    quantiles = np.linspace(90, 110, len(levels))[None] if len(levels) > 1 else np.array([[100.0]])
    found = score(quantiles, np.array(levels), np.array([91.0]), np.array([100.0]), np.array([1.0]))
    coverages = {name: float(value[0]) for name, value in found.items() if nominal_coverage(name)}
    assert coverages == covered


def test_the_summary_of_a_run_names_the_intervals_that_exist() -> None:
    calibrated = pd.DataFrame({"level": [0.1, 0.5, 0.9], "share": [0.2, 0.5, 0.8], "below": [0.1, 0.5, 0.8]})
    assert coverage(calibrated) == pytest.approx({0.8: 0.7})
    assert coverage(calibrated[:0]) == {}


def test_the_verdict_names_the_widest_interval_of_the_scoreboard() -> None:
    row = {"horizon": 0, "value": 0.77, "n": 20, "skill": 0.0, "skill_low": -0.1, "skill_high": 0.1}
    names = [("crps", "random_walk_ewma"), ("coverage_50", "random_walk"), ("coverage_80", "random_walk")]
    rows = [{**row, "model": "kronos", "metric": metric, "baseline": baseline} for metric, baseline in names]
    text = " ".join(verdict_text(pd.DataFrame(rows).assign(low=0.7, high=0.8, verdict="no difference shown")))
    assert "80 % interval" in text
    assert "90 % interval" not in text
