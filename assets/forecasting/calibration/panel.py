"""Panels of earlier forecasts: stored quantiles of some models by origin, with the outcomes that are known.

What a derived forecast (recalibrated, anchored, combined) learns from. `Learn` reads panels in time order, once, and
returns `Derive`, which maps the quantiles of its base models to its own. What is derived at an origin depends on the
outcomes whose targets are not after it alone. Not here: where panels come from (stored), the models (models).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

# Fewer say too little: nothing is learnt from them.
LEAST_ORIGINS, LEAST_OUTCOMES = 20, 100


@dataclass(frozen=True)
class ForecastPanel:
    """Forecasts of the close from some origins, in time order; all forecasts of an origin are in one panel.

    Attributes:
        origins: (n,) datetime64[s], not decreasing.
        targets: (n, steps) datetime64[s], equal for forecasts of one origin.
        quantiles: (bases, n, steps, levels) log of quantile over close at the origin; NaN: the base made no forecast.
        outcomes: (n, steps) log of the close at the target over that at the origin; NaN: not known.
    """

    origins: np.ndarray
    targets: np.ndarray
    quantiles: np.ndarray
    outcomes: np.ndarray

    def by_origin(self) -> Iterator[slice]:
        """The rows of each origin."""
        starts = np.flatnonzero(np.r_[True, self.origins[1:] != self.origins[:-1]][: len(self.origins)])
        for start, end in zip(starts, [*starts[1:], len(self.origins)], strict=True):
            yield slice(int(start), int(end))


# (origins (n,), quantiles (bases, n, steps, levels)) → (n, steps, levels), as in panels; NaN: cannot be derived.
Derive = Callable[[np.ndarray, np.ndarray], np.ndarray]
Learn = Callable[[Iterable[ForecastPanel]], Derive]


@dataclass(frozen=True)
class Timeline:
    """What is known from the outcomes of one origin after another.

    Attributes:
        targets: (origins, steps) datetime64[s].
        values: (origins, steps, …): row i is known once the outcomes of origin i are.
    """

    targets: np.ndarray
    values: np.ndarray

    def at(self, origins: np.ndarray, before: np.ndarray) -> np.ndarray:
        """The newest values whose outcomes are known at some origins: (n, steps, …).

        Args:
            before: (…) the value where no outcome is known yet.
        """
        found = np.empty((len(origins), *self.values.shape[1:]))
        for step in range(self.targets.shape[1]):
            known = np.searchsorted(self.targets[:, step], origins, side="right") - 1
            found[:, step] = self.values[known, step] if len(self.values) else before
            found[known < 0, step] = before
        return found


class TimelineBuilder:
    """Collects a `Timeline`, origin by origin."""

    def __init__(self, steps: int, *shape: int) -> None:
        self._targets, self._values = [np.zeros((0, steps), "datetime64[s]")], [np.zeros((0, steps, *shape))]

    def add(self, targets: np.ndarray, values: np.ndarray) -> None:
        """Add what is known once these targets (steps,) are: (steps, …)."""
        self._targets.append(targets[None])
        self._values.append(values[None])

    def timeline(self) -> Timeline:
        """The timeline of all that was added."""
        return Timeline(np.concatenate(self._targets), np.concatenate(self._values))


class DecayedHistogram:
    """Weighted counts of values by step, older ones with less weight: the memory does not grow with the values.

    Args:
        edges: (bins + 1,) increasing; values beyond the ends count in the first and the last bin.
        half_life: after which the weight of a value has halved.
    """

    def __init__(self, edges: np.ndarray, steps: int, half_life: np.timedelta64) -> None:
        self.edges, self.half_life = edges, half_life
        self.weights = np.zeros((steps, len(edges) - 1))
        self._newest: np.datetime64 | None = None
        # Sums of the weights, until values are added: quantiles are asked for several times.
        self._sums: np.ndarray | None = None

    def add(self, values: np.ndarray, time: np.datetime64) -> None:
        """Add values (n, steps), without those that are NaN, of a time that is not before that of earlier ones."""
        if self._newest is not None:
            self.weights *= 0.5 ** float((time - self._newest) / self.half_life)
        self._newest, self._sums = time, None
        steps, bins = self.weights.shape
        row, step = np.nonzero(np.isfinite(values))
        place = np.clip(np.searchsorted(self.edges, values[row, step], side="right") - 1, 0, bins - 1)
        self.weights += np.bincount(step * bins + place, minlength=steps * bins).reshape(steps, bins)

    def quantiles(self, shares: np.ndarray, unknown: float = 0.0) -> np.ndarray:
        """The values below which lie these shares of the weight, (steps, shares); NaN without values.

        Args:
            unknown: weight of one more value that may lie anywhere above: the conformal correction for the value that
                is forecast (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2.2).
        """
        if self._sums is None:
            self._sums = np.cumsum(self.weights, axis=1)
        reached = self._sums
        total = reached[:, -1:]
        wanted = np.minimum(shares * (total + unknown), total)
        place = np.stack([np.searchsorted(*one) for one in zip(reached, wanted, strict=True)])
        place = np.minimum(place, reached.shape[1] - 1)
        weight, until = (np.take_along_axis(values, place, axis=1) for values in (self.weights, reached))
        part = np.divide(wanted - (until - weight), weight, out=np.ones(place.shape), where=weight > 0)
        low, high = self.edges[place], self.edges[place + 1]
        return np.where(total > 0, low + np.clip(part, 0, 1) * (high - low), np.nan)
