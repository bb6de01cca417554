"""The tables forecast_risk and risk_backtest of a home: what is written, what is backtested, and the checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from assets.evaluation.risk.acceptance import check_exceptions, impossible_risk
from assets.evaluation.risk.backtest_table import build_backtest, read_backtest, write_backtest
from assets.evaluation.risk.risk_table import RiskUpdate, update_risk
from assets.evaluation.scoring import score_sessions
from assets.forecasting.baselines.closed_form import baseline_forecasters
from assets.forecasting.forecaster import ForecastModel, Predict, Prediction
from assets.forecasting.path_files import paths_file
from assets.forecasts.generate import generate_forecasts
from assets.forecasts.sample_paths import write_paths
from resources.settings import Settings
from tests.forecasts.forecast_home import ForecastHome

FIRST, LAST = date(2012, 1, 3), date(2012, 9, 28)
Change = Callable[[Prediction], Prediction]


def _walk(home: ForecastHome) -> ForecastModel:
    return next(one for one in baseline_forecasters(home.settings) if one.model == "random_walk_ewma")


def _used(home: ForecastHome, others: Mapping[str, str]) -> dict[str, str]:
    return {**{one.model: one.checkpoint for one in baseline_forecasters(home.settings)}, **others}


def _add_model(home: ForecastHome, name: str, change: Change) -> None:
    """Add the forecasts of a model that changes those of the EWMA walk."""
    walk = _walk(home)

    def load() -> Predict:
        predict = walk.load()
        return lambda tasks, targets: change(predict(tasks, targets))

    changed = replace(walk, model=name, checkpoint="c", load=load)
    generate_forecasts(home.candlecast, changed, home.tasks(FIRST, LAST))


def _update(home: ForecastHome, **others: str) -> RiskUpdate:
    score_sessions(home.warehouse, home.histories(), [FIRST, date(2012, 10, 12)])
    return update_risk(home.candlecast, _used(home, others))


def _row(backtest: pd.DataFrame, model: str, measure: str, step: int = 10, level: float = 0.05) -> pd.Series:
    wanted = {"model": model, "measure": measure, "step": step, "level": level}
    chosen = backtest[(backtest[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    assert len(chosen) == 1
    return chosen.iloc[0]


def _widened(factor: float) -> Change:
    def change(prediction: Prediction) -> Prediction:
        median = prediction.quantiles[..., 9:10]
        return replace(prediction, quantiles=median * (prediction.quantiles / median) ** factor)

    return change


def test_value_at_risk_is_the_stored_quantile_and_a_second_update_writes_nothing(home: ForecastHome) -> None:
    first = _update(home)
    found = home.warehouse.frame(
        "SELECT r.value, -ln(q.value / b.close) AS loss FROM forecast_risk r "
        "JOIN forecast_quantiles q USING (model, checkpoint, symbol, origin, step, target_ts) "
        "JOIN bars b ON b.symbol = r.symbol AND b.ts = r.origin "
        "WHERE r.measure = 'var' AND q.level = 0.05 AND q.field = 'close' AND r.step IN (1, 5, 10)"
    )
    forecasts = int(home.warehouse.frame("SELECT count(*) AS n FROM forecasts")["n"][0])
    assert len(found) == 3 * forecasts > 100
    np.testing.assert_allclose(found["value"], found["loss"], rtol=1e-12)
    before = home.warehouse.frame("SELECT rowid, * FROM forecast_risk ORDER BY rowid")
    assert _update(home) == first
    assert home.warehouse.frame("SELECT rowid, * FROM forecast_risk ORDER BY rowid").equals(before)
    assert impossible_risk(home.warehouse).empty


def test_other_settings_replace_the_measures(home: ForecastHome) -> None:
    _update(home)
    narrow = home.with_settings(risk={"steps": (2, 30), "levels": (0.01, 0.12)})
    update_risk(narrow.candlecast, {"drift": _used(home, {})["drift"]})
    found = home.warehouse.frame("SELECT DISTINCT model, step, measure, level, method FROM forecast_risk ORDER BY ALL")
    assert set(found["model"]) == {"drift"} and set(found["step"]) == {2}
    assert set(zip(found["measure"], found["level"], strict=True)) == {
        (m, v) for m in ("es", "var") for v in (0.01, 0.12)
    }
    assert impossible_risk(home.warehouse).empty


def test_damaged_deleted_doubled_and_foreign_rows_are_mended(home: ForecastHome) -> None:
    first = _update(home)
    losses = "SELECT * FROM forecast_risk WHERE measure IN ('var', 'es') ORDER BY ALL"
    before = home.warehouse.frame(losses)
    with home.warehouse.write() as connection:
        connection.execute("UPDATE forecast_risk SET value = value + 1e-9 WHERE model = 'drift' AND step = 5")
        connection.execute("UPDATE forecast_risk SET method = 'student' WHERE model = 'momentum' AND measure = 'var'")
        connection.execute("DELETE FROM forecast_risk WHERE model = 'random_walk' AND origin < '2012-03-01'")
        connection.execute("INSERT INTO forecast_risk FROM forecast_risk WHERE model = 'random_walk' AND step = 1")
        connection.execute("UPDATE forecast_risk SET symbol = 'NONE' WHERE model = 'drift' AND step = 10")
    assert not home.warehouse.frame(losses).equals(before)
    assert _update(home) == first
    assert home.warehouse.frame(losses).equals(before)


def test_impossible_rows_are_found(home: ForecastHome) -> None:
    _update(home)
    with home.warehouse.write() as connection:
        connection.execute("UPDATE forecast_risk SET value = -1 WHERE measure = 'es' AND model = 'drift' AND step = 5")
        connection.execute("INSERT INTO forecast_risk FROM forecast_risk WHERE model = 'momentum' AND measure = 'var'")
    wrong = impossible_risk(home.warehouse)
    assert set(zip(wrong["model"], wrong["measure"], strict=True)) == {("drift", "es"), ("momentum", "var")}


def test_a_model_with_too_narrow_a_tail_is_rejected_and_the_check_warns(home: ForecastHome) -> None:
    _add_model(home, "narrow", _widened(0.5))
    _update(home, narrow="c")
    write_backtest(home.warehouse, build_backtest(home.candlecast).rows)
    backtest = read_backtest(home.warehouse)
    narrow, walk = _row(backtest, "narrow", "var", 1), _row(backtest, "random_walk_ewma", "var", 1)
    assert narrow["kupiec_p"] < 1e-4 < walk["kupiec_p"]
    assert narrow["skill"] < 0 and np.isnan(walk["skill"])
    assert narrow["baseline_score"] == pytest.approx(walk["score"])
    assert _row(backtest, "narrow", "es", 1)["es_z"] < -1
    # Origins five sessions apart: of ten-step forecasts every second one is left.
    far = _row(backtest, "narrow", "var", 10)
    assert far["n"] == pytest.approx(far["forecasts"] / 2, abs=5)
    with home.warehouse.write() as connection:
        connection.execute(
            "INSERT INTO scoreboard BY NAME SELECT 'narrow' AS model, 'crps' AS metric, 0 AS horizon, 1.0 AS value, "
            "9 AS n, 'random_walk_ewma' AS baseline, 0.1 AS skill, 'better' AS verdict"
        )
    outcome = check_exceptions(home.warehouse)
    assert not outcome.passed
    assert outcome.description.startswith("narrow") and "step 1" in outcome.description


def test_outcomes_after_an_origin_do_not_change_its_measures(home: ForecastHome) -> None:
    """Five symbols have few exceptions: forecasts of a tenth of the width have thirty soon."""
    _add_model(home, "narrow", _widened(0.1))
    _update(home, narrow="c")
    measures = "SELECT * FROM forecast_risk WHERE model = 'narrow' AND origin <= '2012-06-01' ORDER BY ALL"
    before = home.warehouse.frame(measures)
    assert "outcomes" in set(before["method"])
    with home.warehouse.write() as connection:
        targets = "SELECT symbol, origin, step, target_ts FROM forecast_quantiles"
        connection.execute(
            f"UPDATE scored_actuals a SET actual = a.last_close / 2 FROM ({targets}) t WHERE t.symbol = a.symbol AND "
            "t.origin = a.origin AND t.step = a.step AND t.target_ts > '2012-06-01'"
        )
    update_risk(home.candlecast, _used(home, {"narrow": "c"}))
    assert home.warehouse.frame(measures).equals(before)


def test_probabilities_of_paths_are_mapped_to_derived_models_and_backtested(home: ForecastHome) -> None:
    generator = np.random.default_rng(2)
    _add_model(home, "walks", _widened(1.0))
    _add_model(home, "walks_recalibrated", _widened(3.0))
    tasks, folder = home.tasks(FIRST, LAST), home.candlecast.home
    for origin in sorted({task.origin for task in tasks}):
        own = [task for task in tasks if task.origin == origin]
        noise = np.exp(0.015 * generator.standard_normal((len(own), 40, 10)).cumsum(axis=2))
        closes = np.array([task.history.closes_as_of(task.index)[-1] for task in own])[:, None, None] * noise
        bars = np.stack([closes, closes * 1.004, closes * 0.996, closes, closes, closes], axis=-1)
        write_paths(paths_file(folder, "walks", "c", origin), [task.symbol for task in own], bars.astype(np.float32))
    found = _update(home, walks="c", walks_recalibrated="c")
    assert found.without_paths == ()
    mean = home.warehouse.frame(
        "SELECT model, avg(value) AS value, min(outcomes) AS paths, count(*) AS n FROM forecast_risk "
        "WHERE measure = 'touch' GROUP BY model ORDER BY model"
    )
    assert mean["model"].tolist() == ["walks", "walks_recalibrated"]
    assert mean["value"][1] > mean["value"][0] + 0.2 and set(mean["paths"]) == {40}
    assert set(mean["n"]) == {2 * len(tasks)}
    backtest = build_backtest(home.candlecast).rows
    wide, right = (_row(backtest, model, "touch", level=-0.05) for model in ("walks_recalibrated", "walks"))
    assert wide["expected"] > 2 * wide["exceptions"] and wide["skill"] < right["skill"]
    assert wide["reliability"] > right["reliability"] and set(backtest["baseline"].dropna()) >= {"base_rate"}
    damaged = paths_file(folder, "walks", "c", tasks[0].origin)
    damaged.write_bytes(b"")
    assert update_risk(home.candlecast, _used(home, {"walks": "c", "walks_recalibrated": "c"})) == found
    more = home.with_settings(risk={"touches": (0.03,)})
    again = update_risk(more.candlecast, _used(home, {"walks": "c", "walks_recalibrated": "c"}))
    assert again.without_paths == (tasks[0].origin,)
    levels = home.warehouse.frame("SELECT DISTINCT level FROM forecast_risk WHERE measure = 'touch' ORDER BY level")
    assert levels["level"].tolist() == [-0.03, 0.03]


def test_steps_beyond_the_horizon_are_refused_where_none_is_left() -> None:
    with pytest.raises(ValidationError, match=r"risk\.steps"):
        Settings.model_validate({"risk": {"steps": (20,)}, "windows": {"predict_window": 10}})
    for key, values in {"levels": (0.5,), "drawdowns": (0.0,), "touches": (0.1, 0.1), "steps": ()}.items():
        with pytest.raises(ValidationError, match=key):
            Settings.model_validate({"risk": {key: values}})
