"""Anchoring: a model's location and scale, shrunk towards those of the volatility model as far as the past supports.

With x the log of a quantile over the last close, m and s the model's median and scale, v the volatility model's
quantiles and S their scale, at every step:

    x = λ·(m − c) + v·(g·s / S)^w

c is the pooled mean of m at earlier origins: a drift that is the same for all symbols and days, such as that of weights
trained on symbols that survived, is no view on direction. g is the pooled median of S / s at earlier origins, which
takes out the model's bias in scale. λ (0: the median is the
last close, 1: the model's) and w (0: the volatility model's scale, 1: the model's) are those whose gain in CRPS over
λ = w = 0, the volatility model itself, has the largest lower confidence bound at earlier origins. So nothing is added
that the data do not show to help.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from assets.forecasting.calibration.location_scale import location, mean_pinball_loss, scale
from assets.forecasting.calibration.panel import (
    DecayedHistogram,
    ForecastPanel,
    Learner,
    Outcomes,
    Remembered,
    State,
    Timeline,
    TimelineBuilder,
)

GRID = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
# (λ, w); the first is the volatility model.
CHOICES = np.array(list(product(GRID, GRID)))
# One-sided 95 %.
CONFIDENCE = 1.64
# Log ratios of scales from 1/400 to 400, in bins of half a percent.
EDGES = np.arange(-6.0, 6.0, 0.005)


@dataclass(frozen=True)
class AnchoringWeights:
    """What was learnt, origin by origin: a `Derive` of (model, volatility model).

    Attributes:
        weights: (origins, steps, 2) λ and w.
        centres: (origins, steps) c, known after the origin.
        ratios: (origins, steps) log g, known after the origin.
        counts: (origins, steps, 1) outcomes learnt from.
    """

    levels: tuple[float, ...]
    weights: Timeline
    origins: np.ndarray
    centres: np.ndarray
    ratios: np.ndarray
    counts: Timeline

    def __call__(self, origins: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
        """The anchored quantiles; NaN where either forecast is missing."""
        weights = self.weights.at(origins, np.zeros(2))
        shift, power = weights[..., 0], weights[..., 1]
        # Row 0: nothing is known before the first origin, and λ = w = 0 read nothing.
        before = np.searchsorted(self.origins, origins, side="left")
        return anchored(
            quantiles[0], quantiles[1], shift, power, self.centres[before], self.ratios[before], self.levels
        )


def anchored(
    own: np.ndarray,
    volatility: np.ndarray,
    shift: np.ndarray | float,
    power: np.ndarray | float,
    centre: np.ndarray | float,
    ratio: np.ndarray | float,
    levels: Sequence[float],
) -> np.ndarray:
    """Anchored log quantiles, (n, steps, levels), from those of the model and of the volatility model.

    Args:
        shift, power, centre, ratio: λ, w, c and log g, each (n, steps) or one for all.
    """
    relative = ratio - _log_ratio(own, volatility, levels)
    # A band without width has no ratio; with w = 0 none is read.
    stretch = np.exp(np.where(np.asarray(power) == 0, 0.0, power * np.nan_to_num(relative)))
    missing = np.where(np.isfinite(own).all(axis=-1), 0.0, np.nan)
    return np.asarray((shift * (location(own, levels) - centre) + missing)[..., None] + volatility * stretch[..., None])


@dataclass(frozen=True)
class Anchoring:
    """Learns `AnchoringWeights`: a `Learn` from panels of (model, volatility model).

    Attributes:
        levels: of the quantiles.
        steps: the horizon.
        half_life: days after which a ratio of scales counts half.
    """

    levels: tuple[float, ...]
    steps: int
    half_life: int

    def start(self) -> AnchoringLearner:
        """A learner without any outcome."""
        return AnchoringLearner(self)

    def __call__(self, panels: Iterable[ForecastPanel]) -> AnchoringWeights:
        """The weights after every origin."""
        return self.start().after(panels).learnt()


class AnchoringLearner(Learner):
    """Learns `AnchoringWeights` origin by origin."""

    def __init__(self, rule: Anchoring) -> None:
        self._rule, steps = rule, rule.steps
        self._histogram = DecayedHistogram(EDGES, steps, np.timedelta64(rule.half_life, "D"))
        self._evidence, self._centre, self._before = _Evidence(steps), _Mean(steps), _Before(steps)
        self._weights, self._counts = TimelineBuilder(steps, 2), TimelineBuilder(steps, 1)

    def parts(self) -> Mapping[str, Remembered]:
        """The parts, by name."""
        return {"histogram": self._histogram, "evidence": self._evidence, "known": self._evidence.known,
                "centre": self._centre, "before": self._before, "weights": self._weights,
                "counts": self._counts}  # fmt: skip

    def add(self, panel: ForecastPanel) -> None:
        """Learn from the model and the volatility model."""
        levels, (own, volatility) = self._rule.levels, panel.quantiles
        medians, observed = location(own, levels), _log_ratio(own, volatility, levels)
        before = np.empty((2, *observed.shape))
        for rows in panel.by_origin():
            before[0, rows], before[1, rows] = self._before.newest
            self._histogram.add(observed[rows], panel.origins[rows.start])
            self._centre.add(medians[rows])
            ratio = np.nan_to_num(self._histogram.quantiles(np.array([0.5]))[:, 0])
            self._before.add(panel.origins[rows.start], self._centre.value, ratio)
        gains = _gains(own, volatility, panel.outcomes, before[0], before[1], levels)
        for rows in panel.by_origin():
            targets = panel.targets[rows.start]
            self._evidence.add(gains[rows], panel.origins[rows.start], targets)
            self._weights.add(targets, CHOICES[self._evidence.best()])
            self._counts.add(targets, self._evidence.known.outcomes[:, None])

    def learnt(self) -> AnchoringWeights:
        """The weights after every origin."""
        known = self._before.state()
        learnt = known["origins"], known["centres"], known["ratios"]
        return AnchoringWeights(self._rule.levels, self._weights.timeline(), *learnt, self._counts.timeline())


class _Before(Remembered):
    """c and log g as they are known before each origin, (steps,) each, and after the last."""

    KEPT = ("origins", "centres", "ratios")

    def __init__(self, steps: int) -> None:
        self._origins = [np.zeros(0, "datetime64[s]")]
        # Row i: what is known before origin i.
        self._centres, self._ratios = [np.zeros((1, steps))], [np.full((1, steps), np.nan)]

    @property
    def newest(self) -> tuple[np.ndarray, np.ndarray]:
        return self._centres[-1][-1], self._ratios[-1][-1]

    def add(self, origin: np.datetime64, centre: np.ndarray, ratio: np.ndarray) -> None:
        """Add what is known after an origin."""
        self._origins.append(np.array([origin], dtype="datetime64[s]"))
        self._centres.append(centre[None])
        self._ratios.append(ratio[None])

    def state(self) -> dict[str, np.ndarray]:
        """A copy of the origins (n,), and c and log g (n + 1, steps)."""
        parts: tuple[list[np.ndarray], ...] = (self._origins, self._centres, self._ratios)
        return {name: np.concatenate(part) for name, part in zip(self.KEPT, parts, strict=True)}

    def restore(self, state: State) -> None:
        """Continue from a state."""
        self._origins, self._centres, self._ratios = ([state[name]] for name in self.KEPT)


class _Mean(Remembered):
    """The mean of all values so far, by step, (steps,)."""

    KEPT = ("_sum", "_count")

    def __init__(self, steps: int) -> None:
        self._sum, self._count = np.zeros(steps), np.zeros(steps)

    def add(self, values: np.ndarray) -> None:
        """Add (n, steps) values; NaN: not known."""
        self._sum = self._sum + np.nansum(values, axis=0)
        self._count = self._count + np.isfinite(values).sum(axis=0)

    @property
    def value(self) -> np.ndarray:
        return np.asarray(self._sum / np.maximum(self._count, 1))


class _Evidence(Remembered):
    """Gains of every choice over the first, with the variance of their mean over overlapping origins."""

    KEPT = ("_sum", "_squares", "_products", "_targets", "_means")

    def __init__(self, steps: int) -> None:
        self.known = Outcomes(steps)
        shape = (steps, len(CHOICES))
        self._sum, self._squares, self._products = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        # Targets and means of the origins whose targets overlap with those of the next one.
        self._targets, self._means = np.zeros((0, steps), "datetime64[s]"), np.zeros((0, *shape))

    def add(self, gains: np.ndarray, origin: np.datetime64, targets: np.ndarray) -> None:
        """Add the gains of one origin, (n, steps, choices), NaN without an outcome."""
        known = np.isfinite(gains[..., 0]).sum(axis=0)
        means = np.nan_to_num(np.nansum(gains, axis=0) / np.maximum(known, 1)[:, None])
        overlap = self._targets[:, -1] > origin
        self._targets, self._means = self._targets[overlap], self._means[overlap]
        # Forecasts over the same bars are correlated (Hansen and Hodrick, 1980).
        recent = zip(self._targets, self._means, strict=True)
        overlapping = sum((((earlier > origin)[:, None] * mean) for earlier, mean in recent), np.zeros_like(means))
        self._sum += means
        self._squares += means**2
        self._products += 2 * means * overlapping
        self._targets = np.concatenate([self._targets, targets[None]])
        self._means = np.concatenate([self._means, means[None]])
        self.known.add(known)

    def best(self) -> np.ndarray:
        """The choice with the largest lower confidence bound of its mean gain, (steps,); 0 while there is little."""
        # Overlap that lowers the variance is not relied on.
        spread = np.sqrt(self._squares + np.maximum(self._products, 0))
        bound = (self._sum - CONFIDENCE * spread) / np.maximum(self.known.origins, 1)[:, None]
        return np.where(self.known.enough, np.argmax(bound, axis=1), 0)


def _gains(
    own: np.ndarray,
    volatility: np.ndarray,
    outcomes: np.ndarray,
    centre: np.ndarray,
    ratio: np.ndarray,
    levels: Sequence[float],
) -> np.ndarray:
    """By how much every choice lowers the pinball loss of the first, over the volatility model's scale: (n, steps,
    choices)."""
    unit, view = scale(volatility, levels), location(own, levels) - centre
    relative = ratio - _log_ratio(own, volatility, levels)
    # Half of many levels give the same choice: the first, the last, and every second between them.
    some = slice(None, None, 2) if len(levels) % 2 and len(levels) > 9 else slice(None)
    scored, band = np.asarray(levels)[some], volatility[..., some]
    losses = np.empty((*outcomes.shape, len(GRID), len(GRID)))
    for column, power in enumerate(GRID):
        stretched = band * np.exp(power * np.nan_to_num(relative))[..., None]
        for row, shift in enumerate(GRID):
            error = (outcomes - shift * view)[..., None] - stretched
            losses[..., row, column] = mean_pinball_loss(error, scored)
    losses = losses.reshape(*outcomes.shape, len(CHOICES)) + np.where(np.isfinite(ratio), 0.0, np.nan)[..., None]
    gains = losses[..., :1] - losses
    known = unit[..., None] > 0
    return np.asarray(np.divide(gains, unit[..., None], out=np.full(gains.shape, np.nan), where=known))


def _log_ratio(own: np.ndarray, volatility: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """log S / s, (n, steps); NaN where a band has no width."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(scale(volatility, levels)) - np.log(scale(own, levels))
    return np.where(np.isfinite(ratio), ratio, np.nan)
