"""Kronos' sample paths and their quantiles."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from assets.forecasting.chronos2.outputs import quantiles_to_prices
from assets.forecasting.forecaster import forecast_seed, path_quantiles
from assets.forecasting.kronos_forecaster import kronos_forecaster
from assets.forecasting.path_files import paths_file
from assets.forecasts import acceptance, generate, summary
from assets.forecasts.generate import generate_forecasts
from assets.forecasts.sample_paths import write_paths
from assets.training.fit.base_weights import resolve_base
from kronos import PathResult
from orchestration.cli.doctor import diagnose
from resources.errors import CandlecastError
from tests.forecasts.forecast_home import ForecastHome, create_home, publish_tiny_kronos, read_paths, real_bars

SESSION = date(2012, 7, 2)


def test_paths_and_quantiles_are_valid_bars(model_home: ForecastHome) -> None:
    forecaster = kronos_forecaster(model_home.settings, model_home.checkpoints)
    tasks = model_home.tasks(SESSION, SESSION)
    generate_forecasts(model_home.candlecast, forecaster, tasks)
    run = summary.ForecastRange(forecaster, [tasks[0].origin])
    file = paths_file(model_home.candlecast.home, "kronos", forecaster.checkpoint, tasks[0].origin)
    assert acceptance.disordered(model_home.warehouse, [run])[0].empty
    assert acceptance.impossible(model_home.warehouse, [run])[0].empty
    assert acceptance.incomplete(model_home.warehouse, [run])[0].empty
    assert acceptance.impossible_paths(model_home.warehouse, [file]).empty
    assert summary.corrected_rates(model_home.warehouse, [run])[0] > 0  # random weights: most raw bars are impossible
    paths = read_paths(file)
    assert set(paths) == {task.symbol for task in tasks}
    assert paths["AAPL"].shape == (100, 10, 6)


def test_a_lookback_beyond_that_of_the_training_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = create_home(tmp_path, real_bars().iloc[:5].reset_index(drop=True))
    publish_tiny_kronos(home.checkpoints)
    for trained, warned in ((None, False), (90, False), (61, True)):
        found = home.checkpoints.current("kronos_predictor")
        assert found is not None and home.settings.windows.lookback_window == 90
        home.checkpoints.update_card(found, {"trained_lookback": trained})
        notes = [kronos_forecaster(home.settings, home.checkpoints).note for _ in range(3)]
        assert all(("windows.lookback_window = 61" in note) == warned for note in notes)
        logged = [one for one in caplog.messages if "lookback_window" in one]
        assert len(logged) == warned
    lines = [one.found for one in diagnose(home.settings) if one.check == "context"]
    assert lines == [f"warning: {notes[0]}"]
    assert resolve_base("kronos_predictor", "packaged", None, home.settings).trained_lookback == 90


def test_an_invalid_bar_of_a_path_is_found(home: ForecastHome, tmp_path: Path) -> None:
    bars = np.tile(np.array([10, 11, 9, 10, 5, 50], dtype=np.float32), (2, 3, 4, 1))
    bars[1, 2, 3, 1] = 9.5  # a high below the close
    write_paths(tmp_path / "p.parquet", ["A", "B"], bars)
    found = acceptance.impossible_paths(home.warehouse, [tmp_path / "p.parquet"])
    assert found[["symbol", "path", "step"]].values.tolist() == [["B", 3, 4]]


def test_symbols_forecast_later_join_the_paths_and_change_no_others(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    first, second = (generator.random((2, 30, 10, 6), dtype=np.float32) for _ in range(2))
    file = tmp_path / "paths" / "2012-07-02.parquet"
    write_paths(file, ["A", "B"], first)
    write_paths(file, ["B", "C"], second)
    kept = read_paths(file)
    np.testing.assert_array_equal(kept["A"], first[0])
    np.testing.assert_array_equal(kept["B"], second[0])
    np.testing.assert_array_equal(kept["C"], second[1])


def test_after_a_kill_the_quantiles_are_those_of_the_paths_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = real_bars()
    home = create_home(tmp_path, bars[bars["ts"] >= "2012-01-01"].reset_index(drop=True))
    publish_tiny_kronos(home.checkpoints)
    origin = date(2012, 8, 1)

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(generate, "write_forecasts", killed)
        with pytest.raises(KeyboardInterrupt):
            generate_forecasts(
                home.candlecast, kronos_forecaster(home.settings, home.checkpoints), home.tasks(origin, origin)
            )
    with home.warehouse.write() as connection:
        connection.execute(
            "UPDATE bars SET open = open * 1.02, high = high * 1.02, low = low * 1.02, close = close * 1.02 "
            "WHERE ts BETWEEN '2012-07-25' AND '2012-08-01'"
        )
    forecaster, tasks = kronos_forecaster(home.settings, home.checkpoints), home.tasks(origin, origin)
    assert generate_forecasts(home.candlecast, forecaster, tasks).created == len(tasks)
    paths = read_paths(paths_file(home.candlecast.home, "kronos", forecaster.checkpoint, tasks[0].origin))
    for task in tasks:
        stored = home.warehouse.frame(
            "SELECT value FROM forecast_quantiles WHERE symbol = $s AND field = 'close' AND step = 2 ORDER BY level",
            {"s": task.symbol},
        )
        own = PathResult(paths[task.symbol][None], np.zeros(1, np.float32), True, np.zeros((1, 100, 10, 2), np.int64))
        expected = own.quantiles(home.settings.forecasts.levels)[0, :, 1, 3]
        np.testing.assert_allclose(stored["value"].to_numpy(), expected, rtol=1e-6)


def test_every_symbol_and_origin_draws_from_a_stream_of_its_own() -> None:
    origins = np.datetime64("2012-01-01", "s") + np.arange(200) * np.timedelta64(86_400, "s")
    seeds = {forecast_seed(7, symbol, origin) for symbol in ("AAPL", "IBM") for origin in origins}
    assert len(seeds) == 400
    assert forecast_seed(7, "AAPL", origins[0]) == 66879679160649069
    assert forecast_seed(8, "AAPL", origins[0]) != forecast_seed(7, "AAPL", origins[0])


@settings(deadline=None)
@given(arrays(np.float32, (2, 30, 3, 1), elements=st.floats(float(np.float32(1e-3)), 1e6, width=32)))
def test_quantiles_of_any_paths_rise(paths: np.ndarray) -> None:
    levels = [round(0.05 * k, 2) for k in range(1, 20)]
    quantiles = path_quantiles(paths, levels)
    assert quantiles.shape == (2, 3, 1, 19)
    assert (np.diff(quantiles, axis=-1) >= 0).all()
    assert (quantiles >= paths.min(axis=1)[..., None]).all()
    assert (quantiles <= paths.max(axis=1)[..., None]).all()


@given(arrays(np.float64, (3, 4, 5), elements=st.floats(-5, 5)))
def test_recentred_quantiles_have_the_last_close_as_their_median(raw: np.ndarray) -> None:
    last = np.log(np.array([10.0, 20.0, 30.0]))
    prices = quantiles_to_prices(raw, last, 2)
    np.testing.assert_allclose(prices[..., 2], np.broadcast_to(np.exp(last)[:, None], (3, 4)), rtol=1e-12)
    assert (np.diff(prices, axis=-1) >= 0).all()
    np.testing.assert_array_equal(quantiles_to_prices(raw, last, None), np.exp(np.sort(raw, axis=-1)))


def test_without_a_checkpoint_the_error_names_the_assets_to_materialise(home: ForecastHome) -> None:
    with pytest.raises(CandlecastError, match="materialise kronos_tokenizer and kronos_predictor"):
        kronos_forecaster(home.settings, home.checkpoints)


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_lost_sample_paths_are_generated_again_and_the_quantiles_stay(model_home: ForecastHome, damage: str) -> None:
    forecaster = kronos_forecaster(model_home.settings, model_home.checkpoints)
    tasks = model_home.tasks(SESSION, SESSION)
    generate_forecasts(model_home.candlecast, forecaster, tasks)
    file = paths_file(model_home.candlecast.home, "kronos", forecaster.checkpoint, tasks[0].origin)
    paths, quantiles = read_paths(file), model_home.warehouse.frame("FROM forecast_quantiles ORDER BY ALL")
    file.unlink() if damage == "gone" else file.write_bytes(file.read_bytes()[:500])
    assert generate_forecasts(model_home.candlecast, forecaster, tasks).created == 0
    again = read_paths(file)
    for symbol in paths:
        np.testing.assert_array_equal(again[symbol], paths[symbol])
    assert model_home.warehouse.frame("FROM forecast_quantiles ORDER BY ALL").equals(quantiles)
