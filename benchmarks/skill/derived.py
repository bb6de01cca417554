"""Forecasts that are made of those of other models and of the outcomes of earlier origins.

Anchored to the volatility model, combined, recalibrated: in this order, as each reads those before it. All by the
functions that the assets of candlecast call; the quantiles of a benchmark are logs relative to the last close already.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from assets.forecasting.calibration.anchoring import Anchoring
from assets.forecasting.calibration.combination import Combination
from assets.forecasting.calibration.models import combined_names, derived_names
from assets.forecasting.calibration.panel import ForecastPanel, Learn
from assets.forecasting.calibration.recalibration import Recalibration
from benchmarks.skill.forecasts import LEVELS, QuantileStore, whole_origins
from benchmarks.skill.models import benchmark_settings
from benchmarks.skill.sample import HORIZON
from benchmarks.skill.scores import score
from benchmarks.skill.workers import Call
from resources.derived_models import is_recalibrated, recalibrated

CHUNK = 4096
EVERYTHING = slice(None)
BY_CRPS = "combination_crps"


def derived_stages(store: QuantileStore, models: Sequence[str], rows: slice = EVERYTHING) -> Iterator[list[Call]]:
    """The calls that make the derived forecasts of some models, stage by stage.

    Args:
        rows: whole origins to derive; what is learnt is learnt from all tasks.
    """
    settings = benchmark_settings()
    learning = LEVELS, HORIZON, settings.calibration.half_life
    anchored = {name: bases for name, bases in derived_names(settings, models).items() if not is_recalibrated(name)}
    yield [_call(store, name, bases, Anchoring(*learning), rows) for name, bases in anchored.items()]
    combined = combined_names(settings, (*models, *anchored))
    weightings = {name: Combination(LEVELS, "crps" if name == BY_CRPS else "equal") for name in combined}
    yield [_call(store, name, combined[name], learn, rows) for name, learn in weightings.items()]
    single = (*models, *anchored, *combined)
    yield [_call(store, recalibrated(name), (name,), Recalibration(*learning), rows) for name in single]


def _call(store: QuantileStore, name: str, bases: Sequence[str], learn: Learn, rows: slice) -> Call:
    return Call(derive, (store, name, bases, learn, rows), name)


def score_calls(store: QuantileStore) -> list[Call]:
    """The calls that score every model of a store; each returns `Scores`."""
    return [Call(score_model, (store, model), model) for model in store.models]


def score_model(store: QuantileStore, model: str) -> object:
    """The scores of one model."""
    return score(store.read(model), np.asarray(LEVELS), store.sample)


def derive(store: QuantileStore, name: str, bases: Sequence[str], learn: Learn, rows: slice) -> None:
    """Learn from all tasks in time order, then write the quantiles of `rows`."""
    rule = learn(_panel(store, bases, part) for part in whole_origins(store.sample, CHUNK))
    store.create(name)
    for part in _parts(store, rows):
        panel = _panel(store, bases, part)
        store.write(name, part, rule(panel.origins, panel.quantiles))


def _panel(store: QuantileStore, models: Sequence[str], rows: slice) -> ForecastPanel:
    sample = store.sample
    quantiles = np.stack([store.read(model)[rows] for model in models]).astype(np.float64)
    origin = sample.origin[rows]
    return ForecastPanel(sample.origins[origin], sample.targets[origin], quantiles, sample.actual[rows])


def _parts(store: QuantileStore, rows: slice) -> list[slice]:
    """The slices of whole origins that lie within `rows`."""
    first, end, _ = rows.indices(len(store.sample))
    return [
        slice(max(first, one.start), min(end, one.stop))
        for one in whole_origins(store.sample, CHUNK)
        if one.start < end and one.stop > first
    ]
