"""Ratios of sums over forecasts, of resampled blocks of origins. Not here: what the sums are of (backtest)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assets.evaluation.origin_times import OriginTimes
from assets.forecasting.bootstrap import block_draws, weighted_means
from resources.settings import EvaluationSettings


@dataclass(frozen=True)
class Ratio:
    """Σ above / Σ below over forecasts.

    Attributes:
        origins: (m,) the place of each forecast's origin in `BlockBootstrap.origins`.
        above, below: (m,) what is summed.
    """

    origins: np.ndarray
    above: np.ndarray
    below: np.ndarray


@dataclass(frozen=True)
class ResampledRatio:
    """A ratio, and that of resampled histories: (draws,); NaN and 0 blocks: no forecasts, or too few origins."""

    estimate: float
    drawn: np.ndarray
    blocks: int


@dataclass(frozen=True)
class BlockBootstrap:
    """Resamples blocks of origins: how the origins lie in time, and the settings of the evaluation.

    Attributes:
        origins: (n,) datetime64, increasing: of all forecasts of the backtest.
        times: of these.
    """

    origins: np.ndarray
    times: OriginTimes
    settings: EvaluationSettings
    seed: int

    @property
    def alpha(self) -> float:
        return 1 - self.settings.confidence

    def resample(self, ratios: Sequence[Ratio]) -> list[ResampledRatio]:
        """Each as alone, to the bit. Those of the same origins share their draws, and take a tenth of the time."""
        groups: dict[bytes, list[int]] = {}
        for number, one in enumerate(ratios):
            present = np.zeros(len(self.origins), dtype=bool)
            present[one.origins] = True
            groups.setdefault(present.tobytes(), []).append(number)
        found: dict[int, ResampledRatio] = {}
        for key, numbers in groups.items():
            rows = np.flatnonzero(np.frombuffer(key, dtype=bool))
            found |= zip(numbers, self._together([ratios[one] for one in numbers], rows), strict=True)
        return [found[number] for number in range(len(ratios))]

    def _together(self, ratios: Sequence[Ratio], rows: np.ndarray) -> list[ResampledRatio]:
        """Ratios of the forecasts from the origins at `rows`."""
        if not len(rows):
            return [ResampledRatio(np.nan, np.full(1, np.nan), 0) for _ in ratios]
        place = np.zeros(len(self.origins), dtype=int)
        place[rows] = np.arange(len(rows))
        parts = [(one.origins, one.above) for one in ratios] + [(one.origins, one.below) for one in ratios]
        sums = np.column_stack([np.bincount(place[origins], part, len(rows)) for origins, part in parts])
        count = len(ratios)
        times = self.times.at(rows)
        weights = times.weights()
        blocks = times.blocks(weights, self.settings)
        means = weighted_means(sums, weights)
        drawn = (
            block_draws(sums, weights, blocks, self.settings.bootstrap_draws, self.seed)
            if blocks
            else np.full((1, 2 * count), np.nan)
        )
        estimates, resampled = _divided(means[:count], means[count:]), _divided(drawn[:, :count], drawn[:, count:])
        return [ResampledRatio(float(estimates[one]), resampled[:, one], blocks) for one in range(count)]


def _divided(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(below == 0, np.nan, above / below))
