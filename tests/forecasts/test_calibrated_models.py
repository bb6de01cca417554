"""Calibrated models from stored forecasts of a home."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest

from assets.forecasting.calibration import kept_states, known_reads
from assets.forecasting.calibration import stored as stored_module
from assets.forecasting.calibration.base_keys import Base
from assets.forecasting.calibration.models import SharedReads, derived_model
from assets.forecasting.calibration.recalibration import Recalibration
from assets.forecasting.calibration.stored import StoredForecasts
from assets.forecasting.forecaster import ForecastModel, ForecastTask, Predict, Prediction
from assets.forecasting.registry import forecasters_by_task, forecasters_in
from assets.forecasts.acceptance import check_failures
from assets.forecasts.batches import target_timestamps
from assets.forecasts.generate import ForecastResult, generate_all, generate_forecasts
from assets.forecasts.repeat_checks import check_lookahead
from assets.forecasts.summary import failed_forecasts
from tests.forecasts.forecast_home import ForecastHome

ASSET, NAME = "calibrated_forecasts", "random_walk_recalibrated"


def _calibrated(home: ForecastHome, tasks: list[ForecastTask]) -> ForecastModel:
    found = forecasters_by_task(ASSET, home.settings, home.checkpoints, tasks)
    return next(model for model, _ in found if model.model == NAME)


def _base(home: ForecastHome) -> ForecastModel:
    models = forecasters_in("baseline_forecasts", home.settings, home.checkpoints)
    return next(model for model in models if model.model == "random_walk")


def _quantiles(home: ForecastHome, model: ForecastModel, tasks: list[ForecastTask]) -> np.ndarray:
    horizon = home.settings.windows.predict_window
    return model.load()(tasks, target_timestamps(tasks, home.candlecast.calendar, horizon)).quantiles


def test_calibrated_forecasts_are_made_from_the_store_and_equal_for_any_choice_of_symbols(
    home: ForecastHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, late = home.tasks(date(2010, 1, 1), date(2011, 12, 31)), home.tasks(date(2012, 1, 1), date(2012, 3, 30))
    base = _base(home)
    generate_forecasts(home.candlecast, base, [*early, *late])
    model = _calibrated(home, late)
    result = generate_forecasts(home.candlecast, model, [*early, *late])
    assert result.created == len(early) + len(late) and not result.failures
    assert check_lookahead(home.candlecast, [result]).passed
    alone = [task for task in late if task.symbol == "IBM"]
    again = _quantiles(home, _calibrated(home, alone), alone)
    rows = [place for place, task in enumerate(late) if task.symbol == "IBM"]
    together = _quantiles(home, model, late)
    np.testing.assert_array_equal(again, together[rows])
    # The median is the model's, and the bands are learnt from a year and more of outcomes.
    raw = _quantiles(home, base, late)
    np.testing.assert_allclose(together[..., 9], raw[..., 9], rtol=1e-12)
    assert (np.abs(together[..., 0] / raw[..., 0] - 1) > 1e-4).mean() > 0.9
    # Equal bits where earlier forecasts do not fit in memory, nor in one panel.
    with monkeypatch.context() as little:
        little.setattr(known_reads, "_known", None)
        little.setattr(stored_module, "VALUES_KEPT", 0)
        little.setattr(stored_module, "VALUES_PER_PANEL", together[0].size * 10)
        np.testing.assert_array_equal(_quantiles(home, _calibrated(home, late), late), together)
    stored = StoredForecasts(home.settings)
    read = [Base(base.model, (base.checkpoint,))]
    assert stored.digest(read, late[0].origin) != stored.digest(read, late[-1].origin)


def test_a_new_origin_continues_from_the_kept_state_whose_loss_damage_or_age_changes_no_bit(
    home: ForecastHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, late = home.tasks(date(2011, 1, 3), date(2011, 12, 30)), home.tasks(date(2012, 1, 2), date(2012, 1, 31))
    base = _base(home)
    generate_forecasts(home.candlecast, base, [*early, *late])
    read = list[int]()
    quantiles = StoredForecasts.quantiles

    def counted(stored: StoredForecasts, *args: Any) -> np.ndarray:
        read.append(len(args[-1]))
        return quantiles(stored, *args)

    monkeypatch.setattr(StoredForecasts, "quantiles", counted)

    def learnt() -> tuple[np.ndarray, int]:
        read.clear()
        # As in another process.
        monkeypatch.setattr(known_reads, "_known", None)
        return _quantiles(home, _calibrated(home, late), late), sum(read)

    # Of a model in use no longer, and one that another asset uses.
    folder = home.candlecast.home.learnt
    folder.mkdir()
    gone, other_asset = (folder / f"{name}-0123456789abcdef.state" for name in (NAME, "combination_crps"))
    for one in (gone, other_asset):
        one.touch()
    anew, every = learnt()
    assert not gone.exists() and other_asset.exists()
    other_asset.unlink()
    (file,) = folder.iterdir()
    kept = file.read_bytes()
    continued, newest = learnt()
    np.testing.assert_array_equal(continued, anew)
    assert 0 < newest < every / 2 and file.read_bytes() == kept
    # Damaged, of other contents, or gone: learnt from the first origin on.
    found = kept_states.read_state(file)
    assert found
    other = {name: values + 1 for name, values in found.state.items()}
    for break_it in (
        lambda: file.write_bytes(kept[:-200]),
        lambda: file.write_bytes(b""),
        lambda: kept_states.write_state(file, replace(found, digest="0" * 64, state=other)),
        file.unlink,
    ):
        break_it()
        again, rows = learnt()
        np.testing.assert_array_equal(again, anew)
        assert rows == every and file.read_bytes() == kept
    # A forecast that it was learnt from is another one: what is derived is as in a home without a state.
    with home.candlecast.warehouse.write() as connection:
        connection.execute(
            "UPDATE forecast_quantiles SET value = value * 1.5 WHERE level > 0.9 AND origin = ?",
            [early[9].origin.item()],
        )
    changed, rows = learnt()
    file.unlink()
    np.testing.assert_array_equal(changed, learnt()[0])
    assert rows == every and not np.array_equal(changed, anew)


def test_a_forecast_whose_model_has_none_fails_with_that_reason_and_the_others_are_made(home: ForecastHome) -> None:
    tasks = home.tasks(date(2012, 1, 1), date(2012, 2, 10))
    generate_forecasts(home.candlecast, _base(home), [task for task in tasks if task.symbol != "IBM"])
    result: ForecastResult = generate_forecasts(home.candlecast, _calibrated(home, tasks), tasks)
    assert {one.task.symbol for one in result.failures} == {"IBM"} and result.created
    assert all("random_walk has no forecast" in one.reason for one in result.failures)
    assert not check_failures([result]).passed


def _failing(base: ForecastModel) -> ForecastModel:
    """A model that does not forecast IBM."""

    def load() -> Predict:
        predict = base.load()

        def failing(own: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
            quiet = {row: "too quiet" for row, task in enumerate(own) if task.symbol == "IBM"}
            return replace(predict(own, targets), failures=quiet)

        return failing

    return replace(base, load=load)


def test_what_its_model_failed_to_forecast_is_stated_and_is_no_failure_of_a_derived_model(home: ForecastHome) -> None:
    tasks = home.tasks(date(2012, 1, 1), date(2012, 2, 10))
    generate_forecasts(home.candlecast, _failing(_base(home)), tasks)
    result = generate_forecasts(home.candlecast, _calibrated(home, tasks), tasks)
    assert {one.task.symbol for one in result.failures} == {"IBM"} and result.created
    outcome = check_failures([result])
    assert outcome.passed and all(
        text in outcome.description for text in (NAME, "random_walk failed: too quiet", "IBM")
    )
    assert failed_forecasts([result]).empty


def test_a_failure_is_stated_along_a_chain_of_models_that_are_made_in_one_run(home: ForecastHome) -> None:
    settings, tasks = home.settings, home.tasks(date(2012, 1, 1), date(2012, 1, 20))
    base, shared = _base(home), SharedReads(home.settings)
    learn = Recalibration(settings.forecasts.levels, settings.windows.predict_window, settings.calibration.half_life)
    first = derived_model("first", [[base]], learn, {}, None, settings, shared)
    second = derived_model("second", [[first]], learn, {}, None, settings, shared)
    generate_forecasts(home.candlecast, _failing(base), tasks)
    results = generate_all(home.candlecast, [(first, tasks), (second, tasks)])
    reasons = [{one.reason for one in result.failures} for result in results]
    assert reasons == [{"random_walk failed: too quiet"}, {"first failed: random_walk failed: too quiet"}]
    assert check_failures(results).passed and all(result.created for result in results)
