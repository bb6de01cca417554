"""The result of a forecast: sample paths and their summaries (mean, quantiles, event probabilities)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kronos.errors import InputError
from kronos.features import FEATURES
from kronos.validation import check_integer

if TYPE_CHECKING:
    import pandas as pd

Float32Array = NDArray[np.float32]


QuantileMethod = Literal["harrell_davis", "median_unbiased"]
"""How quantiles are read off sample paths, see `PathResult.quantiles`."""
LEAST_LEVEL = 1e-9


@dataclass(frozen=True)
class FirstStepLaw:
    """The model's distribution of the first bar after each history, without sampling.

    `values` (series, point, field) are bars and `probabilities` (series, point), which sum to 1, their probabilities.
    `exact` (series,) is the probability of the points that are a pair of tokens each; the others stand for several
    pairs, evenly drawn from the less likely ones, so that no probability is lost.
    """

    values: Float32Array
    probabilities: NDArray[np.float64]
    exact: NDArray[np.float64]

    @classmethod
    def empty(cls, series: int, points: int) -> FirstStepLaw:
        """Arrays to `fill`."""
        values = np.empty((series, points, len(FEATURES)), np.float32)
        return cls(values, np.empty((series, points)), np.empty(series))

    def fill(
        self,
        members: Sequence[int],
        values: Float32Array,
        probabilities: NDArray[np.float64],
        exact: NDArray[np.float64],
    ) -> None:
        """Store the distributions of some series."""
        rows = list(members)
        self.values[rows], self.probabilities[rows], self.exact[rows] = values, probabilities, exact

    def mean(self) -> NDArray[np.float64]:
        """Mean bar (series, field)."""
        mean: NDArray[np.float64] = np.einsum("sp,spf->sf", self.probabilities, self.values.astype(np.float64))
        return mean

    def quantiles(self, levels: Sequence[float]) -> Float32Array:
        """Quantiles (series, level, field): the least value whose cumulative probability reaches the level.

        Raises InputError unless `levels` is a list of numbers within [0, 1].
        """
        wanted = np.clip(check_levels(levels), LEAST_LEVEL, 1 - LEAST_LEVEL)
        order = np.argsort(self.values, axis=1, kind="stable")
        cumulative = np.take_along_axis(self.probabilities[..., None], order, axis=1).cumsum(axis=1)
        cumulative /= cumulative[:, -1:]
        below = np.stack([(cumulative < level).sum(axis=1) for level in wanted], axis=1)
        found: Float32Array = np.take_along_axis(np.take_along_axis(self.values, order, axis=1), below, axis=1)
        return found


@dataclass(frozen=True)
class PathResult:
    """Sample paths (series, path, step, field) in the units of the bars, float32.

    Fields are those of `kronos.features.FEATURES`. `projection_rate` (series,) is the share of a series' raw bars
    that violate low ≤ open, close ≤ high, a positive price or a volume and amount of at least 0, whether or not the
    paths were then projected (`projected`). `tokens` (series, path, step, 2) are the s1 and s2 tokens drawn. `index`
    holds the timestamps of each series' steps; it is empty for a forecast from arrays. `first_step` is the exact
    distribution of the first step, with stratified draws; the paths' own first step is a sample of it.
    """

    paths: Float32Array
    projection_rate: Float32Array
    projected: bool
    tokens: NDArray[np.int64]
    index: tuple[pd.DatetimeIndex, ...] = ()
    first_step: FirstStepLaw | None = None

    def mean(self) -> Float32Array:
        """Mean path (series, step, field)."""
        mean: Float32Array = self.paths.mean(axis=1)
        return mean

    def quantiles(self, levels: Sequence[float], method: QuantileMethod = "harrell_davis") -> Float32Array:
        """Quantiles (series, level, step, field), levels in the order given; the first step's are `first_step`'s.

        The other steps' are read off the paths. "harrell_davis" (Harrell and Davis, 1982, doi 10.1093/biomet/69.3.635)
        is a weighted mean of all paths, with weights of a beta distribution about the level: less noise than one or two
        paths have. "median_unbiased" interpolates between two paths (Hyndman and Fan's type 8). numpy's default, type
        7, puts the extreme paths at levels 0 and 1, which makes the bands of few paths too narrow. The levels 0 and 1
        give the extreme paths.

        Raises InputError unless `levels` is a list of numbers within [0, 1], and for an unknown method.
        """
        if method not in get_args(QuantileMethod):
            raise InputError(f"method {method!r} is none of {', '.join(get_args(QuantileMethod))}")
        wanted, count = check_levels(levels), self.paths.shape[1]
        # Sorting once for all levels is ten times as fast as np.quantile.
        ordered = np.moveaxis(np.sort(self.paths, axis=1).astype(np.float64), 1, -1)
        weights = _WEIGHTS[method](tuple(wanted), count)
        quantiles = np.moveaxis(ordered @ weights.T, -1, 1).astype(np.float32)
        # Equal paths have this quantile at every level; weights sum to 1 only up to rounding.
        np.clip(quantiles, ordered[..., 0][:, None], ordered[..., -1][:, None], out=quantiles)
        if self.first_step is not None and self.paths.shape[2]:
            quantiles[:, :, 0] = self.first_step.quantiles(levels)
        return quantiles

    def probability(
        self,
        level: ArrayLike,
        *,
        field: str = "close",
        step: int = -1,
        side: Literal["above", "below"] = "above",
    ) -> NDArray[np.float64]:
        """Share of paths whose `field` at `step` lies strictly above (below) `level`: (series,).

        `level` is one number, or one number per series, e.g. the last close. Steps count from 0; -1 is the last.
        Levels are rounded to float32, as the paths are: a path at the last close is neither above nor below.

        Raises InputError for a level that is not a number or NaN, for another number of levels than of series, and
        for an unknown field, step or side.
        """
        if field not in FEATURES:
            raise InputError(f"field {field!r} is none of {', '.join(FEATURES)}")
        step = check_integer("step", step)
        if not -self.paths.shape[2] <= step < self.paths.shape[2]:
            raise InputError(f"step {step} lies outside the {self.paths.shape[2]} steps of the forecast")
        if side not in ("above", "below"):
            raise InputError(f"side {side!r} is neither above nor below")
        values = self.paths[:, :, step, FEATURES.index(field)]
        levels = _numbers("level", level)
        if levels.shape not in ((), values.shape[:1]):
            raise InputError(
                f"level must be one number or one for each of the {len(values)} series, got shape {levels.shape}"
            )
        with np.errstate(over="ignore"):  # a level beyond float32 is above (below) every path
            bound = np.broadcast_to(levels.astype(np.float32), values.shape[:1])[:, None]
        share: NDArray[np.float64] = (values > bound if side == "above" else values < bound).mean(axis=1)
        return share


def _numbers(label: str, values: ArrayLike) -> NDArray[np.float64]:
    """Real numbers of any shape as float64. Raises InputError for anything else, and for NaN."""
    try:
        found = np.asarray(values)
    except ValueError as error:  # lists of different lengths
        raise InputError(f"{label} must be a number or a list of numbers, got {values!r}") from error
    if found.dtype.kind not in "iuf" or np.isnan(found).any():
        raise InputError(f"{label} must be numbers, and not NaN, got {values!r}")
    return found.astype(np.float64)


def check_levels(levels: Sequence[float]) -> NDArray[np.float64]:
    """Quantile levels as an array. Raises InputError unless they are a list of numbers within [0, 1]."""
    wanted = _numbers("quantile levels", levels)
    if wanted.ndim != 1 or not len(wanted) or not ((wanted >= 0) & (wanted <= 1)).all():
        raise InputError(f"quantile levels must be a list within [0, 1], got {levels}")
    return wanted


@lru_cache(maxsize=32)
def _harrell_davis_weights(levels: tuple[float, ...], count: int) -> NDArray[np.float64]:
    """Weights (level, path) of ordered paths: increments of a beta distribution's cumulative function."""
    from scipy.special import betainc

    wanted = np.clip(np.array(levels)[:, None], LEAST_LEVEL, 1 - LEAST_LEVEL)
    edges = np.arange(count + 1) / count
    cumulative = betainc((count + 1) * wanted, (count + 1) * (1 - wanted), edges)
    weights: NDArray[np.float64] = np.diff(cumulative, axis=1)
    return weights


@lru_cache(maxsize=32)
def _median_unbiased_weights(levels: tuple[float, ...], count: int) -> NDArray[np.float64]:
    """Weights (level, path) of ordered paths: one or two paths per level."""
    place = np.clip((count + 1 / 3) * np.array(levels) + 1 / 3, 1, count) - 1
    below = np.floor(place).astype(np.intp)
    weights, rows = np.zeros((len(levels), count)), np.arange(len(levels))
    weights[rows, below] = 1 - (place - below)
    weights[rows, np.minimum(below + 1, count - 1)] += place - below
    return weights


_WEIGHTS: dict[QuantileMethod, Callable[[tuple[float, ...], int], NDArray[np.float64]]] = {
    "harrell_davis": _harrell_davis_weights,
    "median_unbiased": _median_unbiased_weights,
}


def project_bars(paths: Float32Array, floor: Float32Array) -> tuple[Float32Array, NDArray[np.bool_]]:
    """Project bars (series, …, 6) onto valid bars.

    Prices are raised to `floor` (series,), high and low are widened to enclose open and close, volume and amount are
    raised to 0. Returns the projected copy and a mask (series, …) of the bars that were changed.
    """
    least = floor.reshape(-1, *([1] * (paths.ndim - 1)))
    bars = paths.copy()
    np.maximum(bars[..., :4], least, out=bars[..., :4])
    np.maximum(bars[..., 4:], 0, out=bars[..., 4:])
    bars[..., 1] = bars[..., :4].max(axis=-1)
    bars[..., 2] = bars[..., :4].min(axis=-1)
    return bars, (bars != paths).any(axis=-1)


def price_floor(history: NDArray[np.floating]) -> np.float32:
    """Lowest price that a projected path may take: a thousandth of the lowest price in the history (rows, 6)."""
    return np.float32(np.asarray(history)[:, :4].min() * 1e-3)
