"""Combinations of models: weighted means of their quantiles, level by level, in log prices.

Averaged quantiles keep the shape of the members, where averaged probabilities would be wider than any of them
(Lichtendahl, Grushka-Cockayne and Winkler, 2013, Management Science 59). The weights are equal, or by step from the
CRPS of earlier forecasts whose outcome was known at the origin. A model without a forecast for a task is left out of
that task, and the weights of the others are scaled to a sum of 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from assets.forecasting.calibration.panel import (
    LEAST_ORIGINS,
    Derive,
    ForecastPanel,
    Learner,
    Remembered,
    State,
)
from assets.forecasting.metrics import crps

# A model whose CRPS is 0.25 % lower than another's weighs e times as much. Chosen on bars until 2010, where 25, 50, 100
# and 200 gave less skill.
STRENGTH = 400.0
# After which a loss counts half as much as a new one.
HALF_LIFE = np.timedelta64(730, "D")
Weighting = Literal["equal", "crps"]


@dataclass(frozen=True)
class PastLosses:
    """Losses of earlier forecasts by origin, the oldest first.

    Attributes:
        origins: (origins,) datetime64.
        known_at: (origins, steps) datetime64, when the outcome was known: the target.
        losses: (origins, steps, models) sum of the CRPS over the symbols that the model forecast; 0 without any.
        reference: (origins, steps, models) sum over the same forecasts of the mean CRPS of all models that made them.
    """

    origins: np.ndarray
    known_at: np.ndarray
    losses: np.ndarray
    reference: np.ndarray


def past_losses(origins: np.ndarray, known_at: np.ndarray, losses: np.ndarray) -> PastLosses:
    """The losses of single forecasts, summed by origin.

    Args:
        origins: (n,) datetime64, of n tasks (symbol, origin).
        known_at: (n, steps) datetime64, the targets of each task.
        losses: (n, steps, models) CRPS; NaN: no forecast, or no outcome.
    """
    stamps, first, place = np.unique(origins, return_index=True, return_inverse=True)
    made = np.isfinite(losses)
    count = made.sum(axis=-1, keepdims=True)
    # What a single model forecast compares it with nothing.
    made = made & (count > 1)
    known = np.where(made, losses, 0.0)
    mean = known.sum(axis=-1, keepdims=True) / np.maximum(count, 1)
    sums = np.zeros((2, len(stamps), *losses.shape[1:]))
    np.add.at(sums[0], place, known)
    np.add.at(sums[1], place, np.where(made, mean, 0.0))
    return PastLosses(stamps, known_at[first], sums[0], sums[1])


def crps_weights(past: PastLosses, origin: np.datetime64) -> np.ndarray:
    """The weight of each model at an origin, from outcomes known at that origin alone: (steps, models).

    exp(−STRENGTH · relative CRPS), the relative CRPS being that of the model over the mean of all models that made the
    same forecasts. Every row sums to 1. Models with fewer than LEAST_ORIGINS origins of outcomes count as average.
    """
    known = np.less_equal(past.known_at, origin)[..., None] & (past.reference > 0)
    age: np.ndarray = np.subtract(origin, past.origins)
    decay = 0.5 ** (age / HALF_LIFE)
    used = np.where(known, decay[:, None, None], 0.0)
    reference = (used * past.reference).sum(axis=0)
    enough = known.sum(axis=0) >= LEAST_ORIGINS
    relative = np.divide((used * past.losses).sum(axis=0), reference, out=np.ones_like(reference), where=enough)
    raw = np.exp(-STRENGTH * (relative - relative.min(axis=-1, keepdims=True)))
    weights: np.ndarray = raw / raw.sum(axis=-1, keepdims=True)
    return weights


def combine(quantiles: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted mean of the models' quantiles: (n, steps, levels); NaN where no model has a forecast.

    Args:
        quantiles: (models, n, steps, levels) logs, increasing with level; NaN: the model has no forecast.
        weights: (models, n, steps), or broadcastable to it.
    """
    present = np.isfinite(quantiles).all(axis=-1)
    own = np.where(present, weights, 0.0)
    total = own.sum(axis=0)
    share = np.divide(own, total, out=np.full_like(own, np.nan), where=total > 0)
    # One model after another: the sum of a task has the same bits whatever stands beside it.
    combined = np.zeros(quantiles.shape[1:])
    for one, values, there in zip(share, quantiles, present, strict=True):
        combined += one[..., None] * np.where(there[..., None], values, 0.0)
    # Where neighbouring quantiles are equal, the sums may differ in the last bit.
    return np.asarray(np.maximum.accumulate(combined, axis=-1))


@dataclass(frozen=True)
class Combination:
    """Learns the weights of a combination: a `Learn`."""

    levels: Sequence[float]
    weighting: Weighting

    @property
    def learns(self) -> bool:
        """Whether it learns from earlier origins."""
        return self.weighting != "equal"

    def start(self) -> CombinationLearner:
        """A learner without any outcome."""
        return CombinationLearner(self)

    def __call__(self, panels: Iterable[ForecastPanel]) -> Derive:
        """The combination; with weights by CRPS from the outcomes of the panels."""
        return self.start().after(panels if self.learns else ()).learnt()


class CombinationLearner(Learner):
    """Learns the weights of a combination origin by origin."""

    def __init__(self, rule: Combination) -> None:
        self._rule, self._past = rule, _Past()

    def parts(self) -> Mapping[str, Remembered]:
        """The parts, by name."""
        return {"past": self._past}

    def add(self, panel: ForecastPanel) -> None:
        """Learn from the losses of all models."""
        levels = np.asarray(self._rule.levels)
        losses = [
            crps(own.reshape(-1, len(levels)), levels, panel.outcomes.ravel()).reshape(panel.outcomes.shape)
            for own in panel.quantiles
        ]
        self._past.add(past_losses(panel.origins, panel.targets, np.stack(losses, axis=-1)))

    def learnt(self) -> Derive:
        """The combination."""
        return CrpsCombination(self._past.losses) if self._rule.learns else _combine_equally


class _Past(Remembered):
    """The losses of all panels so far."""

    KEPT = tuple(one.name for one in fields(PastLosses))

    def __init__(self) -> None:
        self._parts = list[PastLosses]()

    def add(self, losses: PastLosses) -> None:
        """Add those of later origins."""
        self._parts.append(losses)

    @property
    def losses(self) -> PastLosses | None:
        """All of them; None: there are none."""
        if not self._parts:
            return None
        return PastLosses(*(np.concatenate([getattr(one, name) for one in self._parts]) for name in self.KEPT))

    def state(self) -> dict[str, np.ndarray]:
        """The losses' arrays; empty ones: there are none."""
        known = self.losses
        return {name: np.zeros(0) if known is None else getattr(known, name) for name in self.KEPT}

    def restore(self, state: State) -> None:
        """Continue from losses."""
        self._parts = [PastLosses(**state)] if len(state["origins"]) else []


@dataclass(frozen=True)
class CrpsCombination:
    """The combination with weights by CRPS, origin by origin: a `Derive`. `past`: None: there are no outcomes."""

    past: PastLosses | None

    def __call__(self, origins: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
        """The combined quantiles."""
        if self.past is None:
            return _combine_equally(origins, quantiles)
        stamps, place = np.unique(origins, return_inverse=True)
        weights = np.stack([crps_weights(self.past, origin) for origin in stamps])
        return combine(quantiles, np.moveaxis(weights[place], -1, 0))


def _combine_equally(origins: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    return combine(quantiles, np.ones((len(quantiles), 1, 1)))
