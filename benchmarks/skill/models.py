"""The models of the benchmark, with the weights that are packaged: from a name to a function of forecast tasks.

Not here: models that are made of the forecasts of others (derived).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from assets.forecasting.baselines.closed_form import ESTIMATED, baseline_forecasters
from assets.forecasting.baselines.estimated import estimated_baselines
from assets.forecasting.baselines.har import MarketRanges
from assets.forecasting.baselines.parameters import Estimates, estimate
from assets.forecasting.chronos2.forecaster import OtherSymbols, chronos2_forecaster
from assets.forecasting.cross_section import market_of
from assets.forecasting.forecaster import Predict
from assets.forecasting.kronos_forecaster import kronos_forecaster
from assets.forecasting.volatility.forecaster import volatility_forecaster
from assets.training.compact_recipe import WINDOWS, compact_settings
from assets.training.fit.base_weights import WEIGHTS
from benchmarks.compact import PackagedStore
from benchmarks.skill.sample import Histories
from resources.derived_models import ANCHORED, COMBINATIONS, is_recalibrated, raw_model
from resources.layout import Home
from resources.settings import Settings

REFERENCE, KRONOS = "random_walk_ewma", "kronos"
# No weights and no estimate knows a bar after this day.
CUTOFF = WINDOWS.validation[1]


def benchmark_settings() -> Settings:
    """The default settings of forecasts, with the windows of the packaged weights, on one thread."""
    return compact_settings(Path("data"))


def estimates(histories: Histories) -> Estimates:
    """The parameters of the estimated baselines, from all bars up to the cutoff."""
    settings = benchmark_settings()
    train = settings.windows.model_copy(update={"train": (WINDOWS.train[0], CUTOFF)})
    return estimate(settings.model_copy(update={"windows": train}), histories, _ranges(histories))


def load_estimated(name: str, found: Estimates, histories: Histories) -> Predict:
    """One of the estimated baselines, ready to forecast."""
    models = estimated_baselines(benchmark_settings(), found, lambda: _ranges(histories))
    return next(one for one in models if one.model == name).load()


def weights_digests(folder: Path = WEIGHTS) -> dict[str, str]:
    """The digest of each kind of packaged weights."""
    return {file.parent.name: json.loads(file.read_text())["digest"] for file in sorted(folder.glob("*/card.json"))}


def _baseline(name: str, settings: Settings, histories: Histories) -> Predict:
    return {one.model: one for one in baseline_forecasters(settings)}[name].load()


def _ranges(histories: Histories) -> MarketRanges:
    return MarketRanges.of_histories(list(histories.values()))


def _kronos(settings: Settings, histories: Histories) -> Predict:
    return kronos_forecaster(settings, _store(settings)).load()


def _chronos2(settings: Settings, histories: Histories) -> Predict:
    others = OtherSymbols(lambda: dict(histories), lambda: market_of(histories.values()))
    return chronos2_forecaster(settings, _store(settings), others).load()


def _volatility(settings: Settings, histories: Histories) -> Predict:
    return volatility_forecaster(settings, _store(settings), lambda: histories).load()


def _store(settings: Settings) -> PackagedStore:
    return PackagedStore(Home(settings.home))


def _estimated(name: str, settings: Settings, histories: Histories) -> Predict:
    return load_estimated(name, estimates(histories), histories)


# A model ready to forecast, from settings and the histories of all symbols of the file: the market that some read.
MODELS: dict[str, Callable[[Settings, Histories], Predict]] = {
    **{name: partial(_baseline, name) for name in ("random_walk", REFERENCE)},
    **{name: partial(_estimated, name) for name in ESTIMATED},
    "volatility": _volatility,
    "chronos2": _chronos2,
    KRONOS: _kronos,
}


def in_order(names: Iterable[str]) -> list[str]:
    """Names as tables list them: models, anchored ones, combinations, and the recalibrated copies of each."""

    def place(name: str) -> tuple[bool, bool, bool, int]:
        raw = raw_model(name)
        base = raw.removesuffix(ANCHORED)
        number = [*MODELS, *COMBINATIONS].index(base)
        return is_recalibrated(name), base in COMBINATIONS, raw != base, number

    return sorted(names, key=place)


def known_models(names: Iterable[str]) -> list[str]:
    """The names in the order of `MODELS`, with the reference.

    Raises:
        ValueError: a name is none of them.
    """
    wanted = {REFERENCE, *names}
    unknown = wanted - set(MODELS)
    if unknown:
        raise ValueError(f"unknown models {sorted(unknown)}; there are {', '.join(MODELS)}")
    return [name for name in MODELS if name in wanted]
