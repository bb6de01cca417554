"""The scoreboard: which forecasts it compares, its skills, intervals and verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from assets.evaluation.acceptance import check_models_compared
from assets.evaluation.origin_times import OriginTimes
from assets.evaluation.score_queries import corrected_since, means_by_step, paired_scores, pit_values
from assets.evaluation.scoreboard import (
    build_scoreboard,
    compute_scoreboard,
    origins_text,
    read_scoreboard,
    scoreboard_horizons,
    write_scoreboard,
)
from assets.evaluation.scoring import score_sessions
from assets.forecasting.baselines.closed_form import baseline_forecasters
from assets.forecasting.filters import ForecastFilter
from assets.forecasting.forecaster import ForecastModel, ForecastTask, Predict, Prediction
from assets.forecasting.verdict import verdict_text
from assets.forecasts.generate import generate_forecasts
from resources.calendar import TradingCalendar
from resources.settings import EvaluationSettings, Settings
from tests.forecasts.forecast_home import ForecastHome

FIRST, LAST = date(2012, 1, 3), date(2012, 9, 28)
QUICK = EvaluationSettings(bootstrap_draws=200)


def _weekly(origins: int) -> OriginTimes:
    """Origins five sessions apart, with a horizon of ten."""
    return OriginTimes(np.arange(origins) * 5.0, horizon=10, every=5)


def _paired(value: Callable[[np.ndarray], np.ndarray], metric: str = "crps", origins: int = 60) -> pd.DataFrame:
    other = np.random.default_rng(0).lognormal(0, 0.5, origins)
    stamps = pd.date_range("2012-01-02", periods=origins, freq="7D")
    common = {"model": "kronos", "metric": metric, "horizon": 0, "baseline": "random_walk_ewma", "origin": stamps}
    return pd.DataFrame({**common, "value": value(other), "baseline_value": other})


def _with_model(
    home: ForecastHome, change: Callable[[Prediction], Prediction], until: date | None = None
) -> dict[str, str]:
    """Add a model `kronos` with the EWMA walk's predictions, changed; score all; return the checkpoints to compare."""
    walk = next(f for f in baseline_forecasters(home.settings) if f.model == "random_walk_ewma")

    def load() -> Predict:
        predict = walk.load()
        return lambda tasks, targets: change(predict(tasks, targets))

    changed: ForecastModel = replace(walk, model="kronos", checkpoint="c", load=load, trained_until=until)
    generate_forecasts(home.candlecast, changed, home.tasks(FIRST, LAST))
    score_sessions(home.warehouse, home.histories(), [FIRST, date(2012, 10, 12)])
    return {"kronos": "c", **{f.model: f.checkpoint for f in baseline_forecasters(home.settings)}}


def _row(scoreboard: pd.DataFrame, metric: str, baseline: str = "random_walk_ewma", horizon: int = 0) -> pd.Series:
    keys = {"model": "kronos", "metric": metric, "horizon": horizon, "baseline": baseline}
    chosen = scoreboard[(scoreboard[list(keys)] == pd.Series(keys)).all(axis=1)]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_a_model_with_the_predictions_of_the_baseline_has_a_skill_of_zero(home: ForecastHome) -> None:
    used = _with_model(home, lambda prediction: prediction)
    compared = build_scoreboard(home.warehouse, home.settings, used, home.candlecast.calendar)
    row = _row(compared.scoreboard, "crps")
    assert (row["skill"], row["skill_low"], row["skill_high"]) == (0, 0, 0)
    assert row["verdict"] == "no difference shown"
    assert verdict_text(compared.scoreboard)[0].startswith("No model beats")


def test_a_model_with_too_narrow_intervals_is_worse_and_covers_too_little(home: ForecastHome) -> None:
    def narrowed(prediction: Prediction) -> Prediction:
        median = prediction.quantiles[..., 9:10]
        return replace(prediction, quantiles=median + (prediction.quantiles - median) * 0.2)

    used = _with_model(home, narrowed)
    compared = build_scoreboard(home.warehouse, home.settings, used, home.candlecast.calendar)
    assert _row(compared.scoreboard, "crps")["verdict"] == "worse"
    coverage = _row(compared.scoreboard, "coverage_90")
    assert coverage["value"] < 0.5
    assert coverage["verdict"] == "worse"


def test_a_model_that_knows_the_future_is_better(home: ForecastHome) -> None:
    histories = home.histories()
    walk = next(f for f in baseline_forecasters(home.settings) if f.model == "random_walk_ewma")

    def load() -> Predict:
        predict = walk.load()

        def predict_actuals(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
            prediction = predict(tasks, targets)
            ahead = np.stack([histories[t.symbol].closes_as_of(t.index, t.index + 1, t.index + 10) for t in tasks])
            ratio = ahead / prediction.quantiles[:, :, 0, 9]
            return replace(prediction, quantiles=prediction.quantiles * ratio[:, :, None, None])

        return predict_actuals

    perfect = replace(walk, model="kronos", checkpoint="c", load=load)
    generate_forecasts(home.candlecast, perfect, home.tasks(FIRST, LAST))
    score_sessions(home.warehouse, histories, [FIRST, date(2012, 10, 12)])
    used = {"kronos": "c", **{f.model: f.checkpoint for f in baseline_forecasters(home.settings)}}
    board = build_scoreboard(home.warehouse, home.settings, used, home.candlecast.calendar).scoreboard
    assert _row(board, "crps")["verdict"] == "better"
    assert _row(board, "direction", "random_walk")["value"] == 1
    assert _row(board, "rank_ic", "random_walk")["value"] == 1
    assert verdict_text(board)[0].startswith("Kronos beats")


def test_in_sample_forecasts_are_left_out_and_counted(home: ForecastHome) -> None:
    used = _with_model(home, lambda prediction: prediction, until=date(2012, 5, 31))
    compared = build_scoreboard(home.warehouse, home.settings, used, home.candlecast.calendar)
    counts = compared.counts.set_index("model")
    assert counts["in_sample"]["kronos"] > 0
    assert counts.loc["drift", "in_sample"] == 0
    assert counts.loc["kronos"].sum() == counts.loc["drift"].sum()
    assert _row(compared.scoreboard, "crps")["n"] == counts.loc["kronos", "out_of_sample"]


def test_forecasts_outside_the_filter_of_the_settings_are_excluded(home: ForecastHome) -> None:
    """The result is that of a home without the other symbols and the origins before the test range."""
    used = _with_model(home, lambda prediction: prediction)
    narrow = home.with_settings(
        market={"symbols": ("AAPL", "ibm", "MSFT")},
        windows={"test": (date(2012, 4, 2), date(2012, 6, 29))},
        forecasts={"every": 1},
    ).settings
    warehouse, calendar = home.warehouse, home.candlecast.calendar
    everything = build_scoreboard(warehouse, home.settings, used, calendar)
    found = build_scoreboard(warehouse, narrow, used, calendar)
    assert found.scoreboard["n"].max() < everything.scoreboard["n"].max()
    with warehouse.write() as connection:
        for table in ("forecasts", "forecast_quantiles"):
            connection.execute(f"DELETE FROM {table} WHERE symbol IN ('FB', 'GOOG') OR origin < DATE '2012-04-02'")
        for table in ("forecast_scores", "scored_actuals"):
            connection.execute(f"DELETE FROM {table}")
    score_sessions(warehouse, home.histories(), [FIRST, date(2012, 10, 12)])
    alone = build_scoreboard(warehouse, home.settings, used, calendar)
    for name in ("scoreboard", "counts", "by_step"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(alone, name))
    assert sorted(found.pits["pit"]) == sorted(alone.pits["pit"])
    assert {"rank_ic", "crps"} <= set(found.scoreboard["metric"])
    origins = set(paired_scores(warehouse, used, [0], ForecastFilter.of(narrow, warehouse))["origin"])
    assert pd.Timestamp("2012-09-24") in origins, "forecasts after the test range are included"


def test_origins_that_the_settings_do_not_plan_are_excluded(home: ForecastHome) -> None:
    """Whoever picks an origin by hand could pick the result."""
    used = _with_model(home, lambda prediction: prediction)
    warehouse, calendar = home.warehouse, home.candlecast.calendar
    before = build_scoreboard(warehouse, home.settings, used, calendar)
    with warehouse.write() as connection:
        for table, worse in (("forecasts", ""), ("forecast_scores", ", value * 9 AS value")):
            connection.execute(
                f"INSERT INTO {table} SELECT * REPLACE (origin + INTERVAL 1 DAY AS origin{worse}) FROM {table} "
                "WHERE origin IN (SELECT max(origin) FROM forecasts WHERE dayofweek(origin) = 2)"
            )
    after = build_scoreboard(warehouse, home.settings, used, calendar)
    for name in ("scoreboard", "counts", "by_step"):
        pd.testing.assert_frame_equal(getattr(before, name), getattr(after, name))


def test_a_model_without_a_known_cutoff_is_not_on_the_scoreboard(home: ForecastHome) -> None:
    used = _with_model(home, lambda prediction: prediction, until=date.max)
    compared = build_scoreboard(home.warehouse, home.settings, used, home.candlecast.calendar)
    assert "kronos" not in set(compared.scoreboard["model"])
    assert set(compared.scoreboard["model"]) == {"random_walk", "random_walk_ewma", "drift", "momentum"}


def test_origins_that_were_forecast_before_their_targets_are_counted(home: ForecastHome) -> None:
    used = _with_model(home, lambda prediction: prediction)
    origins = home.warehouse.frame("SELECT DISTINCT origin FROM forecasts WHERE model = 'kronos' ORDER BY origin")
    with home.warehouse.write() as connection:
        # Two on the evening of the origin; one after the first of its ten targets' sessions had begun.
        for origin, hours in zip(origins["origin"][:3], (22, 22, 7 * 24), strict=True):
            made = f"UPDATE forecasts SET made_at = $origin + INTERVAL {hours} HOUR WHERE model = 'kronos'"
            connection.execute(f"{made} AND origin = $origin", {"origin": origin})
    compared = build_scoreboard(home.warehouse, home.settings, used, home.candlecast.calendar)
    forward = [_row(compared.scoreboard, "crps", horizon=horizon)["forward"] for horizon in (0, 1, 10)]
    assert forward == [2, 2, 3]
    counts = compared.counts.set_index("model")["forward"]
    assert counts["kronos"] == 2 and counts.drop("kronos").eq(0).all()
    assert "kronos" in origins_text(compared.counts) and "2 forward" in origins_text(compared.counts)


def test_a_model_whose_origins_are_all_in_sample_is_named_with_the_setting(home: ForecastHome) -> None:
    used = _with_model(home, lambda prediction: prediction, until=date.max)
    board = build_scoreboard(home.warehouse, home.settings, used, home.candlecast.calendar).scoreboard
    write_scoreboard(home.warehouse, board)
    outcome = check_models_compared(home.warehouse, used)
    assert not outcome.passed
    assert all(text in outcome.description for text in ("kronos", "2012-09", "in-sample", "predictor.published"))
    with home.warehouse.write() as connection:
        copied = "REPLACE ('combination_equal' AS model) FROM forecasts WHERE model = 'kronos'"
        connection.execute(f"INSERT INTO forecasts SELECT * {copied}")
    more = {**used, "combination_equal": used["kronos"], "kronos_recalibrated": "0" * 16}
    kronos, combination = sorted(check_models_compared(home.warehouse, more).description.split("; "), key=len)[::-1]
    assert "kronos (kronos_recalibrated)" in kronos and "predictor.published" in kronos
    assert "combination_equal" in combination and "predictor.cutoff" in combination


def test_writing_the_same_scoreboard_again_changes_no_byte(home: ForecastHome) -> None:
    used = _with_model(home, lambda prediction: prediction)
    arguments = home.warehouse, home.settings, used, home.candlecast.calendar
    assert write_scoreboard(home.warehouse, build_scoreboard(*arguments).scoreboard)
    before = home.warehouse.path.read_bytes()
    assert not write_scoreboard(home.warehouse, build_scoreboard(*arguments).scoreboard)
    assert home.warehouse.path.read_bytes() == before
    assert len(read_scoreboard(home.warehouse))


def test_too_few_origins_give_no_interval_and_no_verdict() -> None:
    board = compute_scoreboard(_paired(lambda other: other * 0.9, origins=6), QUICK, _weekly(6), seed=0)
    assert board["verdict"].tolist() == ["too few origins"]
    assert board[["low", "high", "skill_low", "skill_high"]].isna().all(axis=None)
    assert "(6)" in verdict_text(board)[0]


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(0.9, "better"), (1 - 1e-15, "no difference shown"), (1 + 1e-15, "no difference shown"), (1.1, "worse")],
)
def test_a_tenth_less_or_more_on_every_origin_is_significant(factor: float, verdict: str) -> None:
    board = compute_scoreboard(_paired(lambda other: other * factor), QUICK, _weekly(60), seed=0)
    assert board["verdict"].tolist() == [verdict]
    assert np.isclose(board["skill"][0], 1 - factor)


def test_two_models_without_any_error_have_a_skill_of_zero() -> None:
    board = compute_scoreboard(
        _paired(lambda other: other).assign(value=0.0, baseline_value=0.0), QUICK, _weekly(60), seed=0
    )
    assert board[["skill", "skill_low", "skill_high"]].to_numpy().tolist() == [[0, 0, 0]]
    assert board["verdict"].tolist() == ["no difference shown"]
    assert "Kronos +0.0% (+0.0% … +0.0%)" in verdict_text(board)[1]


def test_the_false_positive_rate_of_verdicts_is_about_nominal() -> None:
    """100 models of no skill, at 90 %: nominally one in twenty is better, one in twenty worse."""
    generator = np.random.default_rng(3)
    quick = EvaluationSettings(bootstrap_draws=100)
    verdicts = [
        compute_scoreboard(
            _paired(lambda other: other + generator.normal(0, 0.1, len(other))), quick, _weekly(60), seed
        )["verdict"][0]
        for seed in range(100)
    ]
    assert verdicts.count("better") <= 15
    assert verdicts.count("worse") <= 15


def test_an_interval_stays_in_the_range_of_the_metric() -> None:
    nearly = _paired(lambda other: np.where(other > np.quantile(other, 0.1), 1.0, 0.0), "coverage_90", origins=20)
    board = compute_scoreboard(nearly.assign(baseline_value=0.8), QUICK, _weekly(20), seed=0)
    assert board["high"][0] == 1
    assert 0 <= board["low"][0] < board["value"][0]


def test_intervals_of_skills_are_wider_where_more_models_are_compared() -> None:
    one = _paired(lambda other: other * 0.98 + np.random.default_rng(5).normal(0, 0.05, len(other)))
    alone = compute_scoreboard(one, QUICK, _weekly(60), 0).iloc[0]
    many = pd.concat([one, *[one.assign(model=f"m{k}") for k in range(9)]])
    among = compute_scoreboard(many, QUICK, _weekly(60), 0).set_index("model").loc["kronos"]
    assert among["skill_low"] < alone["skill_low"]
    assert among["skill_high"] > alone["skill_high"]
    assert among["low"] == alone["low"]


def test_recalibrated_models_are_a_comparison_of_their_own() -> None:
    """They widen no interval of the models that they recalibrate, and one another's."""
    noise = np.random.default_rng(5).normal(0, 0.05, 60)
    one = _paired(lambda other: other * 0.98 + noise)
    two = pd.concat([one, one.assign(model="m")])
    copies = two.assign(model=two["model"] + "_recalibrated")
    alone, among = (
        compute_scoreboard(frame, QUICK, _weekly(60), 0).set_index("model") for frame in (two, pd.concat([two, copies]))
    )
    pd.testing.assert_frame_equal(among.loc[["kronos", "m"]], alone)
    assert among["skill_low"].nunique() == 1


def test_the_verdict_names_the_best_model_first_and_each_model_once() -> None:
    """Recalibrated models are summed up: what they gain, and the coverage before and after."""
    crps = {"volatility": 0.985, "momentum": 1.04, "volatility_recalibrated": 0.98, "momentum_recalibrated": 1.01}
    covers = {"volatility": 0.82, "momentum": 0.95, "volatility_recalibrated": 0.9, "momentum_recalibrated": 0.89}
    one, covered = (_paired(lambda other: other, metric) for metric in ("crps", "coverage_90"))
    frames = [one.assign(model=model, value=one["value"] * factor) for model, factor in crps.items()]
    frames += [
        covered.assign(model=model, value=share, baseline="random_walk", baseline_value=0.9)
        for model, share in covers.items()
    ]
    text = verdict_text(compute_scoreboard(pd.concat(frames), QUICK, _weekly(60), 0))
    assert text[0].startswith("Volatility model beats") and "1.5%" in text[0] and "60 origins" in text[0]
    named = [[line for line in text[1:] if one in line] for one in ("Volatility model +1.5%", "Momentum -4.0%")]
    assert [len(lines) for lines in named] == [1, 1] and named[0] != named[1]
    (recalibration,) = [line for line in text if "ecalibration" in line]
    assert all(figure in recalibration for figure in ("+0.5%", "+3.0%", "89% to 90%", "82% to 95%"))


@pytest.mark.parametrize(
    ("sessions", "horizon", "blocks"),
    [
        (np.arange(20) * 5, 10, 5),  # two origins share a session: four a block
        (np.arange(19) * 5, 10, 0),
        (np.arange(100), 10, 5),  # ten share one
        (np.arange(99), 10, 0),
        (np.arange(10) * 20, 10, 5),  # nothing overlaps: two a block
        (np.arange(9) * 20, 10, 0),
        (np.r_[np.arange(10) * 5, 50 + np.arange(49)], 10, 0),
        (np.r_[np.arange(10) * 5, 50 + np.arange(50)], 10, 5),  # half as many origins, the same time
        (np.empty(0), 10, 0),
    ],
)
def test_blocks_span_the_horizon_twice_whatever_the_spacing(sessions: np.ndarray, horizon: float, blocks: int) -> None:
    times = OriginTimes(sessions.astype(np.float64), horizon, every=5)
    assert times.blocks(times.weights(), QUICK) == blocks


def test_the_blocks_of_the_settings_are_used() -> None:
    times = _weekly(60)
    assert times.blocks(times.weights(), EvaluationSettings(block_origins=6)) == 10
    assert times.blocks(times.weights(), EvaluationSettings(block_origins=13)) == 0


def test_horizons_of_the_scoreboard() -> None:
    assert scoreboard_horizons(10) == [0, 1, 5, 10]
    assert scoreboard_horizons(1) == [0, 1]


def test_a_stretch_of_daily_origins_weighs_as_much_as_its_sessions() -> None:
    """40 weekly origins, then 50 daily ones at which the model is worse."""
    sessions = np.r_[np.arange(40) * 5.0, 200 + np.arange(50.0)]
    times = OriginTimes(sessions, horizon=10, every=5)
    worse = np.repeat([0.9, 1.3], [40, 50])
    board = compute_scoreboard(
        _paired(lambda other: worse, origins=90).assign(baseline_value=1.0), QUICK, times, seed=0
    ).iloc[0]
    assert board["n"] == 90
    assert board["value"] == pytest.approx((200 * 0.9 + 50 * 1.3) / 250)
    assert board["skill"] == pytest.approx(1 - board["value"])


def test_the_chart_by_step_and_the_pits_are_weighted_too(home: ForecastHome) -> None:
    used = _with_model(home, lambda prediction: prediction)
    scored = home.warehouse.frame(
        "SELECT origin, avg(value) AS value FROM forecast_scores "
        "WHERE model = 'drift' AND metric = 'crps' AND step = 3 GROUP BY origin ORDER BY origin LIMIT 2"
    )
    first, second = scored["value"]
    weights = scored[["origin"]].assign(weight=[5.0, 1.0])
    found = means_by_step(home.warehouse, used, weights=weights).set_index(["model", "metric", "step"])["value"]
    assert found["drift", "crps", 3] == pytest.approx((5 * first + second) / 6)
    assert pit_values(home.warehouse, used, weights)["weight"].value_counts().nunique() == 1


def test_a_model_that_began_later_has_weights_and_blocks_of_its_own() -> None:
    whole = _paired(lambda other: other * 0.9)
    late = _paired(lambda other: other * 0.9).iloc[30:].assign(model="late")
    board = compute_scoreboard(pd.concat([whole, late]), QUICK, _weekly(60), 0).set_index("model")
    alone = compute_scoreboard(late, QUICK, OriginTimes(np.arange(30) * 5.0, 10, 5), 0).iloc[0]
    assert board.loc["late", "n"] == 30
    assert board.loc["late", "low"] == alone["low"]


def test_times_count_sessions_and_not_days_or_bars() -> None:
    """Over Thanksgiving of 2012, with its half day, and by hours."""
    daily = TradingCalendar("XNYS")
    origins = pd.to_datetime(["2012-11-20", "2012-11-21", "2012-11-23", "2012-11-28"]).to_numpy()
    assert OriginTimes.of(origins, Settings(), daily).sessions.tolist() == [0, 1, 2, 5]
    hourly = TradingCalendar("XNYS", "1h")
    grid = hourly.grid(date(2012, 11, 20), date(2012, 11, 28))
    ends = grid.groupby("session")["ts"].max().loc["2012-11-20":"2012-11-28"].to_numpy()
    found = OriginTimes.of(ends, Settings(), hourly)
    assert np.diff(found.sessions).tolist() == [1, 1, 1, 1, 1]
    assert 10 / 7 <= found.horizon <= 10 / 6


def test_an_empty_scoreboard_has_a_verdict_text() -> None:
    empty = compute_scoreboard(_paired(lambda other: other).iloc[:0], QUICK, _weekly(0), 0)
    assert empty.empty and len(verdict_text(empty)) == 1


def test_forecasts_are_counted_whose_bars_were_corrected_after_they_were_made(home: ForecastHome) -> None:
    used = _with_model(home, lambda prediction: prediction)
    assert corrected_since(home.warehouse, used) == {}
    newest = home.warehouse.rows("SELECT max(origin) AS newest FROM forecasts")[0]["newest"]
    tomorrow = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=1)
    later = "UPDATE bars SET available_at = $at WHERE symbol = $symbol AND ts = $ts"
    with home.warehouse.write() as connection:
        after = connection.execute(f"SELECT min(ts) FROM bars WHERE ts > '{newest}'").fetchall()[0][0]
        connection.execute(later, {"symbol": "AAPL", "ts": after, "at": tomorrow})
    assert corrected_since(home.warehouse, used) == {}, "a bar after every origin"
    with home.warehouse.write() as connection:
        connection.execute(later, {"symbol": "AAPL", "ts": newest, "at": tomorrow})
    assert corrected_since(home.warehouse, used) == dict.fromkeys(used, 1)
