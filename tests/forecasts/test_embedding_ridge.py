"""The ridge on embeddings: what it is fitted on, and what it learns where there is something to learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import dagster as dg
import numpy as np
import pytest

from assets.forecasting.embedders import embedder
from assets.forecasting.models.embedding_ridge import EmbeddingRidge, embedding_ridge, ridge
from assets.forecasting.plugin import Forecaster, ForecastInput
from assets.forecasting.registry import forecasters_by_task, models_in_use, plugin_problems
from assets.forecasts.assets import build_assets
from assets.sessions import session_partitions
from resources.errors import CandlecastError
from resources.settings import ModelSettings, Settings
from tests.forecasts.forecast_home import ForecastHome, publish_tiny_chronos2

LEVELS = (0.05, 0.5, 0.95)


def _ridge(home: ForecastHome, **options: Any) -> EmbeddingRidge:
    return embedding_ridge(home.settings, {"kronos": home.checkpoints, "chronos2": home.checkpoints}, **options)


def _input(home: ForecastHome, symbol: str, origin: str) -> ForecastInput:
    history = home.histories()[symbol]
    index = history.index_of(np.datetime64(origin))
    assert index is not None
    targets = history.stamps[index + 1 : index + 11]
    return ForecastInput(symbol, history.stamps[: index + 1], history.bars_as_of(index), targets)


def test_leave_one_out_predictions_are_those_of_ridges_without_the_row() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(60, 5))
    targets = (features @ rng.normal(size=5) + rng.normal(size=60))[:, None]
    centre = features.mean(axis=0)
    weights, means, left_out = ridge(features - centre, np.ones(5), targets)
    np.testing.assert_allclose(means + (features - centre) @ weights, left_out, atol=0.5)
    # The penalty that was chosen, from the weights themselves.
    gram, moment = (features - centre).T @ (features - centre), (features - centre).T @ (targets - means)
    penalty = float(np.mean((moment - gram @ weights) / weights))
    for row in (0, 17, 59):
        kept = np.arange(60) != row
        x = features[kept] - features[kept].mean(axis=0)
        y = targets[kept] - targets[kept].mean(axis=0)
        own = np.linalg.solve(x.T @ x + penalty * np.eye(5), x.T @ y)
        expected = targets[kept].mean(axis=0) + (features[row] - features[kept].mean(axis=0)) @ own
        np.testing.assert_allclose(left_out[row], expected, rtol=1e-9)


def test_a_forecast_uses_targets_that_ended_before_its_year(model_home: ForecastHome) -> None:
    forecaster = _ridge(model_home)
    assert isinstance(forecaster, Forecaster) and forecaster.cutoff == date(2010, 12, 31)
    one = _input(model_home, "IBM", "2012-03-15")
    before = forecaster.predict([one], LEVELS)
    assert before.shape == (1, 10, 3) and (np.diff(before, axis=-1) > 0).all()
    # A jump of this year that lies outside of the newest window changes neither the fit nor the forecast.
    january = np.flatnonzero(one.stamps >= np.datetime64("2012-01-01"))[0]
    window = model_home.settings.windows.lookback_window
    late = _input(model_home, "IBM", "2012-10-15")
    bars = late.bars.copy()
    bars[january + 5 : january + 20, :4] *= 1.3
    assert january + 20 < len(bars) - window
    changed = _ridge(model_home).predict([replace(late, bars=bars)], LEVELS)
    assert changed.tobytes() == forecaster.predict([late], LEVELS).tobytes()
    bars[january - 40 : january - 20, :4] *= 1.3
    assert forecaster.predict([replace(late, bars=bars)], LEVELS).tobytes() != changed.tobytes()


def test_a_forecast_depends_on_no_other_input_and_not_on_the_fits_before(model_home: ForecastHome) -> None:
    inputs = [_input(model_home, symbol, "2012-05-15") for symbol in ("IBM", "AAPL", "FB", "IBM") if symbol != "FB"]
    together = _ridge(model_home, source="chronos2").predict(inputs, LEVELS)
    alone = _ridge(model_home, source="chronos2").predict(inputs[1:2], LEVELS)
    assert together[1].tobytes() == alone[0].tobytes() and together[0].tobytes() == together[2].tobytes()


def test_a_symbol_with_few_windows_gets_its_own_volatility(model_home: ForecastHome) -> None:
    one = _input(model_home, "FB", "2013-02-01")
    values = _ridge(model_home).predict([one], LEVELS)[0]
    volatility = np.sqrt(np.mean(np.diff(np.log(one.closes[-90:])) ** 2))
    np.testing.assert_allclose(np.log(values[3, 2] / one.closes[-1]), 1.6448536 * volatility * 2, rtol=1e-6)


def test_volatility_that_an_embedding_holds_is_learnt(model_home: ForecastHome) -> None:
    """An embedding of the regime that comes, which the window does not show."""
    rng = np.random.default_rng(5)
    days = np.arange("2000-01-01", "2012-07-01", dtype="datetime64[D]")
    stamps, loud = days.astype("datetime64[s]"), (np.arange(len(days)) // 40) % 2 == 0
    closes = 100 * np.exp(np.cumsum(rng.normal(size=len(days)) * np.where(loud, 0.02, 0.005)))
    bars = np.column_stack([closes] * 4 + [np.ones(len(days))] * 2)
    coming = dict(zip(stamps.tolist(), np.roll(loud, -5), strict=True))

    def embed(windows: Sequence[np.ndarray], stamps: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([[float(coming[own[-1].item()]), 1.0] for own in stamps], np.float32)

    source = embedder("kronos", model_home.settings, model_home.checkpoints, "last")
    forecaster = EmbeddingRidge(replace(source, load=lambda: embed), 10, 250)
    widths = []
    end = len(days) // 80 * 80
    for before in (end - 81, end - 41):  # the last bars before a loud and a quiet stretch
        one = ForecastInput("X", stamps[: before + 1], bars[: before + 1], stamps[before + 1 : before + 11])
        values = forecaster.predict([one], LEVELS)[0]
        widths.append(float(np.log(values[-1, 2] / values[-1, 0])))
    assert widths[0] > 1.5 * widths[1]


@pytest.mark.parametrize(
    ("options", "named"),
    [({"source": "drift"}, "drift"), ({"windows": 3}, "windows"), ({"pooling": "first"}, "pooling")],
)
def test_impossible_options_are_named(model_home: ForecastHome, options: dict[str, object], named: str) -> None:
    with pytest.raises(CandlecastError, match=named):
        _ridge(model_home, **options)


def _with_ridge(home: ForecastHome, **values: object) -> Settings:
    model = ModelSettings.model_validate(
        {"factory": f"{embedding_ridge.__module__}:embedding_ridge", "options": {"source": "chronos2"}, **values}
    )
    return home.settings.model_copy(update={"models": {"mine": model}})


def test_weights_that_are_yet_to_be_trained_are_no_problem_and_are_trained_first(home: ForecastHome) -> None:
    settings = _with_ridge(home, reads=["chronos2"])
    assert plugin_problems(settings, home.checkpoints) == {}
    assert "mine" not in {one.model for one in models_in_use(settings, home.checkpoints)}
    made = build_assets(settings, session_partitions(settings))
    (asset,) = (
        one for one in made if isinstance(one, dg.AssetsDefinition) and one.key == dg.AssetKey("mine_forecasts")
    )
    assert dg.AssetKey("chronos2_model") in asset.dependency_keys
    publish_tiny_chronos2(home.checkpoints)
    assert "mine" in {one.model for one in models_in_use(settings, home.checkpoints)}


@pytest.mark.parametrize("reads", [[], ["kronos"]])
def test_a_source_that_is_not_among_the_models_it_reads_is_refused(model_home: ForecastHome, reads: list[str]) -> None:
    assert "reads" in plugin_problems(_with_ridge(model_home, reads=reads), model_home.checkpoints)["mine"]


def test_each_vintage_reads_its_own_checkpoint(home: ForecastHome) -> None:
    for year in (2011, 2012):
        publish_tiny_chronos2(home.checkpoints.at(date(year, 1, 1)), f"{year - 1}-12-31", seed=year)
    settings = _with_ridge(home.with_settings(windows={"vintage": "year"}), reads=["chronos2"])
    tasks = home.tasks(date(2011, 12, 20), date(2012, 1, 20))
    found = [model for model, _ in forecasters_by_task("mine_forecasts", settings, home.checkpoints, tasks)]
    assert [one.trained_until for one in found] == [date(2010, 12, 31), date(2011, 12, 31)]
    read = [one.recipe["forecaster"]["embeddings"] for one in found]
    assert read[0] != read[1] and len(models_in_use(settings, home.checkpoints)) > 2
