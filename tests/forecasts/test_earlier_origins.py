"""From how many earlier origins derived forecasts were learnt, on the page and in the check."""

from __future__ import annotations

from datetime import date

from assets.forecasting.forecaster import ForecastTask
from assets.forecasting.registry import forecasters_by_task, forecasters_in, models_of
from assets.forecasts.earlier_origins import check_earlier_origins, learnt_by_model, learnt_origins, learnt_text
from assets.forecasts.generate import ForecastResult, generate_forecasts
from tests.forecasts.forecast_home import ForecastHome

ASSET, NAME = "calibrated_forecasts", "random_walk_recalibrated"


def _forecast(home: ForecastHome, tasks: list[ForecastTask]) -> list[ForecastResult]:
    models = forecasters_in("baseline_forecasts", home.settings, home.checkpoints)
    generate_forecasts(home.candlecast, next(one for one in models if one.model == "random_walk"), tasks)
    found = forecasters_by_task(ASSET, home.settings, home.checkpoints, tasks)
    return [generate_forecasts(home.candlecast, one, tasks) for one, _ in found if one.model == NAME]


def _problem(home: ForecastHome, results: list[ForecastResult]) -> str:
    models = models_of(ASSET, home.settings, home.checkpoints)
    counts = learnt_origins(home.warehouse, results)
    found = check_earlier_origins(home.candlecast, models, results, home.histories(), counts)
    return "" if found.passed else found.description


def test_a_single_origin_says_that_it_has_learnt_nothing_and_the_history_mends_it(home: ForecastHome) -> None:
    tasks = home.tasks(home.settings.windows.validation[0], date(2013, 2, 15))
    last = tasks[-1].origin
    newest, before = ([task for task in tasks if bool(task.origin == last) is own] for own in (True, False))
    alone = _forecast(home, newest)
    counts = learnt_origins(home.warehouse, alone)
    assert counts == {NAME: 0} and "0 earlier origins" in learnt_text(alone, counts)
    planned = len({task.origin for task in before})
    problem = _problem(home, alone)
    assert f"0 of {planned} earlier origins" in problem and "candlecast run" in problem
    # What was forecast later is outdated.
    assert f"{len(newest)} forecasts from {last}" in _problem(home, _forecast(home, before))
    again = _forecast(home, newest)
    counts = learnt_origins(home.warehouse, again)
    assert counts == {NAME: planned} and f"{len(newest)} forecasts" in learnt_text(again, counts)
    assert not _problem(home, again)
    (row,) = learnt_by_model(again, counts).to_dict("records")
    assert row["earlier origins"] == planned and row["outcomes"] > 100


def test_a_run_of_models_that_are_all_blocked_has_nothing_to_check(home: ForecastHome) -> None:
    assert learnt_origins(home.warehouse, []) == {}
    assert not _problem(home, [])
