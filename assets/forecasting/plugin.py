"""The public interface of a forecaster: `Forecaster`, what it reads (`ForecastInput`), and what it returns.

A forecaster is an object made by a factory, found by its entry point (group `candlecast.forecasters`) or by
`[models.NAME] factory = "package.module:function"`. Storage, checks, scores, scoreboard and backtest are the same for
all. Not here: how a forecaster is found and adapted (plugin_models), the forecasters in the box (models).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol, runtime_checkable

import numpy as np

from assets.market.history import CLOSE

ENTRY_POINTS = "candlecast.forecasters"
# The cutoff of a forecaster that learns from the series it is given alone: no origin is in-sample.
NO_TRAINING = date.min


@dataclass(frozen=True)
class ForecastInput:
    """One symbol's bars up to its origin, and the timestamps to forecast. It holds nothing after the origin.

    Attributes:
        stamps: (n,) datetime64[s], UTC, oldest first; the last one is the origin.
        bars: (n, 6) float64: open, high, low, close, volume, amount, adjusted as of the origin; NaN where unknown.
        targets: (horizon,) datetime64[s], UTC, the bars that are forecast.
        seed: a random seed of its own, the same for every run, batch and order.
    """

    symbol: str
    stamps: np.ndarray
    bars: np.ndarray
    targets: np.ndarray
    seed: int = 0

    @property
    def origin(self) -> np.datetime64:
        """The timestamp of the last bar."""
        return np.datetime64(self.stamps[-1])

    @property
    def closes(self) -> np.ndarray:
        """Adjusted closes, (n,) float64."""
        return np.asarray(self.bars[:, CLOSE])


@dataclass(frozen=True)
class Quantiles:
    """Quantile forecasts.

    Attributes:
        values: (inputs, horizon, fields, levels) float64, in prices of the origin, increasing with the level.
        fields: the fields of a bar that are forecast, "close" among them.
        fallbacks: by number of the input, why its forecast is that of a simpler model. They are counted and reported.
    """

    values: np.ndarray
    fields: tuple[str, ...] = ("close",)
    fallbacks: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Paths:
    """Sample paths of the close, or of whole bars.

    Attributes:
        values: (inputs, paths, horizon) closes, or (inputs, paths, horizon, 6) bars, in prices of the origin.
        quantiles: (inputs, horizon, levels) of closes, or (inputs, horizon, 6, levels) of bars, where the forecaster
            knows them better than its paths do; None: they are read off the paths.
    """

    values: np.ndarray
    quantiles: np.ndarray | None = None


@runtime_checkable
class Forecaster(Protocol):
    """What a forecaster has and does.

    It may also have `level_range`, the lowest and the highest quantile level that it gives; without: any. And
    `one_thread`, whether its forecasts may be split over processes of one thread each; without: they are not.

    Attributes:
        family: the kind of model, such as "volatility model" or "foundation model".
        licence: SPDX identifier of its code and weights, the stricter of the two.
        cutoff: the last day whose data influenced its weights; `NO_TRAINING`: it has none; None: not known.
        recipe: everything besides the options of the settings that determines a forecast: version, digest of weights.
        lookback: bars that it reads at most; None: all.
    """

    family: str
    licence: str
    cutoff: date | None
    recipe: dict[str, object]
    lookback: int | None

    def predict(self, inputs: Sequence[ForecastInput], levels: Sequence[float]) -> Quantiles | Paths | np.ndarray:
        """The forecasts of some inputs, in their order; an array (inputs, horizon, levels) is quantiles of the close.

        The forecast of an input depends on that input alone: not on the others, their order or their number.
        """
        ...
