"""Location and scale of a forecast, from its quantiles alone."""

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
