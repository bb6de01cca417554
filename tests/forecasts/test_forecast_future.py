"""No bar after an origin changes a byte of its forecast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.acceptance import CheckOutcome
from assets.forecasting.baselines.closed_form import baseline_forecasters
from assets.forecasting.forecaster import ForecastModel, ForecastTask, Prediction
from assets.forecasting.path_files import paths_file
from assets.forecasting.registry import forecasters_in
from assets.forecasts.acceptance import check_forecasts
from assets.forecasts.batches import target_timestamps
from assets.forecasts.generate import ForecastResult, generate_forecasts
from assets.forecasts.lookahead_check import batch_difference, forecasts_changed_by_future_bars
from assets.forecasts.repeat_checks import check_batches, check_lookahead
from assets.market.history import read_histories
from resources.calendar import TradingCalendar
from resources.candlecast import Candlecast
from tests.forecasts.forecast_home import ForecastHome, create_home, real_bars

ORIGIN = date(2012, 10, 1)
VALUES = """
SELECT symbol, step, target_ts, field, level, value FROM forecast_quantiles
WHERE model = ? AND origin = ? ORDER BY ALL
"""


def _changed_future(bars: pd.DataFrame) -> pd.DataFrame:
    later = bars["session"] > pd.Timestamp(ORIGIN)
    factors = np.random.default_rng(1).uniform(0.2, 5, size=later.sum())
    changed = bars.copy()
    for name in ("open", "high", "low", "close", "volume"):
        changed.loc[later, name] *= factors
    return changed


def _forecast(home: ForecastHome, forecaster: ForecastModel) -> tuple[bytes, bytes]:
    generate_forecasts(home.candlecast, forecaster, home.tasks(ORIGIN, ORIGIN))
    frame = home.warehouse.frame(VALUES, [forecaster.model, ORIGIN])
    assert len(frame)
    file = paths_file(home.candlecast.home, forecaster.model, forecaster.checkpoint, np.datetime64(ORIGIN, "s"))
    values = frame["value"].to_numpy().tobytes() + frame.drop(columns="value").to_csv().encode()
    return values, file.read_bytes() if file.is_file() else b""


@pytest.mark.parametrize(
    "family", ["baseline_forecasts", "volatility_forecasts", "kronos_forecasts", "chronos2_forecasts"]
)
def test_other_bars_after_the_origin_leave_every_byte_of_the_forecast(
    model_home: ForecastHome, tmp_path: Path, family: str
) -> None:
    other = create_home(tmp_path, _changed_future(real_bars()))
    original, changed = (w.histories()["AAPL"].quoted[-1] for w in (model_home, other))
    assert (original != changed)[:5].all()
    for forecaster in forecasters_in(family, model_home.settings, model_home.checkpoints):
        assert _forecast(model_home, forecaster) == _forecast(other, forecaster), forecaster.model


@pytest.mark.parametrize(
    "family", ["baseline_forecasts", "volatility_forecasts", "kronos_forecasts", "chronos2_forecasts"]
)
def test_a_forecast_depends_on_no_other_in_its_batch(model_home: ForecastHome, family: str) -> None:
    tasks = model_home.tasks(date(2012, 5, 1), date(2012, 6, 29))
    targets = target_timestamps(tasks, model_home.candlecast.calendar, 10)
    for forecaster in forecasters_in(family, model_home.settings, model_home.checkpoints):
        predict = forecaster.load()
        together, alone = predict(tasks, targets), predict(tasks[7:8], targets[7:8])
        backwards = predict(tasks[::-1], targets[::-1])
        assert together.quantiles[7].tobytes() == alone.quantiles[0].tobytes()
        assert together.quantiles.tobytes() == backwards.quantiles[::-1].tobytes()


def test_a_forecaster_that_reads_the_next_bar_fails_the_lookahead_check(home: ForecastHome) -> None:
    def leaking(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        ahead = [float(task.history.quoted[task.index + 1 : task.index + 2, 3].sum()) for task in tasks]
        quantiles = np.array(ahead)[:, None, None, None] * np.ones((1, targets.shape[1], 1, 19))
        return Prediction(("close",), quantiles, np.zeros(len(tasks)))

    tasks = home.tasks(ORIGIN, ORIGIN)
    targets = target_timestamps(tasks, home.candlecast.calendar, 10)
    assert forecasts_changed_by_future_bars(leaking, tasks, targets) == tasks


def test_a_forecaster_that_looks_at_its_batch_differs_from_itself_alone(home: ForecastHome) -> None:
    def ranking(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        closes = np.array([float(task.history.closes_as_of(task.index)[-1]) for task in tasks])
        quantiles = (closes / closes.max())[:, None, None, None] * np.ones((1, targets.shape[1], 1, 19))
        return Prediction(("close",), quantiles, np.zeros(len(tasks)))

    def single(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        one_by_one = [ranking([task], targets[[row]]).quantiles for row, task in enumerate(tasks)]
        return Prediction(("close",), np.concatenate(one_by_one), np.zeros(len(tasks)))

    tasks = home.tasks(ORIGIN, ORIGIN)
    targets = target_timestamps(tasks, home.candlecast.calendar, 10)
    assert batch_difference(ranking, tasks, targets).max() > 0.1
    assert batch_difference(single, tasks, targets).max() == 0


def test_a_forecaster_that_draws_without_a_seed_is_distinguished_from_one_that_reads_later_bars(
    home: ForecastHome,
) -> None:
    generator = np.random.default_rng()

    def drawing(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        quantiles = np.sort(generator.uniform(1, 2, (len(tasks), targets.shape[1], 1, 19)))
        return Prediction(("close",), quantiles, np.zeros(len(tasks)))

    drawn = replace(baseline_forecasters(home.settings)[0], load=lambda: drawing)
    result = generate_forecasts(home.candlecast, drawn, home.tasks(ORIGIN, ORIGIN))
    found = check_lookahead(home.candlecast, [result])
    assert not found.passed and "seed" in found.description


@pytest.mark.parametrize(
    ("check", "reads"),
    [
        (check_lookahead, lambda tasks: [task.history.quoted[-1, 3] for task in tasks]),
        (check_batches, lambda tasks: [len(tasks)] * len(tasks)),
        (check_batches, lambda tasks: [max(task.history.quoted[task.index, 3] for task in tasks)] * len(tasks)),
        (check_batches, lambda tasks: range(1, len(tasks) + 1)),
    ],
    ids=["last_bar", "size_of_batch", "maximum_of_batch", "place_in_batch"],
)
def test_a_run_of_a_model_that_reads_more_than_its_input_fails_a_check(
    home: ForecastHome,
    check: Callable[[Candlecast, Sequence[ForecastResult]], CheckOutcome],
    reads: Callable[[Sequence[ForecastTask]], Sequence[float]],
) -> None:
    def peeking(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        values = np.array(reads(tasks), dtype=np.float64)[:, None, None, None]
        return Prediction(("close",), values * np.ones((1, targets.shape[1], 1, 19)), np.zeros(len(tasks)))

    model = baseline_forecasters(home.settings)[0]
    tasks = home.tasks(ORIGIN, ORIGIN)
    fair = generate_forecasts(home.candlecast, model, tasks)
    assert len(fair.sample) == len(tasks) and check(home.candlecast, [fair]).passed
    result = generate_forecasts(home.candlecast, replace(model, checkpoint="other", load=lambda: peeking), tasks)
    assert not check(home.candlecast, [result]).passed
    assert not check(home.candlecast, [replace(result, sample=())]).passed
    together = check_forecasts(home.candlecast, [result], {})
    assert not together["no_lookahead" if check is check_lookahead else "independent_of_batch"].passed


@pytest.mark.parametrize(
    "reads",
    [
        lambda tasks: [task.history.quoted[-1 if len(tasks) > 20 else task.index, 3] for task in tasks],
        lambda tasks: [task.history.quoted[-1 if len(tasks) != 20 else task.index, 3] for task in tasks],
        lambda tasks: [max(one.history.quoted[-1, 3] for one in tasks)] * len(tasks),
        lambda tasks: [one.history.quoted[-1, 3] for one in (*tasks[1:], tasks[0])],
        lambda tasks: [row * one.history.quoted[-1, 3] + 1 for row, one in enumerate(tasks)],
    ],
    ids=["in_large_batches", "in_other_batches", "of_the_batch", "of_the_next_task", "by_place"],
)
def test_later_bars_that_are_read_in_some_batches_fail_a_check(
    home: ForecastHome, reads: Callable[[Sequence[ForecastTask]], Sequence[float]]
) -> None:
    def peeking(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        values = np.array(reads(tasks), dtype=np.float64)[:, None, None, None]
        return Prediction(("close",), values * np.ones((1, targets.shape[1], 1, 19)), np.zeros(len(tasks)))

    model = baseline_forecasters(home.settings)[0]
    tasks = [replace(task, symbol=f"{task.symbol}{copy}") for task in home.tasks(ORIGIN, ORIGIN) for copy in range(30)]
    result = generate_forecasts(home.candlecast, replace(model, load=lambda: peeking), tasks)
    found = check_forecasts(home.candlecast, [result], {})
    assert not (found["no_lookahead"].passed and found["independent_of_batch"].passed)


def test_the_checks_repeat_some_series_of_a_run_each_once(home: ForecastHome) -> None:
    calls = list[int]()
    model = baseline_forecasters(home.settings)[0]

    def counted(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        calls.append(len(tasks))
        return model.load()(tasks, targets)

    tasks = [replace(task, symbol=f"{task.symbol}{copy}") for task in home.tasks(ORIGIN, ORIGIN) for copy in range(30)]
    result = generate_forecasts(home.candlecast, replace(model, load=lambda: counted), tasks)
    made = len(result.sample)
    assert all(one.passed for one in check_forecasts(home.candlecast, [result], {}).values())
    assert 5 < made < 15 and sum(calls) == len(tasks) + made


def test_normalising_beyond_the_origin_fails_the_lookahead_check(home: ForecastHome) -> None:
    """The leak of the published fine-tuning scripts: statistics that include bars after the origin."""

    def leaking(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        spread = [task.history.quoted[max(0, task.index - 90) : task.index + 10, 3].std() for task in tasks]
        quantiles = np.array(spread)[:, None, None, None] * np.ones((1, targets.shape[1], 1, 19))
        return Prediction(("close",), quantiles, np.zeros(len(tasks)))

    tasks = [replace(task) for task in home.tasks(ORIGIN, ORIGIN)]
    targets = target_timestamps(tasks, home.candlecast.calendar, 10)
    assert len(forecasts_changed_by_future_bars(leaking, tasks, targets)) == len(tasks)


def test_a_history_knows_the_session_of_hours_that_open_on_the_utc_day_before(tmp_path: Path) -> None:
    grid = TradingCalendar("XASX", "1h").grid(date(2018, 2, 15), date(2018, 2, 16))
    bars = grid[["ts", "session"]].assign(symbol="BHP", frequency="1h", open=1.0, high=1.0, low=1.0, close=1.0)
    home = create_home(tmp_path, bars.assign(volume=1.0, amount=np.nan))
    history = read_histories(home.warehouse, "1h")["BHP"]
    assert (history.days == grid["session"].to_numpy().astype("datetime64[D]")).all()
    opening = history.index_of(np.datetime64("2018-02-15T23:00"))
    assert opening is not None and history.days[opening] == np.datetime64("2018-02-16")
    without_sessions = replace(history, sessions=None)
    assert without_sessions.days[opening] == np.datetime64("2018-02-15")
