"""Recalibration: the law of a model's standardised errors, learnt from the outcomes of earlier origins.

A forecast with median m and scale s becomes m + s·Q: Q are the quantiles of (outcome − m) / s at earlier origins, by
step, over all symbols, older ones with less weight. They are made symmetric, so that no drift of the past enters, and
widened as for one more value that may lie anywhere (a split conformal predictive distribution; Vovk et al., 2017,
Nonparametric predictive distributions based on conformal prediction). Works on logs of quantiles over the last close.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from assets.forecasting.calibration.location_scale import location, scale
from assets.forecasting.calibration.panel import (
    LEAST_ORIGINS,
    LEAST_OUTCOMES,
    DecayedHistogram,
    ForecastPanel,
    Timeline,
    TimelineBuilder,
)

# Absolute standardised errors up to 0.001 count as equal, those above 1,000 too; between them bins of half a percent.
EDGES = np.r_[0.0, np.exp(np.arange(np.log(1e-3), np.log(1e3), 0.005))]


@dataclass(frozen=True)
class RecalibrationLaw:
    """What was learnt, origin by origin: a `Derive`.

    Attributes:
        quantiles: (origins, steps, levels) Q; NaN: too few outcomes, and the forecast stays as it is.
        counts: (origins, steps, 1) outcomes learnt from.
    """

    levels: tuple[float, ...]
    quantiles: Timeline
    counts: Timeline

    def __call__(self, origins: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
        """The recalibrated quantiles of the only base."""
        own = quantiles[0]
        law = self.quantiles.at(origins, np.full(len(self.levels), np.nan))
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

    def __call__(self, panels: Iterable[ForecastPanel]) -> RecalibrationLaw:
        """The law after every origin."""
        histogram = DecayedHistogram(EDGES, self.steps, np.timedelta64(self.half_life, "D"))
        known, origins = np.zeros(self.steps, dtype=int), np.zeros(self.steps, dtype=int)
        laws, counts = TimelineBuilder(self.steps, len(self.levels)), TimelineBuilder(self.steps, 1)
        for panel in panels:
            errors = standardised(panel.quantiles[0], panel.outcomes, self.levels)
            for rows in panel.by_origin():
                histogram.add(np.abs(errors[rows]), panel.origins[rows.start])
                new = np.isfinite(errors[rows]).sum(axis=0)
                known, origins = known + new, origins + (new > 0)
                enough = (known >= LEAST_OUTCOMES) & (origins >= LEAST_ORIGINS)
                law = np.where(enough[:, None], symmetric_quantiles(histogram, self.levels), np.nan)
                laws.add(panel.targets[rows.start], law)
                counts.add(panel.targets[rows.start], known[:, None])
        return RecalibrationLaw(self.levels, laws.timeline(), counts.timeline())


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
