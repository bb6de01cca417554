"""Derived forecasts made before the forecasts that they learn from are made again."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.evaluation.scoring import score_sessions
from assets.forecasting.calibration.models import combined_models
from assets.forecasting.forecaster import ForecastModel, ForecastTask
from assets.forecasting.registry import forecasters_by_task, forecasters_in
from assets.forecasts.generate import generate_forecasts
from assets.forecasts.missing import missing_forecasts
from resources.derived_models import COMBINATIONS
from tests.forecasts.forecast_home import ForecastHome, create_home

BASE, NAME = "random_walk", "random_walk_recalibrated"
EARLY, LATE = (date(2010, 1, 4), date(2010, 12, 30)), (date(2012, 2, 1), date(2012, 3, 30))


@pytest.fixture
def tasks(home: ForecastHome) -> tuple[list[ForecastTask], list[ForecastTask]]:
    """Those of earlier and of later origins."""
    return home.tasks(*EARLY), home.tasks(*LATE)


def _bases(home: ForecastHome) -> dict[str, ForecastModel]:
    return {one.model: one for one in forecasters_in("baseline_forecasts", home.settings, home.checkpoints)}


def _forecast(home: ForecastHome, tasks: list[ForecastTask]) -> tuple[int, int]:
    """As a run does: the model, then what is derived from it; how many derived ones were written, and replaced."""
    generate_forecasts(home.candlecast, _bases(home)[BASE], tasks)
    found = forecasters_by_task("calibrated_forecasts", home.settings, home.checkpoints, tasks)
    result = generate_forecasts(home.candlecast, next(one for one, _ in found if one.model == NAME), tasks)
    return result.created, result.replaced


def _stored(home: ForecastHome) -> pd.DataFrame:
    """The derived forecasts and their quantiles."""
    return home.warehouse.frame(
        "SELECT symbol, origin, learnt_from, step, level, value FROM forecast_quantiles q JOIN forecasts f "
        "USING (model, checkpoint, symbol, origin) WHERE model = $model ORDER BY ALL",
        {"model": NAME},
    )


def test_sessions_may_be_forecast_in_any_order(
    home: ForecastHome, tasks: tuple[list[ForecastTask], list[ForecastTask]], tmp_path: Path
) -> None:
    early, late = tasks
    ordered = create_home(tmp_path / "ordered")
    for part in (early, late):
        assert _forecast(ordered, part) == (len(part), 0)
    assert _forecast(home, late) == (len(late), 0)
    first = _stored(home)
    assert first["learnt_from"].max() < 10
    sessions = sorted({task.origin.astype("datetime64[D]").item() for task in late})
    score_sessions(home.warehouse, home.histories(), [LATE[0], date(2012, 4, 30)])
    assert _forecast(home, early) == (len(early), 0)
    lacking = missing_forecasts(home.candlecast, sessions)
    assert {date.fromisoformat(str(day)[:10]) for day in lacking["session"]} == set(sessions)
    assert _forecast(home, late) == (len(late), len(late))
    pd.testing.assert_frame_equal(_stored(home), _stored(ordered))
    assert not np.allclose(first["value"], _stored(home)["value"].tail(len(first)), rtol=1e-3)
    scored = home.warehouse.frame("SELECT DISTINCT model FROM forecast_scores")
    assert set(scored["model"]) == {BASE}, "scores of replaced forecasts are computed anew"
    assert _forecast(home, [*early, *late]) == (0, 0)


def test_a_forward_forecast_stays_once_it_has_learnt_from_half_of_the_origins(
    home: ForecastHome, tasks: tuple[list[ForecastTask], list[ForecastTask]]
) -> None:
    early, late = tasks
    for part in (early, late):
        _forecast(home, part)
    newest = _stored(home)["learnt_from"].max()
    assert 60 > newest > 40
    last = [task for task in late if task.origin == late[-1].origin]
    made_early = "UPDATE forecasts SET learnt_from = ?, made_at = origin + INTERVAL 1 HOUR WHERE model = ?"
    for learnt_from, replaced in ((40, 0), (9, len(last)), (0, len(last))):
        with home.warehouse.write() as connection:
            connection.execute(made_early, [learnt_from, NAME])
        assert _forecast(home, last)[1] == replaced


def test_a_combination_is_made_again_when_a_member_follows_and_equal_weights_learn_nothing(
    home: ForecastHome, tasks: tuple[list[ForecastTask], list[ForecastTask]]
) -> None:
    early, late = tasks
    walk, ewma = (_bases(home)[name] for name in (BASE, "random_walk_ewma"))

    def replaced() -> dict[str, int]:
        models = combined_models(home.settings, [walk, ewma])
        return {one.model: generate_forecasts(home.candlecast, one, late).replaced for one in models}

    none, all_ = dict.fromkeys(COMBINATIONS, 0), dict.fromkeys(COMBINATIONS, len(late))
    generate_forecasts(home.candlecast, walk, late)
    assert replaced() == none
    generate_forecasts(home.candlecast, walk, early)
    assert replaced() == all_ | {"combination_equal": 0}
    generate_forecasts(home.candlecast, ewma, late)
    assert replaced() == all_
    assert replaced() == none
    counts = home.warehouse.frame("SELECT model, coalesce(max(learnt_from), 0) AS n FROM forecasts GROUP BY model")
    learnt_from = dict(zip(counts["model"], counts["n"], strict=True))
    assert learnt_from["combination_equal"] == 0 and learnt_from["combination_crps"] > 40
