"""A forecast is written once, whole, possible, and never changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
from forecast_world import World

from assets.forecasting.baselines import baseline_forecasters
from assets.forecasting.forecaster import Forecaster, Predict, Prediction, Task, name_of, weights_of
from assets.forecasts import acceptance as checks
from assets.forecasts.generate import make_forecasts, whole_origins
from resources.errors import CandlecastError

FIRST, LAST = date(2011, 1, 3), date(2011, 3, 31)


def _walk(world: World) -> Forecaster:
    return baseline_forecasters(world.settings)[0]


def _everything(world: World) -> pd.DataFrame:
    return world.warehouse.frame("FROM forecast_quantiles ORDER BY ALL")


def _changed(forecaster: Forecaster, change: Callable[[Prediction], Prediction]) -> Forecaster:
    def load() -> Predict:
        predict = forecaster.load()
        return lambda tasks, targets: change(predict(tasks, targets))

    return replace(forecaster, load=load)


def test_a_forecast_once_written_is_never_changed(world: World):
    tasks = world.tasks(FIRST, LAST)
    assert make_forecasts(world.room, _walk(world), tasks[:20]).made == 20
    before = _everything(world)
    doubled = _changed(_walk(world), lambda said: replace(said, quantiles=said.quantiles * 2))
    assert make_forecasts(world.room, doubled, tasks).made == len(tasks) - 20
    after = _everything(world)
    pd.testing.assert_frame_equal(before, before.merge(after)[list(before.columns)])


def test_a_rerun_reads_no_weights_and_writes_nothing(world: World):
    tasks = world.tasks(FIRST, LAST)
    make_forecasts(world.room, _walk(world), tasks)
    before = world.warehouse.path.read_bytes()

    def load() -> Predict:
        raise AssertionError("weights were read for nothing")

    made = make_forecasts(world.room, replace(_walk(world), load=load), tasks)
    assert (made.made, made.there_before) == (0, len(tasks))
    assert world.warehouse.path.read_bytes() == before


def test_two_writers_of_the_same_forecasts_leave_them_once(world: World):
    tasks = world.tasks(FIRST, LAST)
    forecaster = _walk(world)

    def late(said: Prediction) -> Prediction:
        make_forecasts(world.room, forecaster, tasks)  # another process was faster
        return said

    assert make_forecasts(world.room, _changed(forecaster, late), tasks).made == 0
    assert checks.incomplete(world.warehouse, checks.Run(forecaster, [t.origin for t in tasks])).empty


def test_a_run_that_dies_keeps_its_batches_and_a_rerun_completes_them(world: World):
    tasks = world.tasks(FIRST, LAST)
    forecaster = replace(_walk(world), tasks_at_once=8)
    calls = 0

    def dying(said: Prediction) -> Prediction:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return said

    with pytest.raises(KeyboardInterrupt):
        make_forecasts(world.room, _changed(forecaster, dying), tasks)
    kept = _everything(world)
    assert kept[["symbol", "origin"]].drop_duplicates().shape[0] == 16
    rest = make_forecasts(world.room, forecaster, tasks)
    assert (rest.there_before, rest.made) == (16, len(tasks) - 16)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda q: np.where(np.arange(q.shape[0])[:, None, None, None] == 3, np.nan, q), "not finite"),
        (lambda q: q[..., ::-1], "fall as their level rises"),
        (lambda q: q - q.max(), "a price that is not positive"),
        (lambda q: q[:, :5], "array of shape"),
    ],
)
def test_an_impossible_forecast_is_refused_and_nothing_of_it_is_written(
    world: World, spoil: Callable[[np.ndarray], np.ndarray], words: str
):
    spoiled = _changed(_walk(world), lambda said: replace(said, quantiles=spoil(said.quantiles)))
    with pytest.raises(CandlecastError, match=words):
        make_forecasts(world.room, spoiled, world.tasks(FIRST, LAST))
    assert _everything(world).empty
    assert world.warehouse.frame("FROM forecasts").empty


def test_another_recipe_stands_beside_the_old_forecasts(world: World):
    tasks = world.tasks(FIRST, FIRST)
    make_forecasts(world.room, _walk(world), tasks)
    levels = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
    fewer = world.settings.model_copy(
        update={"forecasts": world.settings.forecasts.model_copy(update={"levels": levels})}
    )
    other = baseline_forecasters(fewer)[0]
    assert make_forecasts(replace(world.room, settings=fewer), other, tasks).made == len(tasks)
    counts = world.warehouse.frame("SELECT checkpoint, count(DISTINCT level) AS n FROM forecast_quantiles GROUP BY 1")
    assert sorted(counts["n"]) == [7, 19]
    recipes = world.warehouse.frame("FROM forecast_recipes")
    assert set(recipes["checkpoint"]) == set(counts["checkpoint"])


def test_origins_up_to_the_cutoff_are_marked_in_sample(world: World):
    cutoff = pd.Timestamp(world.origins(FIRST, LAST)[5])
    learnt = replace(_walk(world), learnt_until=cutoff.date())
    make_forecasts(world.room, learnt, world.tasks(FIRST, LAST))
    marks = world.warehouse.frame("SELECT DISTINCT origin, in_sample FROM forecast_quantiles").set_index("origin")
    assert marks.loc[cutoff, "in_sample"], "the weights have seen the day of their cutoff"
    assert (marks["in_sample"] == (marks.index <= cutoff)).all()
    assert marks["in_sample"].nunique() == 2


def test_target_dates_are_sessions_of_the_calendar(world: World):
    make_forecasts(world.room, _walk(world), world.tasks(date(2011, 12, 20), date(2011, 12, 20)))
    targets = world.warehouse.frame("SELECT DISTINCT step, target_ts FROM forecast_quantiles ORDER BY step")
    expected = world.room.calendar.sessions(date(2011, 12, 21), date(2012, 1, 31))[:10]
    assert list(targets["target_ts"]) == list(expected)  # Christmas and New Year left out
    assert list(targets["step"]) == list(range(1, 11))


def test_a_checkpoint_name_leads_back_to_the_weights(model_world: World):
    weights = model_world.checkpoints.current("kronos_predictor")
    assert weights
    name = name_of({"any": 1}, weights)
    beginning = weights_of(name)
    assert beginning
    assert model_world.checkpoints.load("kronos_predictor", beginning) == weights
    assert weights_of(name_of({"any": 1})) is None


def test_batches_never_split_an_origin(world: World):
    tasks: Sequence[Task] = world.tasks(FIRST, LAST)
    batches = list(whole_origins(tasks, 6))
    assert [task for batch in batches for task in batch] == list(tasks)
    owners = [{task.origin for task in batch} for batch in batches]
    assert sum(map(len, owners)) == len(set().union(*owners))
