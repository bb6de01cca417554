"""Normalisation of bars by the statistics of the lookback window, in training, validation and inference alike.

The arithmetic is that of the authors' inference, in float32 and in the same order: a token consists of signs of
floats, and another order of summation would flip a few of them in a long history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kronos.errors import InputError, MismatchError
from kronos.features import PRICES, MissingVolume, complete_volume_amount

Float32Array = NDArray[np.float32]

NORMALISATION_VERSION = 1
"""Saved in checkpoints; increased whenever the arithmetic below changes."""


VOLUME = len(PRICES)
"""The first of the two fields that may be missing: volume, then amount."""


@dataclass(frozen=True)
class Normalisation:
    """How bars become the input of the models, saved in checkpoints: z-scores over the lookback, clipped to ±clip.

    `missing_volume` is the rule for missing volume and amount, see `kronos.features.complete_volume_amount`. Raises
    InputError for an unknown rule.
    """

    clip: float = 5.0
    epsilon: float = 1e-5
    version: int = NORMALISATION_VERSION
    missing_volume: MissingVolume = "zero"

    def __post_init__(self) -> None:
        if self.missing_volume not in get_args(MissingVolume):
            raise InputError(f"missing_volume={self.missing_volume!r} is none of {', '.join(get_args(MissingVolume))}")

    def to_dict(self) -> dict[str, Any]:
        """The sidecar's content. The published rule for missing volume is left out, as before there were others."""
        values = asdict(self)
        if self.missing_volume == "zero":
            del values["missing_volume"]
        return values

    def require(self, other: Normalisation | Mapping[str, Any], *, owner: str) -> None:
        """Raise MismatchError if `other`, the normalisation of `owner`, differs from this one."""
        theirs = other if isinstance(other, Normalisation) else Normalisation(**other)
        if theirs != self:
            raise MismatchError(f"{owner} was prepared with {theirs}, but {self} is in use")

    def apply(self, x: ArrayLike, lookback: int) -> tuple[Float32Array, Float32Array, Float32Array]:
        """The whole preparation of bars, for training and inference: returns (values, mean, std).

        `x` (…, time, 6) are windows of bars, NaN where volume or amount is not supplied; they are completed by
        `missing_volume` in float64 and normalised by their first `lookback` rows: (…, time, 6), (…, 6), (…, 6).
        Under "mask" a missing value is 0 after normalisation, and mean and deviation are those of the known values of
        the lookback; if none is known, both are 0 and so is the field in the whole window.
        """
        bars = complete_volume_amount(x, self.missing_volume, lookback).astype(np.float32)
        mean, std = window_statistics(bars, lookback)
        masked = np.isnan(bars[..., VOLUME:])
        if not masked.any():
            return normalise(bars, mean, std, self.clip, self.epsilon), mean, std
        known = ~masked[..., :lookback, :]
        mean[..., VOLUME:], std[..., VOLUME:] = _known_statistics(bars[..., :lookback, VOLUME:], known)
        values = normalise(bars, mean, std, self.clip, self.epsilon)
        values[..., VOLUME:][masked | ~known.any(axis=-2, keepdims=True)] = 0.0
        return values, mean, std


def _known_statistics(history: Float32Array, known: NDArray[np.bool_]) -> tuple[Float32Array, Float32Array]:
    """Mean and standard deviation over the known rows of history (…, lookback, field); 0 where none is known."""
    count = np.maximum(known.sum(axis=-2), 1).astype(np.float32)
    mean = np.where(known, history, 0).sum(axis=-2, dtype=np.float64) / count
    squares = np.where(known, history - mean[..., None, :], 0) ** 2
    return mean.astype(np.float32), np.sqrt(squares.sum(axis=-2) / count).astype(np.float32)


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
