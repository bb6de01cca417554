"""Normalisation of bars by the statistics of the lookback window, in training, validation and inference alike.

The arithmetic is that of the authors' inference, in float32 and in the same order: a token consists of signs of
floats, and another order of summation would flip a few of them in a long history.
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
"""Saved in checkpoints; increased whenever the arithmetic below changes."""


@dataclass(frozen=True)
class Normalisation:
    """The parameters of the normalisation, saved in checkpoints: z-scores over the lookback, clipped to ±clip."""

    clip: float = 5.0
    epsilon: float = 1e-5
    version: int = NORMALISATION_VERSION

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def require(self, other: Normalisation | Mapping[str, Any], *, owner: str) -> None:
        """Raise MismatchError if `other`, the normalisation of `owner`, differs from this one."""
        theirs = other if isinstance(other, Normalisation) else Normalisation(**other)
        if theirs != self:
            raise MismatchError(f"{owner} was prepared with {theirs}, but {self} is in use")

    def apply(self, x: ArrayLike, lookback: int) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Normalise windows (…, time, field) by their first `lookback` rows; returns (values, mean, std)."""
        mean, std = window_statistics(x, lookback)
        return normalise(x, mean, std, self.clip, self.epsilon), mean, std


def window_statistics(x: ArrayLike, lookback: int) -> tuple[Float32Array, Float32Array]:
    """Mean and standard deviation of each field over the first `lookback` rows.

    `x` is (…, time, field) of any float type; the results are two float32 arrays (…, field). Rows from `lookback` on
    are never read, so a bar after the origin cannot change a statistic. Standard deviations are those of the
    population (ddof 0), and 0 where a field is constant. A lookback outside the window raises InputError.
    """
    values = np.asarray(x, dtype=np.float32)
    if values.ndim < 2:
        raise InputError(f"window_statistics needs (…, time, field), got shape {values.shape}")
    if not 1 <= lookback <= values.shape[-2]:
        raise InputError(f"lookback={lookback} must lie in 1…{values.shape[-2]}, the rows of the window")
    # With time as the contiguous axis, as in the columns of a pandas frame, numpy sums pairwise, which is more exact
    # and equals the authors' arithmetic.
    history = np.ascontiguousarray(np.swapaxes(values[..., :lookback, :], -1, -2))
    return np.mean(history, axis=-1), np.std(history, axis=-1)


def normalise(x: ArrayLike, mean: ArrayLike, std: ArrayLike, clip: float = 5.0, epsilon: float = 1e-5) -> Float32Array:
    """z-scores (…, time, field) in float32, clipped to ±clip; `mean` and `std` are (…, field)."""
    values, centre, scale = (np.asarray(a, dtype=np.float32) for a in (x, mean, std))
    z = values - centre[..., None, :]
    z /= scale[..., None, :] + np.float32(epsilon)
    return np.clip(z, np.float32(-clip), np.float32(clip), out=z)


def denormalise(z: ArrayLike, mean: ArrayLike, std: ArrayLike, epsilon: float = 1e-5) -> Float32Array:
    """z-scores (…, time, field) in the units of the bars; `mean` and `std` (…, field), all float32."""
    values, centre, scale = (np.asarray(a, dtype=np.float32) for a in (z, mean, std))
    return values * (scale[..., None, :] + np.float32(epsilon)) + centre[..., None, :]
