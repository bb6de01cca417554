"""Forecasts that are made of those of other models and of the outcomes of earlier origins.

Anchored to the volatility model, combined, recalibrated: in this order, as each reads those before it. All by the
functions that the assets of candlecast call; the quantiles of a benchmark are logs relative to the last close already.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from assets.forecasting.calibration.anchoring import Anchoring
from assets.forecasting.calibration.models import derived_names
from assets.forecasting.calibration.panel import ForecastPanel, Learn
from assets.forecasting.calibration.recalibration import Recalibration
from assets.forecasting.combination import PastLosses, combine, crps_weights, equal_weights, past_losses
from assets.forecasting.metrics import crps
from benchmarks.skill.forecasts import LEVELS, QuantileStore, whole_origins
from benchmarks.skill.models import benchmark_settings
from benchmarks.skill.sample import HORIZON
from benchmarks.skill.scores import score
from benchmarks.skill.workers import Call
from resources.derived_models import COMBINATIONS, is_recalibrated, recalibrated

CHUNK = 4096
EVERYTHING = slice(None)


def derived_stages(store: QuantileStore, models: Sequence[str], rows: slice = EVERYTHING) -> Iterator[list[Call]]:
    """The calls that make the derived forecasts of some models, stage by stage.

    Args:
        rows: whole origins to derive; what is learnt is learnt from all tasks.
    """
    settings = benchmark_settings()
    learning = LEVELS, HORIZON, settings.calibration.half_life
    names = derived_names(settings, models).items()
    anchored = {name: bases for name, bases in names if not is_recalibrated(name)}
    yield [Call(derive, (store, name, bases, Anchoring(*learning), rows), name) for name, bases in anchored.items()]
    members = (*models, *anchored)
    yield [Call(combine_members, (store, name, members, rows), name) for name in COMBINATIONS]
    recalibration = Recalibration(*learning)
    yield [
        Call(derive, (store, recalibrated(name), (name,), recalibration, rows), recalibrated(name))
        for name in (*members, *COMBINATIONS)
    ]


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


def combine_members(store: QuantileStore, name: str, members: Sequence[str], rows: slice) -> None:
    """Write the combination with equal weights, or with weights by the CRPS of earlier origins."""
    by_crps = name == COMBINATIONS[1]
    past = _past(store, members) if by_crps else None
    store.create(name)
    for part in _parts(store, rows):
        panel = _panel(store, members, part)
        prices = np.exp(np.moveaxis(panel.quantiles, 0, 2))
        weights = np.broadcast_to(equal_weights(prices.shape[1], len(members)), prices.shape[:3])
        if past:
            origins, place = np.unique(panel.origins, return_inverse=True)
            weights = np.stack([crps_weights(past, origin) for origin in origins])[place]
        store.write(name, part, np.log(combine(prices, weights)))


def _past(store: QuantileStore, members: Sequence[str]) -> PastLosses:
    parts = []
    for part in whole_origins(store.sample, CHUNK):
        panel = _panel(store, members, part)
        prices, actual = np.exp(panel.quantiles), np.exp(panel.outcomes)
        losses = [
            crps(one.reshape(-1, len(LEVELS)), np.asarray(LEVELS), actual.ravel()).reshape(actual.shape)
            for one in prices
        ]
        parts.append(past_losses(panel.origins, panel.targets, np.stack(losses, axis=-1)))
    return PastLosses(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("known_at", "losses", "reference"))
    )


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
