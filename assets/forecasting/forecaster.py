"""What a forecaster is: a name, the recipe that decides its forecasts, and a function from tasks to quantiles.

Every model stands behind this one face, so that what is made, skipped, written and checked is decided once. Not here:
any model (one module each), which origins there are (origins), how forecasts are kept (store).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from assets.market.history import History
from resources.checkpoints import Checkpoint
from resources.publish import digest_of
from resources.settings import MarketSettings

WEIGHTS_DIGITS, RECIPE_DIGITS = 16, 8


@dataclass(frozen=True)
class Task:
    """One symbol at one origin. Bars after `index` may stand in `history`; no forecaster may look at them."""

    symbol: str
    origin: np.datetime64
    history: History
    index: int


@dataclass(frozen=True)
class Prediction:
    """What a forecaster says of some tasks.

    Attributes:
        fields: which of a bar's fields are forecast.
        quantiles: (tasks, steps, fields, levels) float64, in prices and shares of the origin, rising over levels.
        corrected: (tasks,) share of what the model said that had to be put right.
        paths: (tasks, paths, steps, 6) float32, for a model that draws them.
    """

    fields: tuple[str, ...]
    quantiles: np.ndarray
    corrected: np.ndarray
    paths: np.ndarray | None = None


# Tasks and their target stamps, (tasks, steps) datetime64[s]. A task's answer depends on its own bars up to its
# origin alone: not on the other tasks, their order or their number.
Predict = Callable[[Sequence[Task], np.ndarray], Prediction]


@dataclass(frozen=True)
class Forecaster:
    """A model ready to be loaded, under the name that its forecasts carry.

    Attributes:
        checkpoint: stands in the column of that name; a key into `forecast_recipes`.
        weights: full digest of the weights; None: it has none.
        learnt_until: the last day whose bars reached the weights. None: it learnt from nothing.
        load: reads the weights, once.
        tasks_at_once: what fits in memory, and between two commits.
    """

    model: str
    checkpoint: str
    weights: str | None
    recipe: Mapping[str, Any]
    learnt_until: date | None
    load: Callable[[], Predict]
    tasks_at_once: int

    def in_sample(self, origin: np.datetime64) -> bool:
        """Whether the weights may have seen the origin's day."""
        return self.learnt_until is not None and origin.astype("datetime64[D]").item() <= self.learnt_until


def name_of(recipe: Mapping[str, Any], weights: Checkpoint | None = None) -> str:
    """The `checkpoint` of forecasts made by a recipe: change either, and new forecasts stand beside the old."""
    if weights is None:
        return digest_of(recipe)[:WEIGHTS_DIGITS]
    return f"{weights.digest[:WEIGHTS_DIGITS]}-{digest_of(recipe)[:RECIPE_DIGITS]}"


def bars_of(market: MarketSettings) -> dict[str, str]:
    """What a recipe says of the bars that are forecast: their frequency and calendar, where they are not the default.

    One home may hold several of either, and a checkpoint's forecasts are of one. That of New York's days has always
    been left unsaid: said now, it would name every forecast that there is anew.
    """
    fields = MarketSettings.model_fields
    told = {"frequency": market.frequency, "calendar": market.calendar}
    return {name: value for name, value in told.items() if value != fields[name].default}


def weights_of(checkpoint: str) -> str | None:
    """The weights' digest in a forecast's `checkpoint`, as `CheckpointStore.load` takes it. None: a baseline."""
    weights, dash, _ = checkpoint.partition("-")
    return weights if dash else None


def learnt_until(weights: Checkpoint) -> date:
    """The cutoff of weights. Weights that do not say may have seen anything."""
    return weights.cutoff or date.max
