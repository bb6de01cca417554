"""Whether Chronos-2 finds a planted signal: `python -m benchmarks.planted_signal [--quick]`.

A simulated market whose daily returns follow an AR(1) with φ = 0.15, with clustered volatility, a market factor and
OHLCV bars. The compact Chronos-2 is fine-tuned on the first part. On the last part its CRPS is compared with that of a
random walk with EWMA volatility: as forecast, with the median on the last close, with the location shrunk by a factor
per step that the validation part determines, and with the oracle, which knows φ.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from assets.forecasting.baselines.closed_form import baseline_forecasters
from assets.forecasting.chronos2.forecaster import chronos2_forecaster
from assets.forecasting.forecaster import ForecastTask, Predict, Prediction
from assets.market.history import BarHistory
from assets.training.build_checkpoint import build_checkpoint, checkpoint_request
from assets.training.data.current_windows import TrainingWindows
from assets.training.data.dataset import write_arrays
from assets.training.data.windows import build_windows
from assets.training.model_selection.scoring import compare_skill, score_forecasts, tasks_at_origins
from resources.checkpoints import CheckpointStore
from resources.layout import Home
from resources.publish import publishing_folder
from resources.settings import Chronos2Settings, ComputeSettings, ForecastSettings, Settings, WindowSettings
from resources.settings_training import PACKAGED_INPUTS

PHI = 0.15
BARS, SYMBOLS, SEED = 2500, 100, 12
FIRST = np.datetime64("2011-01-03")
# Of the bars: training, then validation, then test.
TRAIN, VALIDATION = 0.6, 0.75
FACTORS = np.round(np.arange(0, 1.01, 0.1), 1)
BASELINE = "random_walk_ewma"


def simulated_market(symbols: int, bars: int, phi: float, seed: int) -> dict[str, BarHistory]:
    """Bars of a market whose log returns follow r' = φ r + σ' z, with GARCH(1,1) volatility and a common factor."""
    rng = np.random.default_rng(seed)
    stamps = np.busday_offset(FIRST, np.arange(bars), roll="forward").astype("datetime64[s]")
    common = _garch_noise(rng.standard_normal((bars, 1)))
    noise = 0.5 * common + np.sqrt(0.75) * _garch_noise(rng.standard_t(6, (bars, symbols)) / np.sqrt(1.5))
    shocks = noise * rng.uniform(0.01, 0.025, symbols)
    returns = np.zeros((bars, symbols))
    for bar in range(1, bars):
        returns[bar] = phi * returns[bar - 1] + shocks[bar]
    closes = np.log(rng.uniform(20, 200, symbols)) + np.cumsum(returns, axis=0)
    before = np.vstack([closes[:1], closes[:-1]])
    spread = np.abs(shocks).mean(axis=0) + np.abs(shocks)
    opens = before + 0.3 * returns + 0.1 * spread * rng.standard_normal(returns.shape)
    high = np.maximum(opens, closes) + 0.4 * spread * rng.exponential(size=returns.shape)
    low = np.minimum(opens, closes) - 0.4 * spread * rng.exponential(size=returns.shape)
    volume = 1e6 * np.exp(0.3 * rng.standard_normal(returns.shape)) * (1 + np.abs(shocks) / shocks.std(axis=0))
    prices = np.exp(np.stack([opens, high, low, closes], axis=-1))
    unknown = np.full((bars, 1), np.nan)
    return {
        f"S{number:03}": BarHistory(
            f"S{number:03}",
            stamps,
            np.hstack([prices[:, number], volume[:, number, None], unknown]),
            np.ones(bars),
            np.ones(bars),
        )
        for number in range(symbols)
    }


def _garch_noise(shocks: np.ndarray) -> np.ndarray:
    """Standardised shocks (bars, n) times a GARCH(1,1) volatility of mean 1."""
    variance, result = np.ones(shocks.shape[1]), np.empty_like(shocks)
    for bar, shock in enumerate(shocks):
        result[bar] = np.sqrt(variance) * shock
        variance = 0.03 + 0.07 * result[bar] ** 2 + 0.9 * variance
    return result


def planted_settings(home: Path, steps: int, bars: int) -> Settings:
    """Fine-tuning of the packaged weights on the first part of the bars."""
    days = np.busday_offset(FIRST, np.arange(bars), roll="forward")
    first, train, validation, last = (
        days[number].item() for number in (0, int(TRAIN * bars), int(VALIDATION * bars), bars - 1)
    )
    return Settings(
        profile="planted",
        home=home,
        windows=WindowSettings(
            train=(first, train), validation=(_next(train), validation), test=(_next(validation), last)
        ),
        chronos2=Chronos2Settings(
            base="packaged", steps=steps, learning_rate=1e-3, evaluate_every=max(steps // 4, 1), **PACKAGED_INPUTS
        ),
        forecasts=ForecastSettings(recentre=False),
        compute=ComputeSettings(device="cpu", threads=1),
    )


def _next(day: date) -> date:
    return (np.datetime64(day) + 1).item()


def fitted_store(settings: Settings, histories: Mapping[str, BarHistory]) -> CheckpointStore:
    """A store whose Chronos-2 is fine-tuned on the training range."""
    home = Home(settings.home)
    found = build_windows(histories, settings.windows)
    folder = home.windows / found.digest
    with publishing_folder(folder, home.scratch / "windows") as filling:
        write_arrays(filling, found.arrays, dict(found.manifest))
    windows, store = TrainingWindows(found.digest, folder), CheckpointStore(home)
    request = checkpoint_request("chronos2_model", settings, windows)
    store.set_current("chronos2_model", build_checkpoint(request, settings, home, store, windows).digest)
    return store


def remembered(predict: Predict) -> Predict:
    """The same forecasts, each computed once."""
    known: dict[tuple[tuple[str, np.datetime64], ...], Prediction] = {}

    def recalled(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        key = tuple((task.symbol, task.origin) for task in tasks)
        if key not in known:
            known[key] = predict(tasks, targets)
        return known[key]

    return recalled


def shifted(predict: Predict, location: Callable[[np.ndarray], np.ndarray], median: int) -> Predict:
    """Forecasts whose log medians (tasks, steps), relative to the last close, are replaced by a function of them."""

    def moved(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        found = predict(tasks, targets)
        last = np.array([task.history.closes_as_of(task.index, task.index)[-1] for task in tasks])
        own = np.log(found.quantiles[:, :, 0, median] / last[:, None])
        change = np.exp(location(own) - own)[:, :, None, None]
        return replace(found, quantiles=found.quantiles * change)

    return moved


def oracle(baseline: Predict, phi: float) -> Predict:
    """The baseline, centred on the expected return."""

    def centred(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        found = baseline(tasks, targets)
        last = np.array([np.log(task.history.closes_as_of(task.index, task.index - 1)) for task in tasks])
        steps = np.arange(1, targets.shape[1] + 1)
        mean = (last[:, 1] - last[:, 0])[:, None] * phi * (1 - phi**steps) / (1 - phi)
        return replace(found, quantiles=found.quantiles * np.exp(mean)[:, :, None, None])

    return centred


def main() -> None:
    """Simulate, fine-tune, measure; print a table and write it to benchmarks/results/planted_signal.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="30 symbols, 120 steps: about two minutes")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--phi", type=float, default=PHI)
    given = parser.parse_args()
    symbols, steps = (30, 120) if given.quick else (SYMBOLS, given.steps)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        results = measure(Path(work), symbols, steps, BARS, given.phi)
    print(f"\n{symbols} symbols, {steps} steps, φ = {given.phi}: {time.perf_counter() - started:.0f} s")
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "planted_signal.json").write_text(json.dumps(results, indent=1))


def measure(work: Path, symbols: int, steps: int, bars: int, phi: float) -> dict[str, dict[str, float | None]]:
    """CRPS skill of each variant against the random walk, on the test range."""
    settings = planted_settings(work, steps, bars)
    histories = simulated_market(symbols, bars, phi, SEED)
    windows, levels = settings.windows, settings.forecasts.levels
    horizon, median = windows.predict_window, levels.index(0.5)

    def tasks(span: tuple[date, date]) -> list[ForecastTask]:
        stamps = next(iter(histories.values())).stamps
        within = stamps[(stamps >= np.datetime64(span[0])) & (stamps <= np.datetime64(span[1]))]
        return tasks_at_origins(histories, list(within[::5]), windows.lookback_window, horizon)

    def scores(predict: Predict, chosen: Sequence[ForecastTask]) -> pd.DataFrame:
        return score_forecasts(predict, chosen, horizon, levels, 1024)

    walk = next(one for one in baseline_forecasters(settings) if one.model == BASELINE).load()
    raw = remembered(chronos2_forecaster(settings, fitted_store(settings, histories)).load())
    selected, tested = tasks(windows.validation), tasks(windows.test)
    by_factor = [
        scores(shifted(raw, partial(np.multiply, factor), median), selected).groupby("step")["crps"].mean()
        for factor in FACTORS
    ]
    shrinkage = FACTORS[np.argmin(np.stack([one.to_numpy() for one in by_factor]), axis=0)]
    variants = {
        "as forecast": raw,
        "median on the last close": shifted(raw, np.zeros_like, median),
        "location shrunk per step": shifted(raw, partial(np.multiply, shrinkage), median),
        "oracle": oracle(walk, phi),
    }
    theirs, results = scores(walk, tested), dict[str, dict[str, float | None]]()
    for name, predict in variants.items():
        ours = scores(predict, tested)
        all_steps = compare_skill(ours, theirs, settings.seed)
        first = compare_skill(ours[ours["step"] == 1], theirs[theirs["step"] == 1], settings.seed)
        print(f"{name:26} all steps: {all_steps.text}\n{'':26} step 1: {first.text}")
        results[name] = {**all_steps.to_dict(), "step_1": first.skill}
    print(f"factors of the location by step: {shrinkage.tolist()}")
    return results


if __name__ == "__main__":
    main()
