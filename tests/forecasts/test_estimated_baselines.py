"""The baselines with estimated parameters: the recursion, the pool, stored estimates, vintages, and what they read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from arch import arch_model
from scipy.signal import lfilter

from assets.forecasting.baselines.closed_form import ESTIMATED, MODELS, baseline_forecasters
from assets.forecasting.baselines.estimated import estimated_baselines
from assets.forecasting.baselines.garch import GarchLaw, garch_quantiles, log_returns
from assets.forecasting.baselines.har import MarketRanges
from assets.forecasting.baselines.parameters import estimate, read_market, refresh_estimates, stored_estimates
from assets.forecasting.forecaster import ForecastModel, ForecastTask
from assets.forecasting.models.garch import Garch
from assets.forecasting.recursion import first_order
from assets.forecasting.registry import checkpoints_in_use, forecasters_by_task, models_in_use
from assets.forecasts.batches import target_timestamps
from assets.forecasts.generate import generate_forecasts
from assets.forecasts.lookahead_check import batch_difference, forecasts_changed_by_future_bars
from resources.layout import Home
from tests.forecasts.forecast_home import ForecastHome, create_home, real_bars

ASSET = "baseline_forecasts"


@pytest.fixture
def estimated(home: ForecastHome) -> list[ForecastModel]:
    """The models of a home after their estimation."""
    refresh_estimates(home.settings, home.warehouse)
    return estimated_baselines(home.settings)


def _targets(home: ForecastHome, tasks: Sequence[ForecastTask]) -> np.ndarray:
    return target_timestamps(tasks, home.candlecast.calendar, home.settings.windows.predict_window)


def _file(home: ForecastHome) -> Path:
    (file,) = Home(home.settings.home).estimates.glob("*.json")
    return file


def _correct(home: ForecastHome, session: str, symbol: str = "IBM") -> None:
    with home.warehouse.write() as connection:
        connection.execute(
            "UPDATE bars SET close = low + (high - low) * 0.4 WHERE symbol = ? AND session = ?", [symbol, session]
        )


@pytest.mark.parametrize("shape", [(0,), (1,), (700,), (700, 3), (0, 3), (700, 30)])
def test_a_first_order_recursion_has_the_bits_of_a_filter(shape: tuple[int, ...]) -> None:
    inputs = np.random.default_rng(3).standard_normal(shape) ** 2
    inputs[500:501] = np.nan
    expected = lfilter([1.0], [1.0, -0.93], inputs, axis=0)
    assert first_order(inputs, 0.93).tobytes() == expected.tobytes()


@pytest.mark.parametrize("asymmetric", [False, True])
def test_the_recursion_is_that_of_arch(home: ForecastHome, asymmetric: bool) -> None:
    returns = log_returns(home.histories()["IBM"])[:1500] * 100
    fitted = arch_model(returns, mean="Zero", vol="GARCH", p=1, o=int(asymmetric), q=1, dist="t", rescale=False).fit(
        disp="off"
    )
    values = fitted.params
    gamma = float(values.get("gamma[1]", 0.0))
    law = GarchLaw(float(values["alpha[1]"]), gamma, float(values["beta[1]"]), float(values["nu"]))
    unconditional = np.full(len(returns), float(values["omega"]) / (1 - law.persistence))
    ours = law.next_variances(returns, unconditional)
    np.testing.assert_allclose(ours[75:-1], np.asarray(fitted.conditional_volatility)[76:] ** 2, rtol=1e-8)
    prefix = law.next_variances(returns[:40], unconditional[:40])
    np.testing.assert_array_equal(prefix, ours[:40])


def test_quantiles_over_several_steps_are_those_of_simulated_paths() -> None:
    law = GarchLaw(0.08, 0.0, 0.9, 6.0)
    returns = np.random.default_rng(5).standard_t(6, 900) * 0.01
    at = np.array([899])
    levels = [0.05, 0.25, 0.5, 0.9]
    ours = garch_quantiles(law, law.shapes(5, levels), returns, at)[0]
    usual = float(np.mean(returns**2))
    first = law.next_variances(returns, np.full(900, usual))[-1]
    garch = Garch(usual * (1 - law.persistence), law.alpha, 0.0, law.beta, law.degrees, float(first))
    drawn = np.concatenate([garch.cumulative_returns(5, seed) for seed in range(20)], axis=1)
    np.testing.assert_allclose(ours, np.quantile(drawn, levels, axis=1).T, rtol=0.03, atol=2e-4)


def test_forecasts_read_no_later_bar_and_no_other_task(home: ForecastHome, estimated: list[ForecastModel]) -> None:
    tasks = home.tasks(date(2012, 6, 1), date(2012, 12, 31))
    targets = _targets(home, tasks)
    for model in estimated:
        predict = model.load()
        assert forecasts_changed_by_future_bars(predict, tasks, targets) == []
        assert batch_difference(predict, tasks, targets).max() == 0
        quantiles = predict(tasks, targets).quantiles
        closes = [task.history.closes_as_of(task.index)[-1] for task in tasks]
        median = home.settings.forecasts.levels.index(0.5)
        np.testing.assert_allclose(quantiles[:, :, 0, median], np.repeat(closes, 10).reshape(-1, 10))
        assert (np.diff(quantiles, axis=-1) > 0).all() and (np.diff(quantiles[..., -1], axis=1) > 0).all()


def test_a_symbol_without_training_bars_is_forecast_with_the_parameters_of_the_others(tmp_path: Path) -> None:
    known = create_home(tmp_path / "known", real_bars().query("symbol != 'FB'"))
    refresh_estimates(known.settings, known.warehouse)
    with_fb = create_home(tmp_path / "with_fb")
    refresh_estimates(with_fb.settings, with_fb.warehouse)
    assert _file(known).read_bytes() == _file(with_fb).read_bytes()
    task = [one for one in with_fb.tasks(date(2012, 12, 3), date(2012, 12, 28)) if one.symbol == "FB"]
    for model in estimated_baselines(with_fb.settings):
        assert model.load()(task, _targets(with_fb, task)).fallbacks == {}


def test_a_new_symbol_keeps_the_estimates_and_a_correction_of_training_bars_makes_others(tmp_path: Path) -> None:
    bars = real_bars()
    home = create_home(tmp_path, bars.query("symbol != 'MSFT'"))
    refresh_estimates(home.settings, home.warehouse)
    content, before = _file(home).read_bytes(), checkpoints_in_use(home.settings, home.checkpoints)
    later = create_home(tmp_path / "other", bars.query("symbol == 'MSFT'"))
    frame = later.warehouse.frame("SELECT * FROM bars")
    with home.warehouse.write() as connection:
        connection.register("frame", frame)
        connection.execute("INSERT INTO bars BY NAME SELECT * FROM frame")
    _correct(home, "2010-06-01")
    refresh_estimates(home.settings, home.warehouse)
    assert _file(home).read_bytes() == content, "neither a new symbol nor a bar after windows.train has an effect"
    _correct(home, "2009-06-01")
    refresh_estimates(home.settings, home.warehouse)
    after = checkpoints_in_use(home.settings, home.checkpoints)
    assert all(before[model] != after[model] for model in ESTIMATED)
    assert all(before[model] == after[model] for model in MODELS)


def test_damaged_estimates_are_made_again(home: ForecastHome, estimated: list[ForecastModel]) -> None:
    file = _file(home)
    content = file.read_bytes()
    file.write_bytes(content[:100])
    assert stored_estimates(home.settings).har is None and not file.exists()
    refresh_estimates(home.settings, home.warehouse)
    assert file.read_bytes() == content
    assert [one.checkpoint for one in estimated_baselines(home.settings)] == [one.checkpoint for one in estimated]


def test_a_stored_estimate_is_read_and_not_made_again(home: ForecastHome, monkeypatch: pytest.MonkeyPatch) -> None:
    made = refresh_estimates(home.settings, home.warehouse)
    monkeypatch.setattr(Garch, "fit", lambda *args: pytest.fail("estimated again"))
    again = refresh_estimates(home.settings, home.warehouse)
    assert all(made.numbers(model) == again.numbers(model) for model in ESTIMATED)


def test_every_vintage_has_estimates_of_its_own_training_range(home: ForecastHome) -> None:
    home = home.with_settings(windows={"vintage": "year"})
    early = home.tasks(date(2010, 12, 31), date(2010, 12, 31))
    tasks = [*early, *home.tasks(date(2011, 12, 1), date(2012, 2, 1))]
    found = forecasters_by_task(ASSET, home.settings, home.checkpoints, tasks)
    assert [model.model for model, own in found if len(own) == len(tasks)] == list(MODELS)
    har = [(model, own) for model, own in found if model.model == "har"]
    assert [(model.vintage, model.trained_until) for model, _ in har] == [
        (date(2011, 1, 1), date(2009, 12, 31)),
        (date(2012, 1, 1), date(2010, 12, 31)),
    ]
    assert early and har[0][1][: len(early)] == early, "by the first vintage, which was not trained on them"
    assert generate_forecasts(home.candlecast, *har[1]).created == len(har[1][1])
    used = [one.checkpoint for one in models_in_use(home.settings, home.checkpoints) if one.model == "har"]
    assert used[:2] == [model.checkpoint for model, _ in har] and len(set(used)) == len(used)


def test_without_training_bars_the_forecast_is_that_of_the_random_walk_and_is_reported(home: ForecastHome) -> None:
    home = home.with_settings(windows={"train": (date(2009, 1, 1), date(2009, 12, 31))})
    tasks = home.tasks(date(2012, 1, 3), date(2012, 1, 31))
    found = {model.model: model for model, _ in forecasters_by_task(ASSET, home.settings, home.checkpoints, tasks)}
    expected = found["random_walk_ewma"].load()(tasks, _targets(home, tasks)).quantiles
    for name in ESTIMATED:
        result = generate_forecasts(home.candlecast, found[name], tasks)
        assert result.created == len(tasks) == len(result.fallbacks) and "windows.train" in result.fallbacks[0].reason
        made = found[name].load()(tasks, _targets(home, tasks)).quantiles
        np.testing.assert_allclose(made, expected, rtol=1e-12)
    assert not Home(home.settings.home).estimates.exists()


def test_estimates_of_histories_are_those_of_the_warehouse(home: ForecastHome) -> None:
    histories = home.histories()
    market = MarketRanges.of_histories(list(histories.values()))
    stored = read_market(home.settings, home.warehouse)
    np.testing.assert_array_equal(market.values, stored.values)
    assert market.digest(market.stamps[-1]) == stored.digest(market.stamps[-1]) != market.digest(market.stamps[-2])
    ours, theirs = estimate(home.settings, histories, market), refresh_estimates(home.settings, home.warehouse)
    assert all(ours.numbers(model) == theirs.numbers(model) for model in ESTIMATED)
    assert len(baseline_forecasters(home.settings)) == len(MODELS)
