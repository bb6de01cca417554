"""Location and scale of a forecast, from its quantiles alone, and its pinball loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def location(quantiles: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """The medians: (…, levels) → (…)."""
    return np.asarray(quantiles[..., list(levels).index(0.5)])


def scale(quantiles: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """The mean distance of the quantiles from the median, (…, levels) → (…).

    With symmetric levels half the mean width of the central intervals.
    """
    middle = list(levels).index(0.5)
    others = np.delete(quantiles, middle, axis=-1)
    if not others.shape[-1]:
        return np.zeros(quantiles.shape[:-1])
    return np.asarray(np.abs(others - quantiles[..., middle, None]).mean(axis=-1))


def mean_pinball_loss(errors: np.ndarray, levels: Sequence[float] | np.ndarray) -> np.ndarray:
    """The pinball loss of actual minus quantile, (…, levels), averaged over the levels: (…)."""
    tilt = np.asarray(levels) - 0.5
    return np.asarray(0.5 * np.abs(errors).mean(axis=-1) + (errors * tilt).mean(axis=-1))
