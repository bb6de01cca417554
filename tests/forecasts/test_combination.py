from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from assets.forecasting.calibration.combination import (
    HALF_LIFE,
    STRENGTH,
    Combination,
    PastLosses,
    Weighting,
    combine,
    crps_weights,
    past_losses,
)
from assets.forecasting.calibration.models import combined_models
from assets.forecasting.calibration.panel import LEAST_ORIGINS, ForecastPanel
from assets.forecasting.forecaster import ForecastModel
from resources.derived_models import COMBINATIONS
from resources.settings import CalibrationSettings, Settings

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
    np.testing.assert_allclose(crps_weights(past, DAYS[LEAST_ORIGINS - 1]), np.full((STEPS, 2), 0.5))
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
    assert np.timedelta64(3650, "D") > HALF_LIFE
    weights = crps_weights(past_losses(DAYS, DAYS[:, None], losses), DAYS[-1])
    assert weights[0, 1] > weights[0, 0]


def test_logs_of_quantiles_are_averaged_and_a_missing_model_is_left_out() -> None:
    first, second = np.log([0.8, 1.0, 1.25]), np.log([0.9, 1.0, 1.1])
    quantiles = np.array([[[first], [first]], [[second], [np.full(3, np.nan)]]])
    found = combine(quantiles, np.array([0.25, 0.75])[:, None, None])
    np.testing.assert_allclose(found[0, 0], 0.25 * first + 0.75 * second)
    np.testing.assert_array_equal(found[1, 0], first)
    assert np.isnan(combine(np.full((2, 1, 1, 3), np.nan), np.ones((2, 1, 1)))).all()


def test_combined_quantiles_do_not_decrease_where_members_agree_on_some() -> None:
    found = combine(np.full((3, 1, 1, 4), 0.173), np.array([0.1, 0.2, 0.7])[:, None, None])
    assert (np.diff(found, axis=-1) >= 0).all()


LEVELS = (0.1, 0.5, 0.9)


def _panel(seed: int, origins: int = 60) -> ForecastPanel:
    """Three models: the first knows the scale of the outcomes, the third has no forecast of every fourth task."""
    rng = np.random.default_rng(seed)
    stamps = np.repeat(DAYS[:origins], 4)
    targets = stamps[:, None] + np.array([1, 20]) * np.timedelta64(1, "D")
    outcomes = rng.normal(0, 0.02, (len(stamps), STEPS))
    outcomes[rng.uniform(size=outcomes.shape) < 0.1] = np.nan
    bands = 0.02 * np.array([-1.28, 0.0, 1.28])
    quantiles = np.array([1.0, 2.5, 0.4])[:, None, None, None] * np.broadcast_to(bands, (3, len(stamps), STEPS, 3))
    quantiles[2, ::4] = np.nan
    return ForecastPanel(stamps, targets, quantiles, outcomes)


@pytest.mark.parametrize("weighting", ["equal", "crps"])
def test_a_combination_depends_on_earlier_outcomes_of_its_members_alone(weighting: Weighting) -> None:
    """Not on later outcomes and forecasts, and not on the other tasks or the panels that it is computed with."""
    panel, place = _panel(0), 40 * 4
    origin = panel.origins[place]
    later = panel.origins > origin
    changed = replace(
        panel,
        outcomes=np.where(panel.targets > origin, 9.0, panel.outcomes),
        quantiles=np.where(later[:, None, None], 3 * panel.quantiles, panel.quantiles),
    )
    learn = Combination(LEVELS, weighting)
    before, after = (learn([one])(panel.origins, panel.quantiles)[place : place + 4] for one in (panel, changed))
    np.testing.assert_array_equal(before, after)
    parts = [
        ForecastPanel(panel.origins[rows], panel.targets[rows], panel.quantiles[:, rows], panel.outcomes[rows])
        for rows in (slice(None, 80), slice(80, None))
    ]
    alone = learn(parts)(panel.origins[[place]], panel.quantiles[:, [place]])
    np.testing.assert_array_equal(alone[0], before[0])
    assert np.isfinite(before).all()


def test_weights_by_crps_come_closer_to_the_best_member_than_equal_ones() -> None:
    panel = _panel(1)
    widths = {}
    for weighting in get_args(Weighting):
        derived = Combination(LEVELS, weighting)([panel])(panel.origins[-2:], panel.quantiles[:, -2:])
        widths[weighting] = derived[..., 2] / panel.quantiles[0, -2:, :, 2]
    assert (np.abs(widths["crps"] - 1) < 0.05).all() and (np.abs(widths["equal"] - 1) > 0.2).all()


def test_without_any_outcome_the_weights_are_equal() -> None:
    panel = _panel(2)
    equal, crps = (Combination(LEVELS, one)([])(panel.origins, panel.quantiles) for one in get_args(Weighting))
    np.testing.assert_array_equal(equal, crps)


@pytest.mark.parametrize(
    "module", ["assets.forecasting.registry", "assets.evaluation.scoring", "benchmarks.skill.derived"]
)
def test_no_process_that_reads_or_computes_scores_compiles_or_loads_dagster(module: str) -> None:
    """It would take each of them seconds, and a fifth of a gigabyte."""
    code = f"import sys; import {module}; print({{'scoringrules', 'numba', 'dagster'}} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def _model(name: str, vintage: date | None = None, cutoff: date | None = None, licence: str = "MIT") -> ForecastModel:
    return ForecastModel(
        model=name,
        checkpoint=f"{name}-{vintage}",
        weights=None,
        recipe={},
        trained_until=cutoff,
        load=lambda: pytest.fail("a combination reads no weights"),
        batch_size=1,
        family="test",
        licence=licence,
        vintage=vintage,
    )


def test_members_are_all_models_but_recalibrated_ones_and_the_latest_cutoff_counts(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    members = [_model("har"), _model("kronos", cutoff=date(2009, 3, 1), licence="Apache-2.0")]
    copies = [_model("har_recalibrated", cutoff=date(2012, 1, 1))]
    combined = combined_models(settings, [*members, *copies])
    assert [one.model for one in combined] == list(COMBINATIONS)
    assert all(one.trained_until == date(2009, 3, 1) and one.licence == "Apache-2.0 AND MIT" for one in combined)
    assert combined[0].checkpoint != combined[1].checkpoint
    assert combined[0].recipe["derived_from"] == {"har": "har-None", "kronos": "kronos-None"}
    alone = combined_models(settings, [members[0], *copies])
    off = Settings(home=tmp_path, calibration=CalibrationSettings(combined=False))
    assert alone == [] == combined_models(off, members)


def test_a_combination_has_the_vintages_of_its_members_and_reads_no_later_one(tmp_path: Path) -> None:
    first, second = date(2009, 1, 1), date(2010, 1, 1)
    members = [_model("har"), *(_model("kronos", one, one) for one in (first, second)), _model("mine", second)]
    combined = combined_models(Settings(home=tmp_path), members)
    by_vintage = {one.vintage: one.recipe["derived_from"] for one in combined if one.model == "combination_crps"}
    assert by_vintage == {
        first: {"har": "har-None", "kronos": f"kronos-{first}"},
        second: {"har": "har-None", "kronos": f"kronos-{second}", "mine": f"mine-{second}"},
    }
    assert {one.vintage: one.trained_until for one in combined} == {first: first, second: second}
