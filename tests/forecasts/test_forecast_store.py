"""The forecast store: a forecast is valid, complete, written once and never changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from assets.forecasting.baselines.closed_form import baseline_forecasters
from assets.forecasting.forecaster import ForecastModel, ForecastTask, Predict, Prediction, forecast_checkpoint
from assets.forecasting.registry import forecasters_by_task
from assets.forecasts import acceptance, generate, summary
from assets.forecasts.attempts import Attempt
from assets.forecasts.batches import batches_by_origin
from assets.forecasts.forecast_store import NewForecasts, write_forecasts
from assets.forecasts.generate import generate_forecasts
from assets.forecasts.missing import missing_forecasts
from resources.errors import CandlecastError
from resources.warehouse import Warehouse
from tests.forecasts.forecast_home import ForecastHome

FIRST, LAST = date(2011, 1, 3), date(2011, 3, 31)


def _walk(home: ForecastHome) -> ForecastModel:
    return baseline_forecasters(home.settings)[0]


def _everything(home: ForecastHome) -> pd.DataFrame:
    return home.warehouse.frame("FROM forecast_quantiles ORDER BY ALL")


def _changed(forecaster: ForecastModel, change: Callable[[Prediction], Prediction]) -> ForecastModel:
    def load() -> Predict:
        predict = forecaster.load()
        return lambda tasks, targets: change(predict(tasks, targets))

    return replace(forecaster, load=load)


def test_a_forecast_once_written_is_never_changed(home: ForecastHome) -> None:
    tasks = home.tasks(FIRST, LAST)
    assert generate_forecasts(home.candlecast, _walk(home), tasks[:20]).created == 20
    before = _everything(home)
    doubled = _changed(_walk(home), lambda prediction: replace(prediction, quantiles=prediction.quantiles * 2))
    assert generate_forecasts(home.candlecast, doubled, tasks).created == len(tasks) - 20
    after = _everything(home)
    pd.testing.assert_frame_equal(before, before.merge(after)[list(before.columns)])


def test_a_rerun_reads_no_weights_and_writes_nothing(home: ForecastHome) -> None:
    tasks = home.tasks(FIRST, LAST)
    generate_forecasts(home.candlecast, _walk(home), tasks)
    before = home.warehouse.path.read_bytes()

    def load() -> Predict:
        raise AssertionError("weights were read for nothing")

    made = generate_forecasts(home.candlecast, replace(_walk(home), load=load), tasks)
    assert (made.created, made.existing) == (0, len(tasks))
    assert home.warehouse.path.read_bytes() == before


def test_a_cutoff_that_becomes_known_marks_the_stored_forecasts_and_changes_none(home: ForecastHome) -> None:
    tasks = home.tasks(FIRST, LAST)
    unknown = replace(_walk(home), trained_until=date.max)
    generate_forecasts(home.candlecast, unknown, tasks)
    before = _everything(home)
    assert before["in_sample"].all()
    bounded = replace(unknown, trained_until=date(2011, 2, 15))
    assert generate_forecasts(home.candlecast, bounded, tasks).created == 0
    after = _everything(home)
    in_sample = after["origin"] < pd.Timestamp("2011-02-16")
    assert 0 < in_sample.sum() < len(after)
    assert (after["in_sample"] == in_sample).all()
    pd.testing.assert_frame_equal(before.drop(columns="in_sample"), after.drop(columns="in_sample"))
    stored = home.warehouse.frame("SELECT in_sample, origin FROM forecasts")
    assert (stored["in_sample"] == (stored["origin"] < pd.Timestamp("2011-02-16"))).all()


def test_two_writers_of_the_same_forecasts_leave_them_once(home: ForecastHome) -> None:
    tasks = home.tasks(FIRST, LAST)
    forecaster = _walk(home)

    def late(prediction: Prediction) -> Prediction:
        generate_forecasts(home.candlecast, forecaster, tasks)  # another process was faster
        return prediction

    assert generate_forecasts(home.candlecast, _changed(forecaster, late), tasks).created == 0
    run = summary.ForecastRange(forecaster, [task.origin for task in tasks])
    assert acceptance.incomplete(home.warehouse, [run])[0].empty


def test_a_run_that_dies_keeps_its_batches_and_a_rerun_completes_them(home: ForecastHome) -> None:
    tasks = home.tasks(FIRST, LAST)
    forecaster = replace(_walk(home), batch_size=8)
    calls = 0

    def dying(prediction: Prediction) -> Prediction:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return prediction

    with pytest.raises(KeyboardInterrupt):
        generate_forecasts(home.candlecast, _changed(forecaster, dying), tasks)
    kept = _everything(home)
    assert kept[["symbol", "origin"]].drop_duplicates().shape[0] == 16
    rest = generate_forecasts(home.candlecast, forecaster, tasks)
    assert (rest.existing, rest.created) == (16, len(tasks) - 16)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda q: np.where(np.arange(10)[:, None, None] == 6, np.nan, q), "not finite, close at step 7"),
        (lambda q: q[..., ::-1], "quantiles that decrease"),
        (lambda q: q - q.max(), "a price that is not positive"),
    ],
)
def test_an_impossible_forecast_is_left_out_with_its_reason_and_the_others_are_written(
    home: ForecastHome, spoil: Callable[[np.ndarray], np.ndarray], problem: str
) -> None:
    def spoiled(prediction: Prediction) -> Prediction:
        third = np.arange(len(prediction.quantiles))[:, None, None, None] == 3
        return replace(prediction, quantiles=np.where(third, spoil(prediction.quantiles), prediction.quantiles))

    tasks = home.tasks(FIRST, LAST)
    result = generate_forecasts(home.candlecast, _changed(_walk(home), spoiled), tasks)
    (failed,) = result.failures
    assert failed.task == tasks[3] and problem in failed.reason
    assert (result.created, len(result.forecast)) == (len(tasks) - 1, len(tasks) - 1)
    found = home.warehouse.frame("FROM forecasts")
    assert not ((found["symbol"] == tasks[3].symbol) & (found["origin"] == tasks[3].origin)).any()
    recorded = home.warehouse.frame("FROM failed_forecasts")
    assert list(recorded["reason"]) == [failed.reason] and list(recorded["symbol"]) == [tasks[3].symbol]
    rest = generate_forecasts(home.candlecast, _walk(home), tasks)
    assert (rest.created, rest.existing, rest.failures) == (1, len(tasks) - 1, [])
    assert home.warehouse.frame("FROM failed_forecasts").empty
    assert acceptance.check_failures([rest]).passed and not acceptance.check_failures([result]).passed


def test_a_forecast_that_failed_is_missing_again_by_another_checkpoint_or_from_later_bars(home: ForecastHome) -> None:
    def failing(prediction: Prediction) -> Prediction:
        return replace(prediction, failures=dict.fromkeys(range(len(prediction.quantiles)), "too quiet"))

    def missing() -> list[str]:
        found = missing_forecasts(home.candlecast, [FIRST])
        return list(found.loc[found["asset"] == "baseline_forecasts", "symbol"])

    every, tasks = missing(), home.tasks(FIRST, FIRST)
    assert every
    baselines = forecasters_by_task("baseline_forecasts", home.settings, home.checkpoints, tasks)
    for model, _ in baselines:
        own = _changed(model, failing) if model.model == "random_walk" else model
        generate_forecasts(home.candlecast, own, tasks)
    assert not missing()

    def symbols_after(change: str) -> list[str]:
        with home.warehouse.write() as connection:
            connection.execute(change)
        return missing()

    later = "UPDATE bars SET available_at = now()::TIMESTAMP + INTERVAL 1 DAY"
    assert symbols_after(f"{later} WHERE session > DATE '{FIRST}'") == []
    assert symbols_after(f"{later} WHERE session = DATE '{FIRST}' AND symbol = 'IBM'") == ["IBM"]
    assert symbols_after("UPDATE failed_forecasts SET checkpoint = 'earlier'") == every


def test_a_forecast_of_another_shape_is_refused(home: ForecastHome) -> None:
    short = _changed(_walk(home), lambda prediction: replace(prediction, quantiles=prediction.quantiles[:, :5]))
    with pytest.raises(CandlecastError, match="of shape"):
        generate_forecasts(home.candlecast, short, home.tasks(FIRST, LAST))
    assert home.warehouse.frame("FROM forecasts").empty


def test_a_bar_whose_close_is_above_its_high_is_left_out(home: ForecastHome) -> None:
    def as_bars(prediction: Prediction) -> Prediction:
        quantiles = np.repeat(prediction.quantiles, 2, axis=2)
        quantiles[2, 4, 0] -= 1
        return replace(prediction, fields=("high", "close"), quantiles=quantiles)

    (failed,) = generate_forecasts(home.candlecast, _changed(_walk(home), as_bars), home.tasks(FIRST, LAST)).failures
    assert "close at step 5" in failed.reason


def test_time_and_memory_of_forecasts_are_recorded(home: ForecastHome) -> None:
    tasks = home.tasks(FIRST, LAST)

    def slow(prediction: Prediction) -> Prediction:
        time.sleep(0.05)
        return prediction

    cost = generate_forecasts(home.candlecast, _changed(_walk(home), slow), tasks).cost
    assert cost is not None and cost.forecasts == len(tasks) and cost.seconds > 0.05
    (row,) = home.warehouse.frame("FROM forecast_costs").to_dict("records")
    assert row["seconds"] == cost.seconds and row["peak_mib"] > row["added_mib"] >= 0


def test_another_recipe_stands_beside_the_old_forecasts(home: ForecastHome) -> None:
    tasks = home.tasks(FIRST, FIRST)
    generate_forecasts(home.candlecast, _walk(home), tasks)
    levels = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
    fewer = home.with_settings(forecasts={"levels": levels})
    other = baseline_forecasters(fewer.settings)[0]
    assert generate_forecasts(fewer.candlecast, other, tasks).created == len(tasks)
    counts = home.warehouse.frame("SELECT checkpoint, count(DISTINCT level) AS n FROM forecast_quantiles GROUP BY 1")
    assert sorted(counts["n"]) == [7, 19]
    recipes = home.warehouse.frame("FROM forecast_recipes")
    assert set(recipes["checkpoint"]) == set(counts["checkpoint"])


def test_origins_up_to_the_cutoff_are_marked_in_sample(home: ForecastHome) -> None:
    cutoff = pd.Timestamp(home.origins(FIRST, LAST)[5])
    trained = replace(_walk(home), trained_until=cutoff.date())
    generate_forecasts(home.candlecast, trained, home.tasks(FIRST, LAST))
    marks = home.warehouse.frame("SELECT DISTINCT origin, in_sample FROM forecast_quantiles").set_index("origin")
    assert marks.loc[cutoff, "in_sample"], "the day of the cutoff is in-sample"
    assert (marks["in_sample"] == (marks.index <= cutoff)).all()
    assert marks["in_sample"].nunique() == 2


def test_target_dates_are_sessions_of_the_calendar(home: ForecastHome) -> None:
    generate_forecasts(home.candlecast, _walk(home), home.tasks(date(2011, 12, 20), date(2011, 12, 20)))
    targets = home.warehouse.frame("SELECT DISTINCT step, target_ts FROM forecast_quantiles ORDER BY step")
    expected = home.candlecast.calendar.sessions(date(2011, 12, 21), date(2012, 1, 31))[:10]
    assert list(targets["target_ts"]) == list(expected)  # Christmas and New Year left out
    assert list(targets["step"]) == list(range(1, 11))


def test_a_checkpoint_name_leads_back_to_the_weights(model_home: ForecastHome) -> None:
    weights = model_home.checkpoints.current("kronos_predictor")
    assert weights
    name = forecast_checkpoint({"any": 1}, weights)
    digest, dash, _ = name.partition("-")
    assert model_home.checkpoints.load("kronos_predictor", digest) == weights
    assert dash and "-" not in forecast_checkpoint({"any": 1})


def test_batches_never_split_an_origin(home: ForecastHome) -> None:
    tasks: Sequence[ForecastTask] = home.tasks(FIRST, LAST)
    batches = list(batches_by_origin(tasks, 6))
    assert [task for batch in batches for task in batch] == list(tasks)
    owners = [{task.origin for task in batch} for batch in batches]
    assert sum(map(len, owners)) == len(set().union(*owners))


def test_what_is_wrong_is_found_in_each_of_several_models(home: ForecastHome, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = home.tasks(FIRST, LAST)
    models = baseline_forecasters(home.settings)
    results = [generate_forecasts(home.candlecast, one, tasks) for one in models]
    at = f"symbol = 'IBM' AND origin = TIMESTAMP '{tasks[0].origin}'"
    planted = {
        "random_walk": f"UPDATE forecast_quantiles SET value = 'nan' WHERE step = 3 AND level = 0.5 AND {at}",
        "random_walk_ewma": f"UPDATE forecast_quantiles SET value = -value WHERE step = 3 AND {at}",
        "drift": f"DELETE FROM forecast_quantiles WHERE step = 3 AND level = 0.5 AND {at}",
        "momentum": "UPDATE forecast_quantiles SET value = value * 1.2 WHERE step = 3 AND level = 0.95",
    }
    with home.warehouse.write() as connection:
        for model, change in planted.items():
            connection.execute(f"{change} AND model = '{model}'")
    expected = {
        "complete": ["drift"],
        "finite_and_ordered": ["random_walk", "random_walk_ewma"],
        "physically_possible": ["random_walk_ewma"],
        "bands_widen": ["momentum"],
    }
    # All models by one query, and each by its own.
    for most in (summary.MOST_TOGETHER * 100, 0):
        monkeypatch.setattr(summary, "MOST_TOGETHER", most)
        outcomes = acceptance.check_forecasts(home.candlecast, results, {})
        for name, found in outcomes.items():
            named = [part.partition(":")[0] for part in found.description.split("; ") if not found.passed]
            assert [one for one in planted if one in named] == expected.get(name, []), (name, found.description)


def test_quick_models_are_stored_together_and_what_they_derive_from_before(
    home: ForecastHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[list[str]] = []

    def recorded(warehouse: Warehouse, new: Sequence[NewForecasts], attempts: Sequence[Attempt] = ()) -> list[int]:
        stored.append([one.forecaster.model for one in new])
        return write_forecasts(warehouse, new, attempts)

    monkeypatch.setattr(generate, "write_forecasts", recorded)
    monkeypatch.setattr(generate, "HOLD_SECONDS", 60)
    tasks = home.tasks(FIRST, LAST)
    models = [(one, tasks) for one in baseline_forecasters(home.settings)]
    derived = replace(models[2][0], recipe={**models[2][0].recipe, "derived_from": {"random_walk": "any"}})
    in_batches = replace(models[3][0], batch_size=len(tasks) - 5)
    found = generate.generate_all(home.candlecast, [*models[:2], (derived, tasks), (in_batches, tasks)])
    assert stored == [["random_walk", "random_walk_ewma"], ["drift", "momentum"], ["momentum"]]
    assert [one.created for one in found] == [len(tasks)] * 4
    costs = home.warehouse.frame("FROM forecast_costs")
    assert sorted(costs["model"]) == sorted(one.model for one, _ in models)
    counts = home.warehouse.frame("SELECT model, count(*) AS n FROM forecasts GROUP BY model")
    assert set(counts["n"]) == {len(tasks)}
    stored.clear()
    monkeypatch.setattr(generate, "MOST_HELD", 2 * len(tasks))
    others = [(replace(one, checkpoint="another"), own) for one, own in models]
    generate.generate_all(home.candlecast, others)
    assert [len(one) for one in stored] == [2, 2]


def test_a_model_that_cannot_be_loaded_loses_nothing_of_those_before_it(home: ForecastHome) -> None:
    def load() -> Predict:
        raise CandlecastError("no weights")

    def failing(prediction: Prediction) -> Prediction:
        return replace(prediction, failures={0: "too quiet"})

    tasks = home.tasks(FIRST, LAST)
    first, second, *_ = baseline_forecasters(home.settings)
    models = [(_changed(first, failing), tasks), (replace(second, load=load), tasks)]
    with pytest.raises(CandlecastError, match="no weights"):
        generate.generate_all(home.candlecast, models)
    assert len(home.warehouse.frame("FROM forecasts")) == len(tasks) - 1
    assert list(home.warehouse.frame("FROM failed_forecasts")["reason"]) == ["too quiet"]
    assert list(home.warehouse.frame("FROM forecast_costs")["model"]) == [first.model]
