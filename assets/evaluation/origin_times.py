"""Where the origins of a scoreboard lie in time, in sessions: their weights and the blocks of the bootstrap."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from assets.forecasting.bootstrap import block_count, origin_weights
from resources.calendar import TradingCalendar
from resources.settings import EvaluationSettings, Settings


@dataclass(frozen=True)
class OriginTimes:
    """Origins of one model, or of all.

    Attributes:
        sessions: (n,) sessions from the first origin, increasing; an origin within a session lies between two numbers.
        horizon: sessions from an origin to its last target.
        every: sessions between two planned origins.
    """

    sessions: np.ndarray
    horizon: float
    every: float

    @classmethod
    def of(cls, origins: np.ndarray, settings: Settings, calendar: TradingCalendar) -> OriginTimes:
        """The times of sorted origins."""
        horizon, every = float(settings.windows.predict_window), float(settings.forecasts.every)
        if not len(origins):
            return cls(np.empty(0), horizon, every)
        grid = calendar.grid(*(pd.Timestamp(origin).date() for origin in (origins[0], origins[-1])))
        session, place = np.unique(grid["session"].to_numpy(), return_inverse=True)
        bars = np.bincount(place)
        within = np.arange(len(place)) - np.searchsorted(place, place) + 1
        ends = place + within / bars[place]
        bar = np.searchsorted(grid["ts"].to_numpy(), origins, side="right") - 1
        return cls(ends[bar] - ends[bar[0]], horizon * len(session) / len(place), every)

    def at(self, rows: np.ndarray) -> OriginTimes:
        """Some of the origins."""
        return replace(self, sessions=self.sessions[rows])

    def weights(self) -> np.ndarray:
        """The sessions that each origin stands for: (n,)."""
        return origin_weights(self.sessions, max(self.horizon, self.every))

    def blocks(self, weights: np.ndarray, settings: EvaluationSettings) -> int:
        """The number of blocks in a resample; 0: too few origins.

        A block spans the horizon twice, and at least two origins: within one horizon it would see two thirds of the
        variance that the overlap of forecasts causes.
        """
        if not len(weights):
            return 0
        fixed = None if settings.block_origins is None else settings.block_origins * float(np.median(weights))
        shortest = 2 * max(self.horizon, float(weights.max())) if fixed is None else fixed
        return block_count(weights, shortest, fixed)
