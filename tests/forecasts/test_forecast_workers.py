"""Forecasts that several processes make are those of one, to the byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from assets.forecasting.companion import WEIGHTS
from assets.forecasting.forecaster import ForecastTask, NetworkPredict, Prediction, Prepared
from assets.forecasting.models.exponential_smoothing import auto_theta
from assets.forecasting.path_files import paths_file
from assets.forecasting.registry import forecasters_by_task, forecasters_in
from assets.forecasts import workers
from assets.forecasts.ahead import ask_networks
from assets.forecasts.cost import CostMeter
from assets.forecasts.generate import generate_forecasts
from assets.forecasts.repeat_checks import repeatable
from resources.candlecast import Candlecast
from resources.companion import COMPANION, CompanionFunction
from resources.errors import WorkerEndedError
from resources.settings import ModelSettings
from resources.settings_models import forecast_asset
from tests.forecasts.forecast_home import create_home, publish_tiny_chronos2, publish_tiny_kronos, real_bars
from tests.resources.test_worker_processes import adds


@pytest.mark.parametrize("model", ["kronos", "chronos2", "auto_theta"])
def test_forecasts_of_several_processes_are_those_of_one(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "LEAST_SECONDS", 0.0)
    bars = real_bars()
    COMPANION.stop()  # of another test
    before = len(psutil.Process().children())
    made, others = [], set[int]()
    for count in (1, 3):
        home = create_home(tmp_path / str(count), bars[bars["ts"] >= "2012-01-01"].reset_index(drop=True))
        publish_tiny_kronos(home.checkpoints)
        publish_tiny_chronos2(home.checkpoints)
        compute = home.settings.compute.model_copy(update={"workers": count, "threads": 1})
        models = {"auto_theta": ModelSettings(factory=f"{auto_theta.__module__}:auto_theta")}
        candlecast = Candlecast(home.settings.model_copy(update={"compute": compute, "models": models}))
        (forecaster,) = forecasters_in(forecast_asset(model), candlecast.settings, home.checkpoints)
        forecaster = replace(forecaster, batch_size=5)
        tasks = home.tasks(date(2012, 6, 20), date(2012, 8, 15))
        result = generate_forecasts(
            candlecast, forecaster, tasks, lambda *_: others.add(len(psutil.Process().children()) - before)
        )
        assert result.created == len(tasks) > 20 and result.cost and result.cost.seconds > 0
        files = [paths_file(home.candlecast.home, model, forecaster.checkpoint, one) for one in result.range.origins]
        stored = home.warehouse.frame("SELECT * EXCLUDE (made_at) FROM forecast_quantiles")
        made.append((stored, [file.read_bytes() for file in files if file.is_file()]))
    pd.testing.assert_frame_equal(made[0][0], made[1][0])
    assert made[0][1] == made[1][1] and bool(made[0][1]) == (model == "kronos")
    assert others == {0, 2}


def test_a_companion_that_is_killed_names_the_forecasts_and_the_next_ones_are_made(tmp_path: Path) -> None:
    tasks = create_home(tmp_path).tasks(date(2012, 6, 20), date(2012, 6, 20))

    def finish(made: tuple[int, int]) -> Prediction:
        return Prediction(("close",), np.full((1, 1, 1, 1), made[0]), np.zeros(1))

    def prepare(given: Sequence[ForecastTask], _: np.ndarray) -> Prepared:
        return Prepared(13 if len(given) > 1 else 1, finish)  # 13 kills the process

    try:
        predict = NetworkPredict("toy", prepare, CompanionFunction(partial(adds, 1)))
        with pytest.raises(WorkerEndedError, match=r"toy, AAPL from 2012-06-20.* and 3 more forecasts.* signal 9"):
            predict(tasks, np.zeros((4, 1)))
        assert predict(tasks[:1], np.zeros((1, 1))).quantiles.item() == 2
    finally:
        COMPANION.stop()


def _holds_memory() -> Callable[[int], int]:
    held = np.ones(2**23)  # 64 MiB
    return lambda item: item + int(held[0])


def test_memory_of_a_model_is_counted_also_if_it_was_loaded_in_advance() -> None:
    function = CompanionFunction(_holds_memory)
    try:
        function.ask(1)
        assert function(2) == 3
        meter = CostMeter()
        with meter.measuring():
            assert meter.of_companion(function)(1) == 2
        cost = meter.cost(1)
        assert cost.peak_mib > cost.added_mib > 60
    finally:
        COMPANION.stop()


def _no_thread(message: bytes) -> None:
    raise RuntimeError("can't start new thread")


def test_networks_asked_in_advance_compute_what_a_run_and_its_checks_need_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = create_home(tmp_path)
    publish_tiny_kronos(home.checkpoints)
    publish_tiny_chronos2(home.checkpoints)
    compute = home.settings.compute.model_copy(update={"workers": 2, "threads": 1, "device": "cpu"})
    candlecast = Candlecast(home.settings.model_copy(update={"compute": compute}))
    tasks = home.tasks(date(2012, 6, 20), date(2012, 6, 20))
    try:
        COMPANION.start()
        ask_networks(candlecast, {*WEIGHTS, "kronos_predictor"}, tasks)
        assert COMPANION.asked == 3  # of Chronos-2: the weights of Kronos are made in the same run
        ask_networks(candlecast, {*WEIGHTS}, tasks)
        assert COMPANION.asked == 6
        for asset in WEIGHTS:
            ((forecaster, own),) = forecasters_by_task(asset, candlecast.settings, candlecast.checkpoints, tasks)
            result = generate_forecasts(candlecast, forecaster, own)
            assert result.created == len(tasks) == 4
            # Of the network, not of the wait for it.
            assert result.cost and result.cost.seconds > 0.001 and result.cost.peak_mib > 300
            assert repeatable(candlecast, [result]) == {forecaster.name}
        assert COMPANION.asked == 0
        ask_networks(candlecast, {*WEIGHTS}, tasks)
        assert COMPANION.asked == 0  # nothing is missing
        later = home.tasks(date(2012, 6, 21), date(2012, 6, 21))
        drift = home.settings.drift.model_copy(update={"action": "block"})
        blocking = Candlecast(candlecast.settings.model_copy(update={"drift": drift}))
        ask_networks(blocking, {*WEIGHTS}, later)
        assert COMPANION.asked == 3  # Kronos may be blocked
        weights = home.checkpoints.current("chronos2_model")
        assert weights
        (weights.folder / "model.safetensors").unlink()
        ask_networks(candlecast, {*WEIGHTS}, home.tasks(date(2012, 6, 22), date(2012, 6, 22)))
        assert COMPANION.asked == 6  # of Kronos; the error is that of the asset chronos2_forecasts
        monkeypatch.setattr(COMPANION, "ask", _no_thread)
        ask_networks(candlecast, {*WEIGHTS}, home.tasks(date(2012, 6, 25), date(2012, 6, 25)))  # as above
    finally:
        COMPANION.stop()
