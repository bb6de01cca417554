"""What a forecast is: sample paths, and the summaries read off them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kronos.errors import InputError
from kronos.features import FEATURES

Float32Array = NDArray[np.float32]


@dataclass(frozen=True)
class PathResult:
    """Sample paths (series, path, step, field) in the bars' own units, float32.

    Fields are those of `kronos.features.FEATURES`. `projection_rate` (series,) is the share of a series'
    raw bars that broke low ≤ open, close ≤ high, a positive price or a volume and amount of at least 0,
    whether or not the paths were then projected. `tokens` (series, path, step, 2) are what was drawn.
    """

    paths: Float32Array
    projection_rate: Float32Array
    projected: bool
    tokens: NDArray[np.int64]

    def mean(self) -> Float32Array:
        """Mean path (series, step, field)."""
        return self.paths.mean(axis=1)

    def quantiles(self, levels: Sequence[float]) -> Float32Array:
        """Quantiles over paths: (series, level, step, field), levels in the order given."""
        wanted = np.asarray(levels, dtype=np.float64)
        if wanted.ndim != 1 or not len(wanted) or not ((wanted >= 0) & (wanted <= 1)).all():
            raise InputError(f"quantile levels must be a list within [0, 1], got {levels}")
        return np.moveaxis(np.quantile(self.paths, wanted, axis=1), 0, 1).astype(np.float32)

    def probability(
        self,
        level: float | NDArray[np.floating],
        *,
        field: str = "close",
        step: int = -1,
        side: Literal["above", "below"] = "above",
    ) -> NDArray[np.float64]:
        """Share of paths whose `field` at `step` lies strictly above (below) `level`: (series,).

        `level` is one number or one a series, e.g. the last close. Steps count from 0; -1 is the last.
        Levels are rounded to float32, as the paths are: a path at the last close is neither above nor below.
        """
        if field not in FEATURES:
            raise InputError(f"field {field!r} is none of {', '.join(FEATURES)}")
        if not -self.paths.shape[2] <= step < self.paths.shape[2]:
            raise InputError(f"step {step} lies outside the {self.paths.shape[2]} steps of the forecast")
        if side not in ("above", "below"):
            raise InputError(f"side {side!r} is neither above nor below")
        values = self.paths[:, :, step, FEATURES.index(field)]
        bound = np.broadcast_to(np.asarray(level, dtype=np.float32), values.shape[:1])[:, None]
        return (values > bound if side == "above" else values < bound).mean(axis=1)


def physical(paths: Float32Array, floor: Float32Array) -> tuple[Float32Array, NDArray[np.bool_]]:
    """Project bars (series, …, 6) onto what a market can print, and say which bars had to move.

    Prices are raised to `floor` (series,), high and low are widened to enclose open and close, volume and
    amount are cut at 0. Returns the projected copy and a mask (series, …).
    """
    least = floor.reshape(-1, *([1] * (paths.ndim - 1)))
    bars = paths.copy()
    np.maximum(bars[..., :4], least, out=bars[..., :4])
    np.maximum(bars[..., 4:], 0, out=bars[..., 4:])
    bars[..., 1] = bars[..., :4].max(axis=-1)
    bars[..., 2] = bars[..., :4].min(axis=-1)
    return bars, (bars != paths).any(axis=-1)


def price_floor(history: NDArray[np.floating]) -> np.float32:
    """Least price that a projected path may take: a thousandth of the least price in the history (rows, 6)."""
    return np.float32(np.asarray(history)[:, :4].min() * 1e-3)
