"""A forecaster of pretrained weights that give quantiles of whole batches: its input, batches, levels and horizon.

The input is the log close relative to the newest one, so that no result depends on the currency or a split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np

from assets.forecasting.chronos2.outputs import extend_quantiles
from assets.forecasting.forecaster import at_levels
from assets.forecasting.intervals import MEDIAN
from assets.forecasting.models.series import log_closes
from assets.forecasting.plugin import ForecastInput, Quantiles
from resources.quantile_levels import LevelRule, require_levels

VERSION = 1
LEAST_CLOSES = 16
# Every batch has this many series of this length, padded: the rounding of a matrix product depends on its shape, and a
# forecast must not depend on the number of series beside it.
SERIES_AT_ONCE = 8
DECILES = tuple(round(0.1 * number, 1) for number in range(1, 10))

# (SERIES_AT_ONCE, context) float32, NaN where unknown, and a number of steps → (SERIES_AT_ONCE, steps, levels).
Network = Callable[[np.ndarray, int], np.ndarray]


@dataclass
class PretrainedQuantiles:
    """A forecaster of pretrained weights with a fixed set of quantile levels.

    Levels between two of them are interpolated linearly. Steps beyond `steps` continue as independent increments, see
    `extend_quantiles`.

    Attributes:
        context: bars that it reads; shorter series are padded.
        own_levels: the levels that the weights give, increasing.
        steps: the steps that they give in one pass.
        load: reads the weights.
    """

    name: str
    family: str
    licence: str
    cutoff: date | None
    recipe: dict[str, object]
    context: int
    own_levels: tuple[float, ...]
    steps: int
    load: Callable[[], Network]

    def __post_init__(self) -> None:
        self.lookback: int | None = self.context
        self.recipe = {"version": VERSION, "context": self.context, "series_at_once": SERIES_AT_ONCE, **self.recipe}

    @property
    def level_range(self) -> tuple[float, float]:
        return self.own_levels[0], self.own_levels[-1]

    @cached_property
    def network(self) -> Network:
        return self.load()

    def predict(self, inputs: Sequence[ForecastInput], levels: Sequence[float]) -> Quantiles:
        """Quantiles of the close, (inputs, horizon, 1, levels).

        Raises:
            CandlecastError: the closes of an input cannot be used, or the weights do not give a level.
        """
        require_levels(levels, "levels", LevelRule(*self.level_range, giver=self.name))
        closes = [log_closes(one, LEAST_CLOSES, self.context, gaps=True) for one in inputs]
        horizon = len(inputs[0].targets)
        raw = np.concatenate(
            [
                self._batch(closes[start : start + SERIES_AT_ONCE], min(horizon, self.steps))
                for start in range(0, len(closes), SERIES_AT_ONCE)
            ]
        )
        median = self.own_levels.index(MEDIAN)
        extended = extend_quantiles(np.sort(raw, axis=-1), np.zeros(len(raw)), horizon, median)
        newest = np.array([series[-1] for series in closes])
        return Quantiles(np.exp(at_levels(extended, self.own_levels, levels) + newest[:, None, None])[:, :, None])

    def _batch(self, closes: Sequence[np.ndarray], steps: int) -> np.ndarray:
        padded = np.full((SERIES_AT_ONCE, self.context), np.nan, dtype=np.float32)
        for row in range(SERIES_AT_ONCE):
            series = closes[min(row, len(closes) - 1)]
            padded[row, -len(series) :] = series - series[-1]
        return np.asarray(self.network(padded, steps), dtype=np.float64)[: len(closes)]
