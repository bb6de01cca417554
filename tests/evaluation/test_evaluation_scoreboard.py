"""What the scoreboard says, and what it must not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
from forecast_world import World

from assets.evaluation.comparing import compare, covering_of
from assets.evaluation.scoreboard import (
    horizons_of,
    paired_scores,
    read_scoreboard,
    scoreboard_of,
    write_scoreboard,
)
from assets.evaluation.scoring import score_sessions
from assets.forecasting.baselines import baseline_forecasters
from assets.forecasting.bootstrap import block_length
from assets.forecasting.filters import Scope
from assets.forecasting.forecaster import Forecaster, Predict, Prediction
from assets.forecasting.verdict import verdict_in_words
from assets.forecasts.generate import make_forecasts
from resources.settings import EvaluationSettings

FIRST, LAST = date(2012, 1, 3), date(2012, 9, 28)
QUICK = EvaluationSettings(bootstrap_draws=200)


def _paired(value: Callable[[np.ndarray], np.ndarray], metric: str = "crps", origins: int = 60) -> pd.DataFrame:
    other = np.random.default_rng(0).lognormal(0, 0.5, origins)
    stamps = pd.date_range("2012-01-02", periods=origins, freq="7D")
    common = {"model": "kronos", "metric": metric, "horizon": 0, "baseline": "random_walk_ewma", "origin": stamps}
    return pd.DataFrame({**common, "value": value(other), "other": other})


def _world_with(world: World, change: Callable[[Prediction], Prediction], until: date | None = None) -> dict[str, str]:
    """Add a model `kronos` that says what the EWMA walk says, changed; score everything; the checkpoints to compare."""
    walk = next(f for f in baseline_forecasters(world.settings) if f.model == "random_walk_ewma")

    def load() -> Predict:
        predict = walk.load()
        return lambda tasks, targets: change(predict(tasks, targets))

    made: Forecaster = replace(walk, model="kronos", checkpoint="c", load=load, learnt_until=until)
    make_forecasts(world.room, made, world.tasks(FIRST, LAST))
    score_sessions(world.warehouse, world.histories(), [FIRST, date(2012, 10, 12)])
    return {"kronos": "c", **{f.model: f.checkpoint for f in baseline_forecasters(world.settings)}}


def _row(scoreboard: pd.DataFrame, metric: str, baseline: str = "random_walk_ewma", horizon: int = 0) -> pd.Series:
    chosen = scoreboard.set_index(["model", "metric", "horizon", "baseline"]).loc["kronos", metric, horizon, baseline]
    assert isinstance(chosen, pd.Series)
    return chosen


def test_a_model_that_says_what_the_baseline_says_has_no_skill_at_all(forecast_world: World):
    used = _world_with(forecast_world, lambda said: said)
    compared = compare(forecast_world.warehouse, forecast_world.settings, used, forecast_world.room.calendar)
    row = _row(compared.scoreboard, "crps")
    assert (row["skill"], row["skill_low"], row["skill_high"]) == (0, 0, 0)
    assert row["verdict"] == "no difference shown"
    assert verdict_in_words(compared.scoreboard)[0].startswith("No model beats a random walk with EWMA volatility")


def test_a_model_that_is_far_too_sure_is_worse_and_covers_too_little(forecast_world: World):
    def too_sure(said: Prediction) -> Prediction:
        median = said.quantiles[..., 9:10]
        return replace(said, quantiles=median + (said.quantiles - median) * 0.2)

    used = _world_with(forecast_world, too_sure)
    compared = compare(forecast_world.warehouse, forecast_world.settings, used, forecast_world.room.calendar)
    assert _row(compared.scoreboard, "crps")["verdict"] == "worse"
    coverage = _row(compared.scoreboard, "coverage_90")
    assert coverage["value"] < 0.5
    assert coverage["verdict"] == "worse"


def test_a_model_that_knows_the_future_is_better(forecast_world: World):
    histories = forecast_world.histories()
    walk = next(f for f in baseline_forecasters(forecast_world.settings) if f.model == "random_walk_ewma")

    def load() -> Predict:
        predict = walk.load()

        def knowing(tasks: list, targets: np.ndarray) -> Prediction:
            said = predict(tasks, targets)
            ahead = np.stack([histories[t.symbol].closes_seen_from(t.index, t.index + 1, t.index + 10) for t in tasks])
            return replace(said, quantiles=said.quantiles * (ahead / said.quantiles[:, :, 0, 9])[:, :, None, None])

        return knowing

    made = replace(walk, model="kronos", checkpoint="c", load=load)
    make_forecasts(forecast_world.room, made, forecast_world.tasks(FIRST, LAST))
    score_sessions(forecast_world.warehouse, histories, [FIRST, date(2012, 10, 12)])
    used = {"kronos": "c", **{f.model: f.checkpoint for f in baseline_forecasters(forecast_world.settings)}}
    board = compare(forecast_world.warehouse, forecast_world.settings, used, forecast_world.room.calendar).scoreboard
    assert _row(board, "crps")["verdict"] == "better"
    assert _row(board, "direction", "random_walk")["value"] == 1
    assert _row(board, "rank_ic", "random_walk")["value"] == 1
    assert verdict_in_words(board)[0].startswith("Kronos beats a random walk with EWMA volatility on CRPS")


def test_in_sample_forecasts_are_left_out_and_counted(forecast_world: World):
    used = _world_with(forecast_world, lambda said: said, until=date(2012, 5, 31))
    compared = compare(forecast_world.warehouse, forecast_world.settings, used, forecast_world.room.calendar)
    counts = compared.counts.set_index("model")
    assert counts.loc["kronos", "in_sample"] > 0
    assert counts.loc["drift", "in_sample"] == 0
    assert counts.loc["kronos"].sum() == counts.loc["drift"].sum()
    assert _row(compared.scoreboard, "crps")["n"] == counts.loc["kronos", "out_of_sample"]


def test_what_the_settings_do_not_ask_for_is_on_no_scoreboard(forecast_world: World):
    """As if other symbols had never been forecast, nor any origin before the test range."""
    used = _world_with(forecast_world, lambda said: said)
    market = forecast_world.settings.market.model_copy(update={"symbols": ("AAPL", "ibm", "MSFT")})
    windows = forecast_world.settings.windows.model_copy(update={"test": (date(2012, 4, 2), date(2012, 6, 29))})
    often = forecast_world.settings.forecasts.model_copy(update={"every": 1})
    narrow = forecast_world.settings.model_copy(update={"market": market, "windows": windows, "forecasts": often})
    warehouse, calendar = forecast_world.warehouse, forecast_world.room.calendar
    everything = compare(warehouse, forecast_world.settings, used, calendar)
    found = compare(warehouse, narrow, used, calendar)
    assert found.scoreboard["n"].max() < everything.scoreboard["n"].max()
    with warehouse.write() as connection:
        for table in ("forecasts", "forecast_quantiles"):
            connection.execute(f"DELETE FROM {table} WHERE symbol IN ('FB', 'GOOG') OR origin < DATE '2012-04-02'")
        for table in ("forecast_scores", "scored_truths"):
            connection.execute(f"DELETE FROM {table}")
    score_sessions(warehouse, forecast_world.histories(), [FIRST, date(2012, 10, 12)])
    alone = compare(warehouse, forecast_world.settings, used, calendar)
    for name in ("scoreboard", "counts", "by_step"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(alone, name))
    assert sorted(found.pits["pit"]) == sorted(alone.pits["pit"])
    assert {"rank_ic", "crps"} <= set(found.scoreboard["metric"])
    assert pd.Timestamp("2012-09-24") in set(paired_scores(warehouse, used, [0], Scope.of(narrow))["origin"]), (
        "what was forecast after the test range counts"
    )


def test_an_origin_chosen_by_hand_is_on_no_scoreboard(forecast_world: World):
    """Whoever chooses the origins could choose the result."""
    used = _world_with(forecast_world, lambda said: said)
    warehouse, calendar = forecast_world.warehouse, forecast_world.room.calendar
    before = compare(warehouse, forecast_world.settings, used, calendar)
    with warehouse.write() as connection:
        for table, worse in (("forecasts", ""), ("forecast_scores", ", value * 9 AS value")):
            connection.execute(
                f"INSERT INTO {table} SELECT * REPLACE (origin + INTERVAL 1 DAY AS origin{worse}) FROM {table} "
                "WHERE origin IN (SELECT max(origin) FROM forecasts WHERE dayofweek(origin) = 2)"
            )
    after = compare(warehouse, forecast_world.settings, used, calendar)
    for name in ("scoreboard", "counts", "by_step"):
        pd.testing.assert_frame_equal(getattr(before, name), getattr(after, name))


def test_a_model_learnt_from_everything_is_not_on_the_scoreboard(forecast_world: World):
    used = _world_with(forecast_world, lambda said: said, until=date.max)
    compared = compare(forecast_world.warehouse, forecast_world.settings, used, forecast_world.room.calendar)
    assert "kronos" not in set(compared.scoreboard["model"])
    assert set(compared.scoreboard["model"]) == {"random_walk", "random_walk_ewma", "drift", "momentum"}


def test_writing_the_same_scoreboard_again_changes_no_byte(forecast_world: World):
    used = _world_with(forecast_world, lambda said: said)
    arguments = forecast_world.warehouse, forecast_world.settings, used, forecast_world.room.calendar
    assert write_scoreboard(forecast_world.warehouse, compare(*arguments).scoreboard)
    before = forecast_world.warehouse.path.read_bytes()
    assert not write_scoreboard(forecast_world.warehouse, compare(*arguments).scoreboard)
    assert forecast_world.warehouse.path.read_bytes() == before
    assert len(read_scoreboard(forecast_world.warehouse))


def test_a_handful_of_origins_gives_no_interval_and_says_so():
    board = scoreboard_of(_paired(lambda other: other * 0.9, origins=6), QUICK, block=2, seed=0)
    assert board["verdict"].tolist() == ["too few origins"]
    assert board[["low", "high", "skill_low", "skill_high"]].isna().all(axis=None)
    assert "Too few origins (6)" in verdict_in_words(board)[0]


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(0.9, "better"), (1 - 1e-15, "no difference shown"), (1 + 1e-15, "no difference shown"), (1.1, "worse")],
)
def test_a_tenth_less_or_more_on_every_origin_is_told_apart(factor: float, verdict: str):
    board = scoreboard_of(_paired(lambda other: other * factor), QUICK, block=2, seed=0)
    assert board["verdict"].tolist() == [verdict]
    assert np.isclose(board["skill"][0], 1 - factor)


def test_two_models_that_are_never_wrong_are_level():
    board = scoreboard_of(_paired(lambda other: other).assign(value=0.0, other=0.0), QUICK, block=2, seed=0)
    assert board[["skill", "skill_low", "skill_high"]].to_numpy().tolist() == [[0, 0, 0]]
    assert board["verdict"].tolist() == ["no difference shown"]
    assert "CRPS level" in verdict_in_words(board)[1]


def test_pure_noise_is_called_better_about_as_rarely_as_promised():
    """100 models as good as their baseline, at 90 %: one in twenty may come out better, one in twenty worse."""
    generator = np.random.default_rng(3)
    quick = EvaluationSettings(bootstrap_draws=100)
    verdicts = [
        scoreboard_of(_paired(lambda other: other + generator.normal(0, 0.1, len(other))), quick, 3, seed)["verdict"][0]
        for seed in range(100)
    ]
    assert verdicts.count("better") <= 15
    assert verdicts.count("worse") <= 15


def test_an_interval_does_not_leave_what_a_mean_of_the_metric_can_be():
    nearly = _paired(lambda other: np.where(other > np.quantile(other, 0.1), 1.0, 0.0), "coverage_90", origins=12)
    board = scoreboard_of(nearly.assign(other=0.8), QUICK, block=2, seed=0)
    assert board["high"][0] == 1
    assert 0 <= board["low"][0] < board["value"][0]


def test_comparing_more_models_asks_for_more_evidence():
    one = _paired(lambda other: other * 0.98 + np.random.default_rng(5).normal(0, 0.05, len(other)))
    alone = scoreboard_of(one, QUICK, 2, 0).iloc[0]
    many = pd.concat([one, *[one.assign(model=f"m{k}") for k in range(9)]])
    among = scoreboard_of(many, QUICK, 2, 0).set_index("model").loc["kronos"]
    assert among["skill_low"] < alone["skill_low"]
    assert among["skill_high"] > alone["skill_high"]
    assert among["low"] == alone["low"]


def test_blocks_cover_twice_what_overlaps_and_grow_with_the_origins():
    assert [covering_of([gap] * 9, 10) for gap in (1, 5, 6, 10, 20)] == [10, 2, 2, 1, 1]
    assert covering_of([], 10) == 1
    assert block_length(2, 101) == 5  # 101 ** (1/3)
    assert block_length(10, 101) == 20
    assert block_length(2, 10) == 4
    assert block_length(1, 4) == 2  # nothing overlaps
    assert block_length(1, 1) == 1
    assert horizons_of(10) == [0, 1, 5, 10]
    assert horizons_of(1) == [0, 1]


def test_nothing_scored_is_said_in_words():
    empty = scoreboard_of(_paired(lambda other: other).iloc[:0], QUICK, 1, 0)
    assert verdict_in_words(empty) == [
        "Nothing has been scored out of sample yet, so nothing can be said of any model."
    ]
