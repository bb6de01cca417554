"""The one normalisation of training, validation, inference and benchmarks: statistics of the lookback alone.

The arithmetic is that of the authors' inference, in float32 and in the same order, because a token is the
sign of a float: another order of summation would flip bits of a few tokens in a long history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kronos.errors import InputError, MismatchError

Float32Array = NDArray[np.float32]

NORMALISATION_VERSION = 1
"""Saved in checkpoints; raised whenever the arithmetic below changes."""


@dataclass(frozen=True)
class Normalisation:
    """Parameters that a checkpoint was trained with: z-scores over the lookback, clipped to ±clip."""

    clip: float = 5.0
    epsilon: float = 1e-5
    version: int = NORMALISATION_VERSION

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def require(self, other: Normalisation | Mapping[str, Any], *, owner: str) -> None:
        """Raise MismatchError when `owner` was prepared with another normalisation than this one."""
        theirs = other if isinstance(other, Normalisation) else Normalisation(**other)
        if theirs != self:
            raise MismatchError(f"{owner} was prepared with {theirs}, but {self} is in use")

    def apply(self, x: ArrayLike, lookback: int) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Normalise windows (…, time, field) by their first `lookback` rows; returns (values, mean, std)."""
        mean, std = window_statistics(x, lookback)
        return normalise(x, mean, std, self.clip, self.epsilon), mean, std


def window_statistics(x: ArrayLike, lookback: int) -> tuple[Float32Array, Float32Array]:
    """Mean and standard deviation of each field over the first `lookback` rows.

    `x` is (…, time, field) of any float type; the result is two float32 arrays (…, field). Rows from
    `lookback` on are never read, so a bar after the origin cannot change a statistic. Standard deviations
    are those of the population (ddof 0), and 0 where a field does not move.
    """
    values = np.asarray(x, dtype=np.float32)
    if values.ndim < 2:
        raise InputError(f"window_statistics needs (…, time, field), got shape {values.shape}")
    if not 1 <= lookback <= values.shape[-2]:
        raise InputError(f"lookback={lookback} must lie in 1…{values.shape[-2]}, the rows of the window")
    # Time is made the contiguous axis, as in the columns of a pandas frame: numpy then sums pairwise, which
    # is more exact and is what the authors' arithmetic amounts to.
    history = np.ascontiguousarray(np.swapaxes(values[..., :lookback, :], -1, -2))
    return np.mean(history, axis=-1), np.std(history, axis=-1)


def normalise(x: ArrayLike, mean: ArrayLike, std: ArrayLike, clip: float = 5.0, epsilon: float = 1e-5) -> Float32Array:
    """z-scores (…, time, field) in float32, clipped to ±clip; `mean` and `std` are (…, field)."""
    values, centre, scale = (np.asarray(a, dtype=np.float32) for a in (x, mean, std))
    z = values - centre[..., None, :]
    z /= scale[..., None, :] + np.float32(epsilon)
    return np.clip(z, np.float32(-clip), np.float32(clip), out=z)


def denormalise(z: ArrayLike, mean: ArrayLike, std: ArrayLike, epsilon: float = 1e-5) -> Float32Array:
    """Back to the units of the bars: z (…, time, field), `mean` and `std` (…, field), all float32."""
    values, centre, scale = (np.asarray(a, dtype=np.float32) for a in (z, mean, std))
    return values * (scale[..., None, :] + np.float32(epsilon)) + centre[..., None, :]
