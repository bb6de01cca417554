"""Panels of earlier forecasts: stored quantiles of some models by origin, with the outcomes that are known.

What a derived forecast (recalibrated, anchored, combined) learns from. `Learn` reads panels in time order, once, and
returns `Derive`, which maps the quantiles of its base models to its own. What is derived at an origin depends on the
outcomes whose targets are not after it alone. Not here: where panels come from (stored), the models (models).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

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
State = Mapping[str, np.ndarray]


class Remembered:
    """What is learnt in arrays (or numpy scalars) with these names: a state that can be kept, and continued from."""

    KEPT: ClassVar[tuple[str, ...]] = ()

    def state(self) -> dict[str, np.ndarray]:
        """A copy of the arrays."""
        return {name: np.array(getattr(self, name)) for name in self.KEPT}

    def restore(self, state: State) -> None:
        """Continue from a state."""
        for name in self.KEPT:
            setattr(self, name, state[name].copy()[()])


class Learner:
    """Learns from panels in time order, one after another. Its state after some origins is that of its parts."""

    def parts(self) -> Mapping[str, Remembered]:
        """The parts, by name."""
        raise NotImplementedError

    def add(self, panel: ForecastPanel) -> None:
        """Learn from the next panel."""
        raise NotImplementedError

    def after(self, panels: Iterable[ForecastPanel]) -> Self:
        """The learner itself, once it has learnt from some panels."""
        for panel in panels:
            self.add(panel)
        return self

    def learnt(self) -> Derive:
        """What was learnt from all panels so far."""
        raise NotImplementedError

    def state(self) -> dict[str, np.ndarray]:
        """A copy of what was learnt, which a new learner continues from."""
        parts = self.parts().items()
        return {f"{part}.{name}": array for part, one in parts for name, array in one.state().items()}

    def restore(self, state: State) -> None:
        """Continue from the state of another learner."""
        for part, one in self.parts().items():
            one.restore({name: state[f"{part}.{name}"] for name in one.KEPT})


class Learn(Protocol):
    """A rule, with all that it depends on beside panels."""

    def start(self) -> Learner:
        """A learner that has learnt nothing yet."""
        ...

    def __call__(self, panels: Iterable[ForecastPanel]) -> Derive:
        """What it learns from panels in time order."""
        ...


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


class TimelineBuilder(Remembered):
    """Collects a `Timeline`, origin by origin."""

    KEPT = ("targets", "values")

    def __init__(self, steps: int, *shape: int) -> None:
        self._targets, self._values = [np.zeros((0, steps), "datetime64[s]")], [np.zeros((0, steps, *shape))]

    def add(self, targets: np.ndarray, values: np.ndarray) -> None:
        """Add what is known once these targets (steps,) are: (steps, …)."""
        self._targets.append(targets[None])
        self._values.append(values[None])

    def timeline(self) -> Timeline:
        """The timeline of all that was added."""
        return Timeline(np.concatenate(self._targets), np.concatenate(self._values))

    def state(self) -> dict[str, np.ndarray]:
        """A copy of the timeline's arrays."""
        known = self.timeline()
        return {"targets": known.targets, "values": known.values}

    def restore(self, state: State) -> None:
        """Continue from a timeline's arrays."""
        self._targets, self._values = [state["targets"]], [state["values"]]


class Outcomes(Remembered):
    """How many outcomes are known by step, (steps,), and from how many origins.

    Attributes:
        outcomes, origins: (steps,) integers.
    """

    KEPT = ("outcomes", "origins")

    def __init__(self, steps: int) -> None:
        self.outcomes, self.origins = np.zeros(steps, dtype=int), np.zeros(steps, dtype=int)

    def add(self, known: np.ndarray) -> None:
        """Add the outcomes of one origin, (steps,)."""
        self.outcomes, self.origins = self.outcomes + known, self.origins + (known > 0)

    @property
    def enough(self) -> np.ndarray:
        """Whether something is learnt from them, (steps,)."""
        return np.asarray((self.outcomes >= LEAST_OUTCOMES) & (self.origins >= LEAST_ORIGINS))


class DecayedHistogram(Remembered):
    """Weighted counts of values by step, older ones with less weight: the memory does not grow with the values.

    Args:
        edges: (bins + 1,) increasing; values beyond the ends count in the first and the last bin.
        half_life: after which the weight of a value has halved.
    """

    KEPT = ("weights", "_newest")

    def __init__(self, edges: np.ndarray, steps: int, half_life: np.timedelta64) -> None:
        self.edges, self.half_life = edges, half_life
        self.weights = np.zeros((steps, len(edges) - 1))
        self._newest: np.datetime64 = np.datetime64("NaT", "s")
        # Sums of the weights, until values are added: quantiles are asked for several times.
        self._sums: np.ndarray | None = None

    def add(self, values: np.ndarray, time: np.datetime64) -> None:
        """Add values (n, steps), without those that are NaN, of a time that is not before that of earlier ones."""
        if not np.isnat(self._newest):
            self.weights *= 0.5 ** float((time - self._newest) / self.half_life)
        self._newest, self._sums = time, None
        steps, bins = self.weights.shape
        row, step = np.nonzero(np.isfinite(values))
        place = np.clip(np.searchsorted(self.edges, values[row, step], side="right") - 1, 0, bins - 1)
        self.weights += np.bincount(step * bins + place, minlength=steps * bins).reshape(steps, bins)

    def restore(self, state: State) -> None:
        """Continue from the weights of another histogram."""
        super().restore(state)
        self._sums = None

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
