"""The forecasters in the box: independent of their batch, deterministic, and clear about series they cannot use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from assets.evaluation.scoreboard import build_scoreboard
from assets.evaluation.scoring import score_sessions
from assets.forecasting.baselines.closed_form import baseline_forecasters, random_walk_ewma
from assets.forecasting.forecaster import at_levels
from assets.forecasting.kronos_forecaster import kronos_forecaster
from assets.forecasting.models import boosted_quantiles, garch
from assets.forecasting.models.boosted_quantiles import bar_features, lightgbm, period_start
from assets.forecasting.models.chronos_models import chronos
from assets.forecasting.models.exponential_smoothing import auto_ets, auto_theta
from assets.forecasting.models.fracast_model import fracast
from assets.forecasting.models.garch import garch_t, gjr_garch_t
from assets.forecasting.models.kronos_hub import kronos_hub
from assets.forecasting.models.pretrained import SERIES_AT_ONCE
from assets.forecasting.models.timesfm_model import timesfm
from assets.forecasting.models.tirex_model import tirex
from assets.forecasting.plugin import NO_TRAINING, Forecaster, ForecastInput, Paths, Quantiles
from assets.forecasting.plugin_models import level_rule, plugin_model
from assets.forecasts.acceptance import check_failures
from assets.forecasts.batches import target_timestamps
from assets.forecasts.generate import generate_forecasts
from assets.forecasts.lookahead_check import forecasts_changed_by_future_bars
from assets.forecasts.summary import fallback_forecasts
from assets.training.fit.base_weights import WEIGHTS
from resources.candlecast import Candlecast
from resources.checkpoints import Kind
from resources.errors import CandlecastError
from resources.quantile_levels import SETTING, require_levels
from resources.settings import ModelSettings, Settings
from tests.forecasts.forecast_home import ForecastHome, publish_tiny_kronos
from tests.forecasts.published_weights import (
    BOLT_STEPS,
    real_inputs,
    save_chronos_bolt,
    save_chronos_t5,
    save_timesfm_3,
    save_tirex,
    small_timesfm_2,
)

DECILES = [round(0.1 * number, 1) for number in range(1, 10)]
SETTINGS = Settings().model_copy(
    update={"forecasts": Settings().forecasts.model_copy(update={"levels": tuple(DECILES), "sample_count": 30})}
)


@dataclass(frozen=True)
class Case:
    """A forecaster of the box, with weights of the structure of the published ones where it has any."""

    factory: Callable[..., Forecaster]
    options: Mapping[str, Any] = field(default_factory=dict)
    save: Callable[[Path], None] | None = None

    def with_weights(self, folder: Path) -> dict[str, Any]:
        """The options, with the folder of weights that are saved there."""
        if self.save is None:
            return dict(self.options)
        if not folder.exists():
            self.save(folder)
        return {**self.options, "model": str(folder)}

    def make(self, folder: Path, settings: Settings = SETTINGS) -> Forecaster:
        return self.factory(settings, **self.with_weights(folder / "weights"))


FITTED: dict[str, Callable[..., Forecaster]] = {
    "auto_ets": auto_ets,
    "auto_theta": auto_theta,
    "garch_t": garch_t,
    "gjr_garch_t": gjr_garch_t,
    "lightgbm": lightgbm,
}
PACKAGED_KRONOS = {"model": str(WEIGHTS / "kronos_predictor"), "tokenizer": str(WEIGHTS / "kronos_tokenizer")}
CASES = {
    **{name: Case(factory) for name, factory in FITTED.items()},
    "chronos": Case(chronos, {"context": 64}, save_chronos_t5),
    "chronos_bolt": Case(chronos, {"context": 64}, save_chronos_bolt),
    "chronos_2": Case(chronos, {"context": 64, "model": str(WEIGHTS / "chronos2_model")}),
    "kronos_hub": Case(kronos_hub, PACKAGED_KRONOS),
    "fracast": Case(fracast, {"context": 128}),
    "tirex": Case(tirex, {"context": 64}, save_tirex),
    "timesfm": Case(timesfm, {"context": 64, "generation": "3.0"}, save_timesfm_3),
}


def _values(forecaster: Forecaster, inputs: list[ForecastInput]) -> np.ndarray:
    found = forecaster.predict(inputs, DECILES)
    assert isinstance(found, Quantiles | Paths)
    return found.values


def _cut(one: ForecastInput, forecaster: Forecaster) -> ForecastInput:
    """The input as it is handed to a forecaster: its newest bars."""
    kept = slice(-forecaster.lookback if forecaster.lookback else None, None)
    return replace(one, stamps=one.stamps[kept], bars=one.bars[kept])


@pytest.mark.parametrize("name", CASES)
def test_a_forecast_depends_on_its_own_input_alone_bit_for_bit(name: str, tmp_path: Path) -> None:
    forecaster = CASES[name].make(tmp_path)
    origins = [date(2011, 3, 1), date(2011, 6, 1), date(2012, 3, 1)]
    inputs = [_cut(one, forecaster) for one in real_inputs(origins)]
    together = _values(forecaster, inputs)
    assert len(inputs) > SERIES_AT_ONCE
    assert np.isfinite(together).all() and (together > 0).all()
    assert together.tobytes() == _values(forecaster, inputs[::-1])[::-1].tobytes()
    again = CASES[name].make(tmp_path)
    assert np.concatenate([_values(again, [one]) for one in inputs]).tobytes() == together.tobytes()


@pytest.mark.parametrize("name", CASES)
def test_a_forecaster_states_licence_cutoff_and_recipe(name: str, tmp_path: Path) -> None:
    first, second = CASES[name].make(tmp_path), CASES[name].make(tmp_path)
    assert isinstance(first, Forecaster)
    assert first.recipe == second.recipe and first.recipe["version"]
    assert (first.cutoff == NO_TRAINING) == (name in FITTED)
    assert first.family and first.licence


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("place", "value"), [(-1, np.nan), (-3, 0.0), (-5, np.inf)])
def test_closes_that_cannot_be_used_are_named(name: str, place: int, value: float, tmp_path: Path) -> None:
    forecaster = CASES[name].make(tmp_path)
    good = real_inputs([date(2012, 3, 1)], ["IBM"], bars=90)[0]
    bars = good.bars.copy()
    bars[place, :4] = value
    with pytest.raises(Exception, match="IBM"):
        forecaster.predict([replace(good, bars=bars)], DECILES)


@pytest.mark.parametrize("name", CASES)
def test_a_single_bar_is_too_short_and_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="IBM"):
        CASES[name].make(tmp_path).predict(real_inputs([date(2012, 3, 1)], ["IBM"], bars=1), DECILES)


@pytest.mark.parametrize("name", FITTED)
def test_a_price_that_never_moves_is_forecast_without_width_and_reported(name: str) -> None:
    one = real_inputs([date(2012, 3, 1)], ["IBM"], bars=1500)[0]
    bars = one.bars.copy()
    bars[:, :4] = 40.0
    forecaster, flat = FITTED[name](SETTINGS), replace(one, bars=bars)
    values = _values(forecaster, [flat])
    np.testing.assert_allclose(values, 40.0, rtol=1e-12)
    forecasts = forecaster.predict([flat, one], DECILES)
    assert isinstance(forecasts, Quantiles) and list(forecasts.fallbacks) == [0]


@pytest.mark.parametrize("name", ["garch_t", "gjr_garch_t", "lightgbm"])
def test_a_short_history_is_forecast_by_the_baseline_and_reported(name: str) -> None:
    one = real_inputs([date(2012, 3, 1)], ["IBM"], bars=120)[0]
    forecaster = FITTED[name](SETTINGS)
    values = _values(forecaster, [one])[0, :, 0]
    _, variance = random_walk_ewma(np.diff(np.log(one.closes)), np.arange(1.0, 11))
    expected = ndtr(np.log(values / one.closes[-1]) / np.sqrt(variance)[:, None])
    np.testing.assert_allclose(expected, np.tile(DECILES, (10, 1)), rtol=1e-9)
    forecasts = forecaster.predict([one], DECILES)
    assert isinstance(forecasts, Quantiles) and list(forecasts.fallbacks) == [0]
    assert forecaster.recipe["fallback"] == "random_walk_ewma"


def test_an_error_that_is_no_failed_fit_is_not_replaced_by_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise TypeError("forecast() got an unexpected keyword")

    monkeypatch.setattr("statsforecast.models.AutoTheta.fit", broken)
    with pytest.raises(TypeError, match="unexpected keyword"):
        auto_theta(SETTINGS).predict(real_inputs([date(2012, 3, 1)], ["IBM"]), DECILES)


def test_forecasts_of_the_fallback_are_counted_and_reported(home: ForecastHome) -> None:
    models = {"garch": ModelSettings(factory=f"{garch_t.__module__}:garch_t")}
    settings = home.settings.model_copy(update={"models": models})
    tasks = home.tasks(date(2012, 12, 3), date(2012, 12, 14))
    result = generate_forecasts(home.candlecast, plugin_model(settings, "garch", home.checkpoints), tasks)
    # Its shares are listed since May 2012.
    assert {one.task.symbol for one in result.fallbacks} == {"FB"} and result.created == len(tasks)
    table = fallback_forecasts([result])
    assert table["symbol"].tolist() == ["FB"] and table["forecasts"].tolist() == [len(result.fallbacks)]
    outcome = check_failures([result])
    assert not outcome.passed and not outcome.severe and "FB" in outcome.description


@pytest.mark.parametrize("name", ["fracast", "chronos_bolt", "tirex", "timesfm"])
def test_levels_that_the_weights_do_not_give_are_refused(name: str, tmp_path: Path) -> None:
    rule = level_rule(name, CASES[name].make(tmp_path, Settings()))
    with pytest.raises(CandlecastError, match=rf"0\.05 .*{name}; set forecasts\.levels = \[0\.1, "):
        require_levels(Settings().forecasts.levels, SETTING, rule)


def test_levels_between_two_own_ones_are_interpolated() -> None:
    rising = np.array([[1.0, 2.0, 4.0]])
    np.testing.assert_array_equal(at_levels(rising, [0.1, 0.5, 0.9], [0.1, 0.3, 0.9]), [[1.0, 1.5, 4.0]])


def test_a_horizon_beyond_one_pass_keeps_the_medians_of_the_first_and_widens(tmp_path: Path) -> None:
    save_chronos_bolt(tmp_path)
    forecaster = chronos(SETTINGS, model=str(tmp_path), context=64)
    near, far = (_values(forecaster, real_inputs([date(2012, 3, 1)], horizon=steps)) for steps in (BOLT_STEPS, 40))
    median = DECILES.index(0.5)
    np.testing.assert_allclose(far[:, :BOLT_STEPS, 0, median], near[:, :, 0, median], rtol=1e-12)
    assert (np.diff(np.log(far[..., 0, -1] / far[..., 0, 0]), axis=1) >= -1e-9).all()


def test_paths_beyond_the_horizon_of_the_weights_are_refused(tmp_path: Path) -> None:
    save_chronos_t5(tmp_path)
    windows = SETTINGS.windows.model_copy(update={"predict_window": BOLT_STEPS + 1})
    with pytest.raises(CandlecastError, match=r"windows\.predict_window"):
        chronos(SETTINGS.model_copy(update={"windows": windows}), model=str(tmp_path), context=64)


def test_garch_variance_is_that_of_arch_and_its_median_the_last_close() -> None:
    from arch import arch_model

    returns = np.random.default_rng(3).standard_t(5, 1200) * 0.6
    for asymmetric in (False, True):
        found = garch.Garch.fit(returns, asymmetric)
        theirs = arch_model(returns, mean="Zero", vol="GARCH", p=1, o=int(asymmetric), q=1, dist="t", rescale=False)
        expected = theirs.fit(disp="off").forecast(horizon=1, reindex=False).variance.to_numpy()[0, 0]
        assert np.isclose(found.next_variance, expected, rtol=1e-9)
        simulated = found.cumulative_returns(5, seed=1)
        assert np.isclose(simulated[0].var(), expected, rtol=0.1)
        assert simulated[:3].tobytes() == found.cumulative_returns(3, seed=1).tobytes()
    symmetric = garch.Garch.fit(returns, asymmetric=False).cumulative_returns(5, seed=2)
    np.testing.assert_allclose(np.median(symmetric, axis=1), 0, atol=1e-12)


def test_the_interval_of_auto_theta_is_that_of_simulating_statsforecasts_recursion() -> None:
    from statsforecast.models import AutoTheta
    from statsforecast.theta import compute_pi_samples

    from assets.forecasting.models.exponential_smoothing import _theta

    closes = np.cumsum(np.random.default_rng(4).normal(0, 0.01, 400)) + 3
    fitted = AutoTheta(season_length=1).fit(closes).model_
    samples = compute_pi_samples(
        n=400,
        h=8,
        states=fitted["states"],
        sigma=np.std(fitted["residuals"][3:], ddof=1),
        alpha=fitted["par"]["alpha"],
        theta=fitted["par"]["theta"],
        mean_y=fitted["mean_y"],
        n_samples=20_000,
    )
    _, deviation = _theta(closes, 8)
    np.testing.assert_allclose(deviation, samples.std(axis=1), rtol=0.03)


def test_the_trees_of_a_year_are_fitted_to_earlier_bars_and_shared_by_its_forecasts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fits: list[int] = []
    fit = boosted_quantiles._fit

    def counted(features: np.ndarray, targets: np.ndarray, level: float) -> Any:
        fits.append(len(features))
        return fit(features, targets, level)

    monkeypatch.setattr(boosted_quantiles, "_fit", counted)
    early, late, next_year = (
        real_inputs([day], ["IBM"])[0] for day in (date(2011, 2, 1), date(2011, 11, 1), date(2012, 2, 1))
    )
    forecaster = lightgbm(SETTINGS)
    forecaster.predict([early, late], [0.5])
    assert len(fits) == 1
    forecaster.predict([next_year], [0.5])
    assert len(fits) == 2
    # Bars of the year itself change the features of a forecast, and no tree.
    bars = late.bars.copy()
    bars[-150:, :4] *= np.linspace(1, 3, 150)[:, None]
    forecaster.predict([replace(late, bars=bars)], [0.5])
    assert len(fits) == 2
    assert period_start(late.origin, "quarter") == np.datetime64("2011-10-01T00:00:00")


def test_features_do_not_depend_on_the_price_level() -> None:
    one = real_inputs([date(2011, 2, 1)], ["IBM"])[0]
    first, volatility = bar_features(np.log(one.closes), one.bars)
    scaled = bar_features(np.log(one.closes * 1.37), one.bars * 1.37)
    np.testing.assert_allclose(first, scaled[0], atol=1e-6)
    np.testing.assert_allclose(volatility, scaled[1], rtol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_bars_after_the_origin_change_no_bit_of_a_forecast(name: str, home: ForecastHome, tmp_path: Path) -> None:
    case = CASES[name]
    named = {
        "factory": f"{case.factory.__module__}:{case.factory.__name__}",
        "options": case.with_weights(tmp_path / "weights"),
    }
    models = {name: ModelSettings.model_validate(named)}
    settings = SETTINGS.model_copy(update={"models": models})
    tasks = home.tasks(date(2012, 5, 1), date(2012, 5, 10))
    targets = target_timestamps(tasks, home.candlecast.calendar, 10)
    assert not forecasts_changed_by_future_bars(plugin_model(settings, name, home.checkpoints).load(), tasks, targets)


def published_in_march_2012(settings: Settings) -> Forecaster:
    """fracast as if its weights were older than most of the bars."""
    return replace(fracast(settings), cutoff=date(2012, 3, 30), recipe={})


def test_a_pretrained_model_of_another_package_is_stored_scored_and_compared(home: ForecastHome) -> None:
    """fracast's weights come inside its wheel. Origins up to its cutoff are in-sample."""
    named = {"factory": f"{__name__}:published_in_march_2012"}
    models = {"fracast": ModelSettings.model_validate(named)}
    home = ForecastHome(
        Candlecast(
            home.settings.model_copy(update={"models": models, "forecasts": SETTINGS.forecasts}),
        )
    )
    tasks = home.tasks(date(2012, 2, 1), date(2012, 5, 31))
    forecasters = [plugin_model(home.settings, "fracast", home.checkpoints), *baseline_forecasters(home.settings)]
    for forecaster in forecasters:
        generate_forecasts(home.candlecast, forecaster, tasks)
    score_sessions(home.warehouse, home.histories(), [date(2012, 2, 1), date(2012, 6, 15)])
    used = {forecaster.model: forecaster.checkpoint for forecaster in forecasters}
    compared = build_scoreboard(home.warehouse, home.settings, used, home.candlecast.calendar)
    counts = compared.counts.set_index("model").loc["fracast"]
    origins = {task.origin for task in tasks}
    assert counts["in_sample"] == sum(origin <= np.datetime64("2012-03-30") for origin in origins)
    assert counts["out_of_sample"] == len(origins) - counts["in_sample"] > 0
    board = compared.scoreboard
    row = board[(board["model"] == "fracast") & (board["metric"] == "crps") & (board["baseline"] == "random_walk_ewma")]
    assert np.isfinite(row["skill"]).all() and (row["skill"].abs() < 0.5).all()


def test_timesfm_2_5_forecasts_each_series_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its shape is fixed in its package: 200 million parameters, here made small."""
    from timesfm.timesfm_2p5.timesfm_2p5_torch import TimesFM_2p5_200M_torch, TimesFM_2p5_200M_torch_module

    monkeypatch.setattr(TimesFM_2p5_200M_torch_module, "config", small_timesfm_2())
    TimesFM_2p5_200M_torch(torch_compile=False)._save_pretrained(tmp_path)
    forecaster = timesfm(SETTINGS, model=str(tmp_path), context=64)
    inputs = [_cut(one, forecaster) for one in real_inputs([date(2011, 3, 1), date(2011, 6, 1), date(2012, 3, 1)])]
    together = _values(forecaster, inputs)
    assert np.isfinite(together).all() and (np.diff(together[:, :, 0], axis=-1) >= 0).all()
    assert together.tobytes() == np.concatenate([_values(forecaster, [one]) for one in inputs]).tobytes()


def test_folders_without_weights_and_models_that_were_not_fetched_are_named(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"home": tmp_path / "home", "root": tmp_path})
    (tmp_path / "empty").mkdir()
    with pytest.raises(CandlecastError, match=r"empty has no config\.json, model\.safetensors"):
        chronos(settings, model="empty")
    with pytest.raises(CandlecastError, match=r"candlecast fetch .*amazon/chronos-bolt-nano"):
        chronos(settings, model="amazon/chronos-bolt-nano")
    with pytest.raises(CandlecastError, match="no such folder"):
        chronos(settings, model="no such folder")


def test_an_option_out_of_range_is_named() -> None:
    with pytest.raises(CandlecastError, match="lookback = 5"):
        auto_ets(SETTINGS, lookback=5)
    with pytest.raises(CandlecastError, match="refit"):
        lightgbm(SETTINGS, refit="decade")  # type: ignore[arg-type]


def test_kronos_by_folder_has_the_first_step_of_the_asset_of_the_same_weights(home: ForecastHome) -> None:
    """It is read off the tokens' probabilities: the seeds of the two differ."""
    publish_tiny_kronos(home.checkpoints)
    asset = kronos_forecaster(home.settings, home.checkpoints)
    kinds: dict[str, Kind] = {"model": "kronos_predictor", "tokenizer": "kronos_tokenizer"}
    used = {option: home.checkpoints.current(kind) for option, kind in kinds.items()}
    options = {option: str(found.folder) for option, found in used.items() if found}
    models = {
        "hub": ModelSettings.model_validate({"factory": f"{kronos_hub.__module__}:kronos_hub", "options": options})
    }
    plugin = plugin_model(home.settings.model_copy(update={"models": models}), "hub", home.checkpoints)
    tasks = home.tasks(date(2012, 5, 1), date(2012, 5, 3))
    targets = target_timestamps(tasks, home.candlecast.calendar, 10)
    ours, theirs = plugin.load()(tasks, targets), asset.load()(tasks, targets)
    assert not ours.failures and ours.paths is not None
    np.testing.assert_array_equal(ours.quantiles[:, 0], theirs.quantiles[:, 0])
