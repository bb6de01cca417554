"""Combinations of models: weighted means of their quantiles, level by level, in log prices.

Averaged quantiles keep the shape of the members, where averaged probabilities would be wider than any of them
(Lichtendahl, Grushka-Cockayne and Winkler, 2013, Management Science 59). The weights are equal, or by step from the
CRPS of earlier forecasts whose outcome was known at the origin. A model without a forecast for a task is left out of
that task, and the weights of the others are scaled to a sum of 1.

Not here: how stored forecasts and their outcomes are read, and which models are members.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A model whose CRPS is 0.25 % lower than another's weighs e times as much. Chosen on bars until 2010, where 25, 50, 100
# and 200 gave less skill.
STRENGTH = 400.0
# Origins after which a loss counts half as much as a new one.
HALF_LIFE = 100.0
# Origins with a known outcome before which a model's loss is not used.
LEAST_ORIGINS = 20


@dataclass(frozen=True)
class PastLosses:
    """Losses of stored forecasts by origin, the oldest first.

    Attributes:
        known_at: (origins, steps) datetime64, when the outcome was known: the target.
        losses: (origins, steps, models) sum of the CRPS over the symbols that the model forecast; 0 without any.
        reference: (origins, steps, models) sum over the same forecasts of the mean CRPS of all models that made them.
    """

    known_at: np.ndarray
    losses: np.ndarray
    reference: np.ndarray


def past_losses(origins: np.ndarray, known_at: np.ndarray, losses: np.ndarray) -> PastLosses:
    """The losses of single forecasts, summed by origin.

    Args:
        origins: (n,) datetime64, of n tasks (symbol, origin).
        known_at: (n, steps) datetime64, the targets of each task.
        losses: (n, steps, models) CRPS relative to the price; NaN: no forecast, or no outcome.
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
    return PastLosses(known_at[first], sums[0], sums[1])


def crps_weights(past: PastLosses, origin: np.datetime64) -> np.ndarray:
    """The weight of each model at an origin, from outcomes known at that origin alone: (steps, models).

    exp(−STRENGTH · relative CRPS), the relative CRPS being that of the model over the mean of all models that made the
    same forecasts. Every row sums to 1. Models with fewer than LEAST_ORIGINS outcomes count as average.
    """
    known = np.less_equal(past.known_at, origin)[..., None] & (past.reference > 0)
    newer = known.any(axis=-1, keepdims=True)[::-1].cumsum(axis=0)[::-1] - 1
    decay = np.where(known, 0.5 ** (newer / HALF_LIFE), 0.0)
    reference = (decay * past.reference).sum(axis=0)
    enough = known.sum(axis=0) >= LEAST_ORIGINS
    relative = np.divide((decay * past.losses).sum(axis=0), reference, out=np.ones_like(reference), where=enough)
    raw = np.exp(-STRENGTH * (relative - relative.min(axis=-1, keepdims=True)))
    weights: np.ndarray = raw / raw.sum(axis=-1, keepdims=True)
    return weights


def equal_weights(steps: int, models: int) -> np.ndarray:
    """(steps, models)."""
    return np.full((steps, models), 1 / models)


def combine(quantiles: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted mean of the models' quantiles in log prices: (tasks, steps, levels).

    Args:
        quantiles: (tasks, steps, models, levels) prices, increasing with level; NaN: the model has no forecast.
        weights: (tasks, steps, models), or broadcastable to it.

    A task that no model forecast is NaN.
    """
    present = np.isfinite(quantiles).all(axis=-1)
    own = np.where(present, weights, 0.0)
    total = own.sum(axis=-1, keepdims=True)
    share = np.divide(own, total, out=np.full_like(own, np.nan), where=total > 0)
    logs = np.log(np.where(present[..., None], quantiles, 1.0))
    combined = np.exp((share[..., None] * logs).sum(axis=-2))
    # Where neighbouring quantiles are equal, the sums may differ in the last bit.
    return np.asarray(np.maximum.accumulate(combined, axis=-1))
