"""Scores on the held-out end of series: metrics, and the naive forecasts beside them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scoringrules
from scipy.stats import norm

from assets.forecasting.plugin import NO_TRAINING, ForecastInput
from assets.forecasting.series.naive import naive_quantiles
from assets.forecasting.series_forecast import SeriesRequest, forecast_series
from resources.errors import CandlecastError
from resources.settings import ForecastSettings, ModelSettings, Settings
from tests.forecasts.published_weights import BOLT_STEPS, save_chronos_t5

VALUES = np.array([3.0, 5, 4, 7, 6, 8, 9, 7, 11, 10, 12, 9, 13, 14])


def frame(values: np.ndarray = VALUES) -> pd.DataFrame:
    return pd.DataFrame({"timestamp": pd.date_range("2020-02-03", periods=len(values), freq="D"), "value": values})


def test_naive_intervals_grow_with_the_root_of_the_step() -> None:
    levels = np.array([0.1, 0.5, 0.9])
    deviation = np.sqrt(np.mean(np.diff(VALUES) ** 2))
    expected = VALUES[-1] + deviation * np.sqrt([[1], [2], [3]]) * norm.ppf(levels)
    np.testing.assert_allclose(naive_quantiles(VALUES, 3, levels, 1), expected)


def test_a_seasonal_forecast_repeats_the_last_season_that_is_known() -> None:
    gap = VALUES.copy()
    gap[-3] = np.nan
    made = naive_quantiles(gap, 5, np.array([0.5, 0.9]), 4)
    np.testing.assert_allclose(made[:, 0], [VALUES[-4], VALUES[-7], VALUES[-2], VALUES[-1], VALUES[-4]])
    deviation = np.sqrt(np.nanmean((gap[4:] - gap[:-4]) ** 2))
    spread = (made[:, 1] - made[:, 0]) / (deviation * norm.ppf(0.9))
    np.testing.assert_allclose(spread, np.sqrt([1, 2, 1, 1, 2]))


def test_metrics_are_those_of_their_definitions() -> None:
    request = SeriesRequest(holdout=4, model="naive", season=5, levels=[0.1, 0.25, 0.5, 0.75, 0.9])
    made = forecast_series(frame(), request)
    assert made.scores is not None
    scores = made.scores.set_index("model")
    assert list(scores.index) == ["naive", "seasonal_naive"]
    known, actual = VALUES[:-4], VALUES[-4:]
    error = actual - known[-1]
    own = scores.loc["naive"]
    assert own["mae"] == pytest.approx(np.abs(error).mean())
    assert own["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    assert own["mape"] == pytest.approx(100 * np.abs(error / actual).mean())
    deviation = np.sqrt(np.mean(np.diff(known) ** 2)) * np.sqrt(np.arange(1, 5))
    exact = scoringrules.crps_normal(actual, known[-1], deviation).mean()
    assert own["crps"] == pytest.approx(exact, rel=0.02)
    assert own["coverage_80"] == (np.abs(error) <= deviation * norm.ppf(0.9)).mean()
    assert own["coverage_50"] == (np.abs(error) <= deviation * norm.ppf(0.75)).mean()
    assert scores.loc["seasonal_naive", "mae"] == pytest.approx(np.abs(actual - known[-5:-1]).mean())
    assert made.quantiles["actual"].tolist() == actual.tolist()


def test_held_out_values_do_not_reach_the_forecast() -> None:
    other = VALUES.copy()
    other[-4:] = 99.0
    made, changed = (
        forecast_series(frame(np.tile(one, 1)), SeriesRequest(holdout=4, model="packaged")).quantiles
        for one in (VALUES, other)
    )
    pd.testing.assert_frame_equal(made.drop(columns="actual"), changed.drop(columns="actual"), check_exact=True)


def test_scores_are_per_series_and_over_all_and_unknown_values_do_not_count() -> None:
    values = VALUES.copy()
    values[-2] = np.nan
    both = pd.concat([frame().assign(id="a"), frame(values).assign(id="b"), frame(VALUES[:5]).assign(id="c")])
    made = forecast_series(both, SeriesRequest(holdout=4, horizon=2, model="naive"))
    assert made.scores is not None
    own = made.scores[made.scores["model"] == "naive"].set_index("id")
    assert own["n"].to_dict() == {"a": 4, "b": 3, "all series": 7}
    mae = own["mae"].to_dict()
    assert mae["all series"] == pytest.approx((4 * mae["a"] + 3 * mae["b"]) / 7)
    assert not made.rejected
    assert set(made.not_scored) == {"c"} and "holdout" in made.not_scored["c"]
    # With a horizon as well, the forecast is that of the steps after the last value.
    assert set(made.quantiles["id"]) == {"a", "b", "c"} and "actual" not in made.quantiles


def test_forecasters_get_the_levels_and_steps_of_the_request(tmp_path: Path) -> None:
    long = frame(np.tile(VALUES, 5))
    save_chronos_t5(tmp_path)
    factories = "assets.forecasting.models."
    paths = ModelSettings(factory=f"{factories}chronos_models:chronos", options={"model": str(tmp_path)})
    models = {"fracast": ModelSettings(factory=f"{factories}fracast_model:fracast"), "paths": paths}
    settings = Settings(models=models, forecasts=ForecastSettings(sample_count=30))
    made = forecast_series(long, SeriesRequest(holdout=12, model="fracast"), settings=settings)
    assert made.scores is not None
    assert np.isfinite(
        made.scores.set_index("model").loc["fracast", ["mae", "crps", "coverage_80"]].astype(float)
    ).all()
    with pytest.raises(CandlecastError, match=r"0\.95: 0\.95 is above 0\.9.* fracast; state --levels 0\.5"):
        forecast_series(long, SeriesRequest(horizon=2, model="fracast", levels=[0.5, 0.95]), settings=settings)
    drawn = forecast_series(long, SeriesRequest(horizon=2, holdout=BOLT_STEPS, model="paths"), settings=settings)
    assert len(drawn.quantiles) == 2
    with pytest.raises(CandlecastError, match=f"{BOLT_STEPS} bars, not {BOLT_STEPS + 1}.*--horizon"):
        forecast_series(long, SeriesRequest(horizon=BOLT_STEPS + 1, model="paths"), settings=settings)


def test_a_forecast_of_a_simpler_model_is_noted() -> None:
    models = {"own_garch": ModelSettings(factory="assets.forecasting.models.garch:garch_t")}
    made = forecast_series(frame(), SeriesRequest(horizon=2, model="own_garch"), settings=Settings(models=models))
    assert len(made.quantiles) == 2 and any("500 returns" in one and "random_walk_ewma" in one for one in made.notes)


def test_a_percentage_of_zero_is_not_defined() -> None:
    values = VALUES.copy()
    values[-1] = 0.0
    made = forecast_series(frame(values), SeriesRequest(holdout=2, model="naive"))
    assert made.scores is not None
    assert np.isnan(made.scores["mape"]).all() and np.isfinite(made.scores["mae"]).all()


def answer(name: str, inputs: Sequence[ForecastInput], levels: Sequence[float]) -> object:
    """What careless forecasters return."""
    closes = np.array([one.closes[-1] for one in inputs])
    made = closes[:, None, None] + np.linspace(-1, 1, len(levels)) * np.ones((len(inputs), len(inputs[0].targets), 1))
    if name == "beside":
        return made + 0.001 * len(inputs)
    if name == "random":
        return made + np.random.default_rng().normal()
    if name == "writes":
        for one in inputs:
            one.bars[:] = 3.0
    if name in ("raises", "writes") and (closes > 7).any():
        raise RuntimeError("no such price")
    if name == "exits" and (closes > 7).any():
        raise SystemExit(3)
    if name == "prints":
        sys.stdout.write("hello")
    if name == "complex":
        return made * 1j
    if name == "unknown":
        made[closes > 7] = np.nan
    return made[:, :-1] if name == "short" else made


@dataclass
class Careless:
    name: str
    family: str = "toy"
    licence: str = "MIT"
    cutoff: date | None = NO_TRAINING
    recipe: dict[str, object] = field(default_factory=dict)
    lookback: int | None = None

    def predict(self, inputs: Sequence[ForecastInput], levels: Sequence[float]) -> Any:
        return answer(self.name, inputs, levels)


def careless(settings: Settings, name: str) -> Careless:
    return Careless(name)


@pytest.mark.parametrize(
    ("name", "rejected", "note"),
    [
        ("good", [], ""),
        ("raises", ["high"], "no such price"),
        ("writes", ["high"], "no such price"),
        ("exits", ["high"], "SystemExit: 3"),
        ("prints", [], ""),
        ("complex", ["low", "high", "mid"], "no array of numbers"),
        ("unknown", ["high"], "no finite forecast"),
        ("short", ["low", "high", "mid"], "expected"),
        ("beside", [], "alone is another"),
        ("random", [], "alone is another"),
    ],
)
def test_one_series_that_a_forecaster_fails_on_spoils_no_other(
    capsys: pytest.CaptureFixture[str], name: str, rejected: list[str], note: str
) -> None:
    long = pd.concat(
        [frame(VALUES * 0 + value).assign(id=one) for one, value in (("low", 2.0), ("high", 8.0), ("mid", 5.0))]
    )
    settings = Settings(models={"toy": ModelSettings(factory=f"{__name__}:careless", options={"name": name})})
    made = forecast_series(long, SeriesRequest(horizon=3, model="toy"), settings=settings)
    assert list(made.rejected) == rejected and not capsys.readouterr().out
    assert any(note in text for text in [*made.rejected.values(), *made.notes])
    for one, value in (("low", 2.0), ("mid", 5.0)):
        if one not in rejected and name != "random":
            own = made.quantiles[made.quantiles["id"] == one]["0.5"].to_numpy()
            np.testing.assert_allclose(own, value + (0.001 if name == "beside" else 0.0))


@pytest.mark.parametrize("name", ["naive", "packaged"])
def test_a_model_of_the_settings_does_not_take_the_name_of_another(name: str) -> None:
    settings = Settings(models={name: ModelSettings(factory=f"{__name__}:careless", options={"name": "good"})})
    with pytest.raises(CandlecastError, match=rf"models\.{name}\].*rename"):
        forecast_series(frame(), SeriesRequest(horizon=3, model=name), settings=settings)
