"""Naive and seasonal naive forecasts with normal errors: the reference of any series.

The forecast of a step is the value one season before, or as many seasons as are needed to find one; its variance is the
mean squared seasonal difference times that number (Hyndman and Athanasopoulos, Forecasting: Principles and Practice,
5.5). A season of one step is the naive forecast, that of a random walk.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri


def naive_quantiles(values: np.ndarray, horizon: int, levels: np.ndarray, season: int) -> np.ndarray:
    """Quantiles (horizon, levels) of the steps after a series; NaN where no earlier season has a value.

    Args:
        values: (n,) float64, NaN where unknown.
        season: in steps; 1: the last value.
    """
    steps = np.arange(horizon)
    median, seasons = np.full(horizon, np.nan), np.ones(horizon)
    for step in steps:
        # Rows of the same place in the season, the newest first.
        place = len(values) + step % season - season
        rows = np.arange(place, -1, -season)
        known = np.flatnonzero(np.isfinite(values[rows]))
        if len(known):
            median[step] = values[rows[known[0]]]
            seasons[step] = known[0] + step // season + 1
    differences = values[season:] - values[:-season]
    differences = differences[np.isfinite(differences)]
    with np.errstate(over="ignore", invalid="ignore"):
        # Values that are too large for their squares have no finite forecast.
        deviation = float(np.sqrt(np.mean(differences**2))) if len(differences) else np.nan
        return np.asarray(median[:, None] + deviation * np.sqrt(seasons)[:, None] * ndtri(levels))
