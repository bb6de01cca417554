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

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from assets.forecasting.calibration.location_scale import location, mean_pinball_loss, scale
from assets.forecasting.calibration.panel import (
    LEAST_ORIGINS,
    LEAST_OUTCOMES,
    DecayedHistogram,
    ForecastPanel,
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

    def __call__(self, panels: Iterable[ForecastPanel]) -> AnchoringWeights:
        """The weights after every origin."""
        histogram = DecayedHistogram(EDGES, self.steps, np.timedelta64(self.half_life, "D"))
        evidence = _Evidence(self.steps)
        weights, counts = TimelineBuilder(self.steps, 2), TimelineBuilder(self.steps, 1)
        origins, centre = list[np.datetime64](), _Mean(self.steps)
        # Row i: what is known before origin i.
        centres, ratios = [np.zeros(self.steps)], [np.full(self.steps, np.nan)]
        for panel in panels:
            own, volatility = panel.quantiles
            medians, observed = location(own, self.levels), _log_ratio(own, volatility, self.levels)
            before = np.empty((2, *observed.shape))
            for rows in panel.by_origin():
                before[0, rows], before[1, rows] = centres[-1], ratios[-1]
                histogram.add(observed[rows], panel.origins[rows.start])
                centre.add(medians[rows])
                origins.append(panel.origins[rows.start])
                centres.append(centre.value)
                ratios.append(np.nan_to_num(histogram.quantiles(np.array([0.5]))[:, 0]))
            gains = _gains(own, volatility, panel.outcomes, before[0], before[1], self.levels)
            for rows in panel.by_origin():
                targets = panel.targets[rows.start]
                evidence.add(gains[rows], panel.origins[rows.start], targets)
                weights.add(targets, CHOICES[evidence.best()])
                counts.add(targets, evidence.outcomes[:, None])
        when = np.array(origins, dtype="datetime64[s]")
        learnt = np.stack(centres), np.stack(ratios)
        return AnchoringWeights(self.levels, weights.timeline(), when, *learnt, counts.timeline())


class _Mean:
    """The mean of all values so far, by step, (steps,)."""

    def __init__(self, steps: int) -> None:
        self._sum, self._count = np.zeros(steps), np.zeros(steps)

    def add(self, values: np.ndarray) -> None:
        """Add (n, steps) values; NaN: not known."""
        self._sum = self._sum + np.nansum(values, axis=0)
        self._count = self._count + np.isfinite(values).sum(axis=0)

    @property
    def value(self) -> np.ndarray:
        return np.asarray(self._sum / np.maximum(self._count, 1))


class _Evidence:
    """Gains of every choice over the first, with the variance of their mean over overlapping origins."""

    def __init__(self, steps: int) -> None:
        self.outcomes, self.origins = np.zeros(steps, dtype=int), np.zeros(steps, dtype=int)
        shape = (steps, len(CHOICES))
        self._sum, self._squares, self._products = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        # Means of the origins whose targets overlap with those of the next one: [(targets, means)].
        self._recent: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, gains: np.ndarray, origin: np.datetime64, targets: np.ndarray) -> None:
        """Add the gains of one origin, (n, steps, choices), NaN without an outcome."""
        known = np.isfinite(gains[..., 0]).sum(axis=0)
        means = np.nan_to_num(np.nansum(gains, axis=0) / np.maximum(known, 1)[:, None])
        self._recent = [one for one in self._recent if one[0][-1] > origin]
        # Forecasts over the same bars are correlated (Hansen and Hodrick, 1980).
        overlapping = sum(
            (((earlier > origin)[:, None] * mean) for earlier, mean in self._recent), np.zeros_like(means)
        )
        self._sum += means
        self._squares += means**2
        self._products += 2 * means * overlapping
        self._recent.append((targets, means))
        self.outcomes, self.origins = self.outcomes + known, self.origins + (known > 0)

    def best(self) -> np.ndarray:
        """The choice with the largest lower confidence bound of its mean gain, (steps,); 0 while there is little."""
        # Overlap that lowers the variance is not relied on.
        spread = np.sqrt(self._squares + np.maximum(self._products, 0))
        bound = (self._sum - CONFIDENCE * spread) / np.maximum(self.origins, 1)[:, None]
        enough = (self.outcomes >= LEAST_OUTCOMES) & (self.origins >= LEAST_ORIGINS)
        return np.where(enough, np.argmax(bound, axis=1), 0)


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
