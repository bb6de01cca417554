"""Recalibration: the law of a model's standardised errors, learnt from the outcomes of earlier origins.

A forecast with median m and scale s becomes m + s·Q: Q are the quantiles of (outcome − m) / s at earlier origins, by
step, over all symbols, older ones with less weight. They are made symmetric, so that no drift of the past enters, and
widened as for one more value that may lie anywhere (a split conformal predictive distribution; Vovk et al., 2017,
Nonparametric predictive distributions based on conformal prediction). Works on logs of quantiles over the last close.

A model whose scale lags behind the market is too narrow for months, and then too wide. So Q is multiplied by c^κ: c is
the size of the errors of the last weeks over that of the law's whole memory, and κ in 0 … 1 has the lowest CRPS at
earlier origins. On US stocks until 2010 κ is 0 for a random walk with EWMA volatility at two origins of three, and for
one with the volatility of 252 sessions it lowers CRPS by 1.0 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from assets.forecasting.calibration.location_scale import location, mean_pinball_loss, scale
from assets.forecasting.calibration.panel import (
    LEAST_ORIGINS,
    DecayedHistogram,
    ForecastPanel,
    Learner,
    Outcomes,
    Remembered,
    Timeline,
    TimelineBuilder,
)

# Days after which an error counts half in c.
RECENT = 20
# Shares of absolute errors at which c compares the last weeks with the whole memory, and its limit as a log.
SHARES, LIMIT = np.array([0.5, 0.8]), 1.5
POWERS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
# Absolute standardised errors up to 0.001 count as equal, those above 1,000 too; between them bins of half a percent.
EDGES = np.r_[0.0, np.exp(np.arange(np.log(1e-3), np.log(1e3), 0.005))]


@dataclass(frozen=True)
class RecalibrationLaw:
    """What was learnt, origin by origin: a `Derive`.

    Attributes:
        quantiles: (origins, steps, levels) Q; NaN: too few outcomes, and the forecast stays as it is.
        recent: (origins, steps, 1) log c.
        powers: (origins, steps, 1) κ.
        counts: (origins, steps, 1) outcomes learnt from.
    """

    levels: tuple[float, ...]
    quantiles: Timeline
    recent: Timeline
    powers: Timeline
    counts: Timeline

    def __call__(self, origins: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
        """The recalibrated quantiles of the only base."""
        own = quantiles[0]
        law = self.quantiles.at(origins, np.full(len(self.levels), np.nan))
        law = law * np.exp(self.powers.at(origins, np.zeros(1)) * self.recent.at(origins, np.zeros(1)))
        centre, spread = location(own, self.levels), scale(own, self.levels)
        derived = centre[..., None] + spread[..., None] * law
        return np.asarray(np.where(np.isfinite(law), derived, own))


@dataclass(frozen=True)
class Recalibration:
    """Learns a `RecalibrationLaw`: a `Learn`.

    Attributes:
        levels: of the quantiles.
        steps: the horizon.
        half_life: days after which an outcome counts half.
    """

    levels: tuple[float, ...]
    steps: int
    half_life: int

    def start(self) -> RecalibrationLearner:
        """A learner without any outcome."""
        return RecalibrationLearner(self)

    def __call__(self, panels: Iterable[ForecastPanel]) -> RecalibrationLaw:
        """The law after every origin."""
        return self.start().after(panels).learnt()


class RecalibrationLearner(Learner):
    """Learns a `RecalibrationLaw` origin by origin."""

    def __init__(self, rule: Recalibration) -> None:
        self._rule, steps = rule, rule.steps
        self._histogram = DecayedHistogram(EDGES, steps, np.timedelta64(rule.half_life, "D"))
        self._newest = DecayedHistogram(EDGES, steps, np.timedelta64(RECENT, "D"))
        self._known, self._gains = Outcomes(steps), _Gains(steps)
        self._laws, self._counts = TimelineBuilder(steps, len(rule.levels)), TimelineBuilder(steps, 1)
        self._recent, self._powers = TimelineBuilder(steps, 1), TimelineBuilder(steps, 1)

    def parts(self) -> Mapping[str, Remembered]:
        """The parts, by name."""
        return {"histogram": self._histogram, "newest": self._newest, "known": self._known, "gains": self._gains,
                "laws": self._laws, "counts": self._counts, "recent": self._recent, "powers": self._powers}  # fmt: skip

    def add(self, panel: ForecastPanel) -> None:
        """Learn from the errors of the only base."""
        levels = self._rule.levels
        nothing = np.full(len(levels), np.nan)
        errors = standardised(panel.quantiles[0], panel.outcomes, levels)
        for rows in panel.by_origin():
            self._histogram.add(np.abs(errors[rows]), panel.origins[rows.start])
            self._newest.add(np.abs(errors[rows]), panel.origins[rows.start])
            self._known.add(np.isfinite(errors[rows]).sum(axis=0))
            enough = self._known.enough
            law = symmetric_quantiles(self._histogram, levels) if enough.any() else np.nan
            self._laws.add(panel.targets[rows.start], np.where(enough[:, None], law, nothing))
            self._recent.add(panel.targets[rows.start], _log_ratio(self._newest, self._histogram)[:, None])
            self._counts.add(panel.targets[rows.start], self._known.outcomes[:, None])
        law = self._laws.timeline().at(panel.origins, nothing)
        found = _losses(errors, law, self._recent.timeline().at(panel.origins, np.zeros(1)), levels)
        for rows in panel.by_origin():
            self._gains.add(found[rows])
            self._powers.add(panel.targets[rows.start], self._gains.best()[:, None])

    def learnt(self) -> RecalibrationLaw:
        """The law after every origin."""
        timelines = [one.timeline() for one in (self._laws, self._recent, self._powers, self._counts)]
        return RecalibrationLaw(self._rule.levels, *timelines)


class _Gains(Remembered):
    """By how much each of POWERS lowers the loss of the first, summed over means by origin."""

    KEPT = ("_sum", "_origins")

    def __init__(self, steps: int) -> None:
        self._sum, self._origins = np.zeros((steps, len(POWERS))), np.zeros(steps, dtype=int)

    def add(self, losses: np.ndarray) -> None:
        """Add the losses of one origin, (n, steps, powers); NaN: not known."""
        known = np.isfinite(losses[..., 0]).sum(axis=0)
        gains = np.nansum(losses[..., :1] - losses, axis=0)
        self._sum += gains / np.maximum(known, 1)[:, None]
        self._origins += known > 0

    def best(self) -> np.ndarray:
        """The power with the largest gain, (steps,); 0 while there are few origins."""
        return np.asarray(np.where(self._origins >= LEAST_ORIGINS, POWERS[np.argmax(self._sum, axis=1)], 0.0))


def _losses(errors: np.ndarray, law: np.ndarray, recent: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Pinball losses of standardised errors (n, steps) under the law, (n, steps, levels), with each of POWERS."""
    found = np.empty((*errors.shape, len(POWERS)))
    for number, power in enumerate(POWERS):
        distance = errors[..., None] - law * np.exp(power * recent)
        found[..., number] = mean_pinball_loss(distance, levels)
    return found


def _log_ratio(newest: DecayedHistogram, whole: DecayedHistogram) -> np.ndarray:
    """log c: (steps,), 0 without errors."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(newest.quantiles(SHARES) / whole.quantiles(SHARES)).mean(axis=1)
    return np.clip(np.where(np.isfinite(ratio), ratio, 0.0), -LIMIT, LIMIT)


def standardised(quantiles: np.ndarray, outcomes: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Errors of the median over the scale, (n, steps); NaN where the outcome is not known, or the forecast has no
    scale."""
    spread = scale(quantiles, levels)
    error = outcomes - location(quantiles, levels)
    return np.asarray(np.divide(error, spread, out=np.full(error.shape, np.nan), where=spread > 0))


def symmetric_quantiles(histogram: DecayedHistogram, levels: Sequence[float]) -> np.ndarray:
    """Quantiles of the law that is symmetric about 0, from a histogram of absolute values: (steps, levels)."""
    distance = np.round(np.abs(2 * np.asarray(levels) - 1), 12)
    shares, place = np.unique(distance, return_inverse=True)
    found = histogram.quantiles(shares, unknown=1.0)[:, place]
    return np.asarray(np.sign(np.asarray(levels) - 0.5) * found)
