"""Nothing after an origin reaches its forecast, to the last byte."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from forecast_world import World, make_world, real_bars

from assets.forecasting.forecaster import Forecaster, Prediction, Task
from assets.forecasting.registry import Family, forecasters_of
from assets.forecasts.generate import make_forecasts, target_stamps
from assets.forecasts.lookahead_check import changed_by_the_future
from assets.forecasts.path_files import paths_file
from assets.market.history import read_histories
from resources.calendar import TradingCalendar

ORIGIN = date(2012, 10, 1)
VALUES = """
SELECT symbol, step, target_ts, field, level, value FROM forecast_quantiles
WHERE model = ? AND origin = ? ORDER BY ALL
"""


def _another_future(bars: pd.DataFrame) -> pd.DataFrame:
    later = bars["session"] > pd.Timestamp(ORIGIN)
    factors = np.random.default_rng(1).uniform(0.2, 5, size=later.sum())
    changed = bars.copy()
    for name in ("open", "high", "low", "close", "volume"):
        changed.loc[later, name] *= factors
    return changed


def _forecast(world: World, forecaster: Forecaster) -> tuple[bytes, bytes]:
    make_forecasts(world.room, forecaster, world.tasks(ORIGIN, ORIGIN))
    frame = world.warehouse.frame(VALUES, [forecaster.model, ORIGIN])
    assert len(frame)
    file = paths_file(world.room.home, forecaster.model, forecaster.checkpoint, np.datetime64(ORIGIN, "s"))
    values = frame["value"].to_numpy().tobytes() + frame.drop(columns="value").to_csv().encode()
    return values, file.read_bytes() if file.is_file() else b""


@pytest.mark.parametrize("family", ["baseline_forecasts", "kronos_forecasts", "chronos2_forecasts"])
def test_other_bars_after_the_origin_leave_every_byte_of_the_forecast(
    model_world: World, tmp_path: Path, family: Family
):
    other = make_world(tmp_path, _another_future(real_bars()))
    truth, elsewhere = (w.histories()["AAPL"].quoted[-1] for w in (model_world, other))
    assert (truth != elsewhere)[:5].all()
    for forecaster in forecasters_of(family, model_world.settings, model_world.checkpoints):
        assert _forecast(model_world, forecaster) == _forecast(other, forecaster), forecaster.model


@pytest.mark.parametrize("family", ["baseline_forecasts", "kronos_forecasts", "chronos2_forecasts"])
def test_a_forecast_depends_on_no_other_in_its_batch(model_world: World, family: Family):
    tasks = model_world.tasks(date(2012, 5, 1), date(2012, 6, 29))
    targets = target_stamps(tasks, model_world.room.calendar, 10)
    for forecaster in forecasters_of(family, model_world.settings, model_world.checkpoints):
        predict = forecaster.load()
        together, alone = predict(tasks, targets), predict(tasks[7:8], targets[7:8])
        backwards = predict(tasks[::-1], targets[::-1])
        assert together.quantiles[7].tobytes() == alone.quantiles[0].tobytes()
        assert together.quantiles.tobytes() == backwards.quantiles[::-1].tobytes()


def test_a_forecaster_that_reads_the_future_is_found_out(world: World):
    def leaking(tasks: list[Task], targets: np.ndarray) -> Prediction:
        ahead = [float(task.history.quoted[task.index + 1 : task.index + 2, 3].sum()) for task in tasks]
        quantiles = np.array(ahead)[:, None, None, None] * np.ones((1, targets.shape[1], 1, 19))
        return Prediction(("close",), quantiles, np.zeros(len(tasks)))

    tasks = world.tasks(ORIGIN, ORIGIN)
    targets = target_stamps(tasks, world.room.calendar, 10)
    assert changed_by_the_future(leaking, tasks, targets) == tasks


def test_normalising_over_more_than_the_lookback_is_found_out(world: World):
    """The leak that the published fine-tuning scripts had: statistics that reach beyond the origin."""

    def leaking(tasks: list[Task], targets: np.ndarray) -> Prediction:
        spread = [task.history.quoted[max(0, task.index - 90) : task.index + 10, 3].std() for task in tasks]
        quantiles = np.array(spread)[:, None, None, None] * np.ones((1, targets.shape[1], 1, 19))
        return Prediction(("close",), quantiles, np.zeros(len(tasks)))

    tasks = [replace(task) for task in world.tasks(ORIGIN, ORIGIN)]
    targets = target_stamps(tasks, world.room.calendar, 10)
    assert len(changed_by_the_future(leaking, tasks, targets)) == len(tasks)


def test_a_history_knows_the_session_of_hours_that_open_on_the_utc_day_before(tmp_path: Path):
    grid = TradingCalendar("XASX", "1h").grid(date(2018, 2, 15), date(2018, 2, 16))
    bars = grid[["ts", "session"]].assign(symbol="BHP", frequency="1h", open=1.0, high=1.0, low=1.0, close=1.0)
    world = make_world(tmp_path, bars.assign(volume=1.0, amount=np.nan))
    history = read_histories(world.warehouse, "1h")["BHP"]
    assert (history.days == grid["session"].to_numpy().astype("datetime64[D]")).all()
    opening = history.index_of(np.datetime64("2018-02-15T23:00"))
    assert opening is not None and history.days[opening] == np.datetime64("2018-02-16")
    untold = replace(history, sessions=None)
    assert untold.days[opening] == np.datetime64("2018-02-15")
