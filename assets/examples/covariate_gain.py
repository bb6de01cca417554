"""How much known covariates lower the error of a model: with them, without, and with shuffled ones as control.

Shuffled: the values of each covariate in random order, history and future alike. They have the same distribution and
the same place in the input, and say nothing about the target. The interval is from a bootstrap over series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from assets.examples.training_series import SyntheticSeries
from assets.forecasting.metrics import crps

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline

DRAWS = 2000
INTERVAL = (0.05, 0.95)
# A known covariate has an effect if its part of the target has at least this share of the target's deviation.
LEAST_EFFECT = 0.3


@dataclass(frozen=True)
class Gain:
    """Mean errors with covariates and without (or shuffled), in standard deviations of the target, over series.

    Attributes:
        lower_by: 1 − error with / error without.
        low, high: the ends of its 90 % interval.
    """

    metric: str
    against: str
    error: float
    other: float
    lower_by: float
    low: float
    high: float
    series: int


def covariate_gains(pipeline: Chronos2Pipeline, series: Iterable[SyntheticSeries], horizon: int) -> list[Gain]:
    """The gains of a model on the last `horizon` steps of those series whose known covariates have an effect."""
    used = [one for one in series if has_effect(one)]
    rng = np.random.default_rng(0)
    errors = {
        "with": _errors(pipeline, used, horizon, lambda values: values),
        "without": _errors(pipeline, used, horizon, None),
        "shuffled": _errors(pipeline, used, horizon, rng.permutation),
    }
    return [
        _gain(metric, against, errors["with"][metric], errors[against][metric])
        for metric in ("mae", "crps")
        for against in ("without", "shuffled")
    ]


def has_effect(series: SyntheticSeries) -> bool:
    """Whether a covariate that is known in advance has one."""
    return any(series.effects[name] >= LEAST_EFFECT for name in series.known)


def _errors(
    pipeline: Chronos2Pipeline,
    series: list[SyntheticSeries],
    horizon: int,
    rearranged: Callable[[np.ndarray], np.ndarray] | None,
) -> dict[str, np.ndarray]:
    """MAE of the median and CRPS, (series,) each, in standard deviations of the target; None: without covariates."""
    levels = np.asarray(pipeline.quantiles)
    found: dict[str, list[float]] = {"mae": [], "crps": []}
    for one in series:
        item: dict[str, Any] = {"target": one.target[:-horizon]}
        if rearranged is not None:
            past, future = _split(one, horizon, rearranged)
            item |= {"past_covariates": past, "future_covariates": future}
        raw = pipeline.predict([item], prediction_length=horizon, batch_size=1)[0][0].numpy()
        quantiles = np.sort(raw.T.astype(np.float64), axis=1)
        actual, spread = one.target[-horizon:].astype(np.float64), float(one.target.std())
        found["mae"].append(float(np.abs(actual - quantiles[:, np.argmin(np.abs(levels - 0.5))]).mean()) / spread)
        found["crps"].append(float(crps(quantiles, levels, actual).mean()) / spread)
    return {name: np.asarray(values) for name, values in found.items()}


def _split(
    series: SyntheticSeries, horizon: int, rearranged: Callable[[np.ndarray], np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    known = {name: rearranged(values) for name, values in series.known.items()}
    past_only = {name: rearranged(values) for name, values in series.past_only.items()}
    past = {name: values[:-horizon] for name, values in {**past_only, **known}.items()}
    return past, {name: values[-horizon:] for name, values in known.items()}


def _gain(metric: str, against: str, own: np.ndarray, other: np.ndarray) -> Gain:
    draws = np.random.default_rng(0).integers(0, len(own), (DRAWS, len(own)))
    lower = 1 - own[draws].mean(axis=1) / other[draws].mean(axis=1)
    low, high = np.quantile(lower, INTERVAL)
    error, reference = float(own.mean()), float(other.mean())
    return Gain(metric, against, error, reference, 1 - error / reference, float(low), float(high), len(own))
