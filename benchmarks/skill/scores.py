"""Scores of quantile forecasts of log returns, and skill with intervals by dates.

A loss is averaged over the symbols of an origin first: origins are what the block bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from assets.forecasting.bootstrap import block_count, block_draws, bootstrap_interval
from assets.forecasting.metrics import covered, crps
from benchmarks.skill.sample import Sample

CONFIDENCE, DRAWS, SEED = 0.9, 2000, 7
BANDS = (0.5, 0.8, 0.9)
BATCH = 20_000


@dataclass(frozen=True)
class Scores:
    """What became of the forecasts of one model.

    Attributes:
        crps: (tasks, steps) of the log return, in percent.
        covered: (bands, tasks, steps) bool, whether the actual lies in each of `BANDS`.
        below: (levels,) share of the scored actuals, over all steps, that are not above the quantile.
    """

    crps: np.ndarray
    covered: np.ndarray
    below: np.ndarray


@dataclass(frozen=True)
class Skill:
    """1 - CRPS / CRPS of the reference over the same tasks, with its interval; NaN: too few origins for one.

    Attributes:
        low, high: as on the scoreboard, from blocks of a fifth of the time: wide, as it keeps the dependence of years.
        quarter_low, quarter_high: from blocks of a quarter of a year, as such figures are mostly published.
    """

    skill: float
    low: float = np.nan
    high: float = np.nan
    quarter_low: float = np.nan
    quarter_high: float = np.nan

    @property
    def text(self) -> str:
        """The skill with its interval."""
        return f"{100 * self.skill:+.2f} %{interval_text(self.low, self.high)}"

    def to_dict(self) -> dict[str, float | None]:
        """The fields as JSON values."""
        return {name: None if np.isnan(value) else round(value, 6) for name, value in asdict(self).items()}


def interval_text(low: float, high: float) -> str:
    """An interval in percent, with a space before it; empty: there is none."""
    return "" if np.isnan(low) else f" ({100 * low:+.2f} … {100 * high:+.2f})"


def score(quantiles: np.ndarray, levels: np.ndarray, sample: Sample) -> Scores:
    """Scores of forecasts.

    Args:
        quantiles: (tasks, steps, levels) of the log return.
    """
    actual, scored = sample.actual, sample.scored
    tasks, steps = actual.shape
    losses = np.empty(actual.shape, dtype=np.float32)
    inside = np.empty((len(BANDS), tasks, steps), dtype=bool)
    below = np.zeros(len(levels))
    ends = [(_place(levels, (1 - band) / 2), _place(levels, (1 + band) / 2)) for band in BANDS]
    for first in range(0, tasks, BATCH):
        rows = slice(first, first + BATCH)
        values, outcomes = np.asarray(quantiles[rows], dtype=np.float64), actual[rows]
        losses[rows] = 100 * crps(values.reshape(-1, len(levels)), levels, outcomes.ravel()).reshape(outcomes.shape)
        below += (outcomes[..., None] <= values)[scored[rows]].mean(axis=1).sum(axis=0)
        for band, (low, high) in enumerate(ends):
            inside[band, rows] = covered(values[..., low], values[..., high], outcomes)
    return Scores(losses, inside, below / max(1, scored.sum()))


def skill(
    ours: Scores, reference: Scores, sample: Sample, wanted: np.ndarray | None = None, steps: Sequence[int] = ()
) -> Skill:
    """The skill over the scored tasks.

    Args:
        wanted: (tasks,) bool, further restriction; None: none.
        steps: the steps (1 is the first) that count; none: all.
    """
    kept = sample.scored if wanted is None else sample.scored & wanted
    columns = [step - 1 for step in steps] or slice(None)
    numbers, groups = np.unique(sample.origin[kept], return_inverse=True)
    if not len(numbers):
        return Skill(np.nan)
    counts = np.bincount(groups)
    pairs = np.stack(
        [np.bincount(groups, one.crps[kept][:, columns].mean(axis=1)) / counts for one in (ours, reference)], axis=1
    )
    estimate, overlap = float(_skill(pairs.mean(axis=0))), _overlap(sample)
    fifths, quarters = _interval(pairs, overlap, None), _interval(pairs, overlap, max(overlap, _quarter(sample)))
    return Skill(estimate, *fifths, *quarters)


def _interval(pairs: np.ndarray, overlap: int, block: int | None) -> tuple[float, float]:
    """The interval of the skill from the (origins, 2) losses of a model and of the reference.

    Args:
        overlap: a block has this many origins at least.
        block: origins of a block; None: a fifth of all.
    """
    weights = np.ones(len(pairs))
    blocks = block_count(weights, overlap, block)
    if not blocks:
        return np.nan, np.nan
    drawn = _skill(block_draws(pairs, weights, blocks, DRAWS, SEED))
    return bootstrap_interval(drawn, float(_skill(pairs.mean(axis=0))), 1 - CONFIDENCE, 1, blocks)


def coverage(scores: Scores, sample: Sample, band: float, wanted: np.ndarray | None = None) -> float:
    """The share of the scored actuals inside a band of `BANDS`, over all steps."""
    kept = sample.scored if wanted is None else sample.scored & wanted
    return float(scores.covered[BANDS.index(band)][kept].mean()) if kept.any() else np.nan


def thirds(values: np.ndarray, sample: Sample) -> np.ndarray:
    """0, 1 or 2: the third of the symbols of its origin, by `values` (tasks,), that each task belongs to."""
    group = np.zeros(len(values), dtype=int)
    for origin in np.unique(sample.origin):
        rows = np.flatnonzero(sample.origin == origin)
        ranks = np.argsort(np.argsort(values[rows], kind="stable"), kind="stable")
        group[rows] = ranks * 3 // len(rows)
    return group


def _overlap(sample: Sample) -> int:
    """Neighbouring origins whose forecasts share a bar."""
    ends = sample.targets[:, -1]
    return max(1, int(np.median(np.searchsorted(sample.origins, ends) - np.arange(len(ends)))))


def _quarter(sample: Sample) -> int:
    """Origins in a quarter of a year."""
    return max(1, round(float(np.timedelta64(91, "D") / np.median(np.diff(sample.origins)))))


def _place(levels: np.ndarray, level: float) -> int:
    return int(np.argmin(np.abs(levels - level)))


def _skill(means: np.ndarray) -> np.ndarray:
    """(…, 2) → (…)."""
    return np.asarray(1 - means[..., 0] / means[..., 1])
