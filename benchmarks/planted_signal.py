"""Whether Chronos-2 finds a planted signal: `python -m benchmarks.planted_signal [--quick] [--base packaged]`.

A simulated market whose daily returns follow an AR(1) with φ = 0.15, with clustered volatility, a market factor and
OHLCV bars. A compact Chronos-2 is trained on the first part, by default from random weights, with the settings of the
how-to on fine-tuning. On the last part its CRPS is compared with that of a random walk with EWMA volatility: as
forecast, with the median on the last close, anchored to a volatility model by the outcomes of earlier origins, and that
of the oracle, which knows φ. What the location adds is the CRPS skill against the same quantiles on the last close.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np

from assets.forecasting.baselines.closed_form import baseline_forecasters
from assets.forecasting.calibration.anchoring import Anchoring, AnchoringWeights
from assets.forecasting.calibration.panel import ForecastPanel
from assets.forecasting.chronos2.forecaster import chronos2_forecaster
from assets.forecasting.forecaster import ForecastTask, Predict, Prediction
from assets.forecasting.volatility.forecaster import volatility_forecaster
from assets.market.history import BarHistory
from assets.training.build_checkpoint import build_checkpoint
from assets.training.checkpoint_request import checkpoint_request
from assets.training.data.current_windows import TrainingWindows
from assets.training.data.dataset import write_arrays
from assets.training.data.windows import build_windows
from assets.training.model_selection.scoring import compare_skill, score_forecasts, tasks_at_origins
from assets.training.volatility import build_volatility
from resources.checkpoints import CheckpointStore
from resources.layout import Home
from resources.publish import publishing_folder
from resources.settings import (
    Chronos2Settings,
    ComputeSettings,
    ForecastSettings,
    Settings,
    VolatilitySettings,
    WindowSettings,
)
from resources.settings_training import PACKAGED_INPUTS

PHI = 0.15
BARS, SYMBOLS, SEED = 2500, 100, 12
FIRST = np.datetime64("2011-01-03")
# Of the bars: training, then validation, then test.
TRAIN, VALIDATION = 0.6, 0.75
BASELINE = "random_walk_ewma"
Base = Literal["none", "packaged"]
# A forecast, and the one that it is compared with.
COMPARISONS = (
    ("as forecast", BASELINE),
    ("median on the last close", BASELINE),
    ("as forecast", "median on the last close"),
    ("volatility", BASELINE),
    ("anchored", BASELINE),
    ("anchored", "volatility"),
    ("oracle", BASELINE),
)


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


def training_of(base: Base, steps: int) -> Chronos2Settings:
    """The training of Chronos-2: from random weights as in the how-to, or of the packaged ones."""
    often = max(steps // 4, 1)
    if base == "packaged":
        return Chronos2Settings(base=base, steps=steps, learning_rate=1e-3, evaluate_every=often, **PACKAGED_INPUTS)
    return Chronos2Settings(
        initialisation="fan_in",
        patch_size=16,
        d_ff=256,
        dropout=0.0,
        targets=("standardised_close",),
        steps=steps,
        batch_size=256,
        learning_rate=3e-3,
        evaluate_every=often,
    )


def planted_settings(home: Path, steps: int, bars: int, base: Base = "none") -> Settings:
    """Training on the first part of the bars."""
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
        chronos2=training_of(base, steps),
        volatility=VolatilitySettings(base="none"),
        forecasts=ForecastSettings(recentre=False),
        compute=ComputeSettings(device="cpu", threads=1),
    )


def _next(day: date) -> date:
    return (np.datetime64(day) + 1).item()


def fitted_store(settings: Settings, histories: Mapping[str, BarHistory]) -> CheckpointStore:
    """A store whose Chronos-2 and volatility model are trained on the training range."""
    home = Home(settings.home)
    found = build_windows(histories, settings.windows)
    folder = home.windows / found.digest
    with publishing_folder(folder, home.scratch / "windows") as filling:
        write_arrays(filling, found.arrays, dict(found.manifest))
    windows, store = TrainingWindows(found.digest, folder), CheckpointStore(home)
    request = checkpoint_request("chronos2_model", settings, windows)
    store.set_current("chronos2_model", build_checkpoint(request, settings, home, store, windows).digest)
    store.set_current("volatility_model", build_volatility(settings, histories, store).digest)
    return store


def remembered(predict: Predict) -> Predict:
    """The same forecasts of the close, each computed once."""
    known: dict[tuple[str, np.datetime64], np.ndarray] = {}

    def recalled(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        new = [row for row, task in enumerate(tasks) if (task.symbol, task.origin) not in known]
        if new:
            found = predict([tasks[row] for row in new], targets[new])
            assert not found.failures, found.failures
            for row, quantiles in zip(new, found.quantiles[:, :, :1], strict=True):
                known[tasks[row].symbol, tasks[row].origin] = quantiles
        quantiles = np.stack([known[task.symbol, task.origin] for task in tasks])
        return Prediction(("close",), quantiles, np.zeros(len(tasks)))

    return recalled


def on_last_close(predict: Predict, median: int) -> Predict:
    """The same forecasts, with every median on the last close."""

    def moved(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        found = predict(tasks, targets)
        change = _last_closes(tasks)[:, None] / found.quantiles[:, :, 0, median]
        return replace(found, quantiles=found.quantiles * change[:, :, None, None])

    return moved


def learnt_anchoring(
    predict: Predict, volatility: Predict, tasks: Sequence[ForecastTask], settings: Settings
) -> AnchoringWeights:
    """What `chronos2_anchored` learns from forecasts in time order; each origin reads earlier outcomes."""
    horizon = settings.windows.predict_window
    targets = np.stack([task.history.stamps[task.index + 1 : task.index + 1 + horizon] for task in tasks])
    closes = np.stack([task.history.closes_as_of(task.index, task.index, task.index + horizon) for task in tasks])
    quantiles = np.stack([_log_quantiles(one, tasks, targets) for one in (predict, volatility)])
    origins = np.array([task.origin for task in tasks])
    panel = ForecastPanel(origins, targets, quantiles, np.log(closes[:, 1:] / closes[:, :1]))
    return Anchoring(tuple(settings.forecasts.levels), horizon, settings.calibration.half_life)([panel])


def anchored(predict: Predict, volatility: Predict, learnt: AnchoringWeights) -> Predict:
    """The forecasts of `chronos2_anchored`."""

    def derived(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        quantiles = np.stack([_log_quantiles(one, tasks, targets) for one in (predict, volatility)])
        logs = learnt(np.array([task.origin for task in tasks]), quantiles)
        prices = _last_closes(tasks)[:, None, None] * np.exp(logs)
        return Prediction(("close",), prices[:, :, None], np.zeros(len(tasks)))

    return derived


def _log_quantiles(predict: Predict, tasks: Sequence[ForecastTask], targets: np.ndarray) -> np.ndarray:
    """Log quantiles of the close relative to the last one: (tasks, steps, levels)."""
    return np.asarray(np.log(predict(tasks, targets).quantiles[:, :, 0] / _last_closes(tasks)[:, None, None]))


def _last_closes(tasks: Sequence[ForecastTask]) -> np.ndarray:
    return np.array([task.history.closes_as_of(task.index, task.index)[-1] for task in tasks])


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
    """Simulate, train, measure; print a table and write it to benchmarks/results/planted_signal.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="30 symbols, 120 steps: about two minutes")
    parser.add_argument("--base", choices=("none", "packaged"), default="none", help="weights to start from")
    parser.add_argument("--steps", type=int, help="of the training: 400, of packaged weights 600")
    parser.add_argument("--phi", type=float, default=PHI)
    given = parser.parse_args()
    usual = given.steps or (600 if given.base == "packaged" else 400)
    symbols, steps = (30, 120) if given.quick else (SYMBOLS, usual)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        results = measure(planted_settings(Path(work), steps, BARS, given.base), symbols, BARS, given.phi)
    print(f"\n{symbols} symbols, {steps} steps, φ = {given.phi}: {time.perf_counter() - started:.0f} s")
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "planted_signal.json").write_text(json.dumps(results, indent=1))


def measure(settings: Settings, symbols: int, bars: int, phi: float) -> dict[str, dict[str, float | None]]:
    """CRPS skill of each comparison on the test range, by name: over all steps, and at step 1."""
    histories = simulated_market(symbols, bars, phi, SEED)
    windows, levels = settings.windows, settings.forecasts.levels
    horizon = windows.predict_window

    def tasks(span: tuple[date, date]) -> list[ForecastTask]:
        stamps = next(iter(histories.values())).stamps
        within = stamps[(stamps >= np.datetime64(span[0])) & (stamps <= np.datetime64(span[1]))]
        return tasks_at_origins(histories, list(within[::5]), windows.lookback_window, horizon)

    walk = next(one for one in baseline_forecasters(settings) if one.model == BASELINE).load()
    store = fitted_store(settings, histories)
    own = remembered(chronos2_forecaster(settings, store).load())
    volatility = remembered(volatility_forecaster(settings, store, lambda: histories).load())
    tested = tasks(windows.test)
    learnt = learnt_anchoring(own, volatility, [*tasks(windows.validation), *tested], settings)
    variants = {
        BASELINE: walk,
        "as forecast": own,
        "median on the last close": on_last_close(own, levels.index(0.5)),
        "volatility": volatility,
        "anchored": anchored(own, volatility, learnt),
        "oracle": oracle(walk, phi),
    }
    scores = {name: score_forecasts(one, tested, horizon, levels, 1024) for name, one in variants.items()}
    results = dict[str, dict[str, float | None]]()
    for one, other in COMPARISONS:
        for part, last in (("all steps", horizon), ("step 1", 1)):
            ours, theirs = (scores[name][scores[name]["step"] <= last] for name in (one, other))
            found = compare_skill(ours, theirs, settings.seed)
            results[f"{one}, against {other}, {part}"] = found.to_dict()
            print(f"{one + ', against ' + other:52} {part:9}: {found.text}")
    newest = learnt.weights.at(np.array([tested[-1].origin]), np.zeros(2))[0, :, 0]
    print(f"weight λ of the location by step, at the last origin: {newest.tolist()}")
    return results


if __name__ == "__main__":
    main()
