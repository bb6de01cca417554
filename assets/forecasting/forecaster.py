"""The forecaster protocol: a name, a recipe that determines the forecasts, and a function from tasks to quantiles.

All models implement it, so that generation, storage, checks and scores are the same for all. Not here: the models (one
module each), the choice of origins (origins), the store (assets.forecasts.forecast_store).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, NamedTuple

import numpy as np

from assets.market.history import BarHistory
from resources.checkpoints import Checkpoint
from resources.companion import CompanionFunction
from resources.errors import WorkerEndedError
from resources.publish import digest_of
from resources.settings import MarketSettings

# Symbol and origin of a forecast.
ForecastKey = tuple[str, np.datetime64]
WEIGHTS_DIGITS, RECIPE_DIGITS = 16, 8
# Hyndman and Fan's type 8: median-unbiased for every distribution, so that a small sample does not give too narrow
# tails.
METHOD: Literal["median_unbiased"] = "median_unbiased"


@dataclass(frozen=True)
class ForecastTask:
    """One symbol at one origin, bar number `index` of its history.

    The history may hold bars after the origin; no forecaster may read them.
    """

    symbol: str
    origin: np.datetime64
    history: BarHistory
    index: int


@dataclass(frozen=True)
class Prediction:
    """The forecasts of some tasks.

    Attributes:
        fields: the fields of a bar that are forecast.
        quantiles: (tasks, steps, fields, levels) float64, in prices and shares of the origin, increasing with level.
        corrected: (tasks,) share of the raw model output that was corrected (projected or sorted).
        paths: (tasks, paths, steps, 6) float32, for models that sample paths.
        failures: why a task could not be forecast, by its number; its quantiles and paths are not read.
        fallbacks: why the forecast of a task is that of a simpler model, by its number.
        inherited: the numbers of failures that are recorded of the model that it is derived from.
        learnt_from: (tasks,) of a derived model, the number of earlier origins that it has learnt from.
    """

    fields: tuple[str, ...]
    quantiles: np.ndarray
    corrected: np.ndarray
    paths: np.ndarray | None = None
    failures: Mapping[int, str] = field(default_factory=dict)
    fallbacks: Mapping[int, str] = field(default_factory=dict)
    inherited: Set[int] = frozenset()
    learnt_from: np.ndarray | None = None


# (tasks, their target timestamps (tasks, steps) datetime64[s]) → prediction. The forecast of a task depends on its own
# bars up to its origin alone: not on other tasks, their order or their number.
Predict = Callable[[Sequence[ForecastTask], np.ndarray], Prediction]


# What is computed of prepared input, such as the forward passes of a network: input and output are picklable.
Network = Callable[[Any], Any]


class Prepared(NamedTuple):
    """The input of a network for some tasks, and the function from its output to the forecasts of the tasks."""

    item: Any
    finish: Callable[[Any], Prediction]


@dataclass(frozen=True)
class NetworkPredict:
    """A `Predict` whose network may be in another process: this one reads histories, and keeps the warehouse.

    Attributes:
        model: its name, for errors.
    """

    model: str
    prepare: Callable[[Sequence[ForecastTask], np.ndarray], Prepared]
    network: Network

    def __call__(self, tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        """The forecasts of some tasks.

        Raises:
            WorkerEndedError: the process of the network ended; the message names the tasks.
        """
        prepared = self.prepare(tasks, targets)
        try:
            output = self.network(prepared.item)
        except WorkerEndedError as error:
            raise WorkerEndedError(f"{self.model}, {tasks_text(tasks)}: {error}") from None
        return prepared.finish(output)

    def ask(self, tasks: Sequence[ForecastTask], targets: np.ndarray) -> None:
        """Have another process compute what the same call will need; nothing if the network is in this one."""
        if isinstance(self.network, CompanionFunction):
            self.network.ask(self.prepare(tasks, targets).item)


def tasks_text(tasks: Sequence[ForecastTask]) -> str:
    """The first of some tasks, and the number of the others."""
    more = f" and {len(tasks) - 1} more forecasts" if len(tasks) > 1 else ""
    return f"{tasks[0].symbol} from {tasks[0].origin}{more}"


@dataclass(frozen=True)
class ForecastModel:
    """A model under the name that its forecasts are stored with.

    Attributes:
        checkpoint: the `checkpoint` of its forecasts, a key of `forecast_recipes`.
        weights: the full digest of the weights; None: a model without weights.
        trained_until: the last day whose bars the weights were trained on. None: a model without training.
        load: reads the weights, once.
        batch_size: tasks per batch: what fits in memory, and is stored in one transaction.
        family: the kind of model, such as "foundation model".
        licence: SPDX identifier of code and weights, or "unknown".
        vintage: the date of the vintage; None: there are none.
        in_worker: picklable; reads the weights in another process, where the network then takes one thread. What `load`
            returns is a `NetworkPredict`. None: the model forecasts in this process alone.
        data: digests of what it read up to a timestamp beside a symbol's own bars: the market, known events.
        note: a warning about the settings that it forecasts with; empty: there is none.
        outdated: the stored forecasts of a derived model that are made again, because of forecasts made since.
    """

    model: str
    checkpoint: str
    weights: str | None
    recipe: Mapping[str, Any]
    trained_until: date | None
    load: Callable[[], Predict]
    batch_size: int
    family: str
    licence: str
    note: str = ""
    vintage: date | None = None
    in_worker: Callable[[], Network] | None = None
    data: Callable[[np.datetime64], Sequence[str]] = field(default=lambda last: ())
    outdated: Callable[[], Set[ForecastKey]] = field(default=frozenset)

    @property
    def name(self) -> str:
        """The model, and its vintage."""
        return f"{self.model} {self.vintage}" if self.vintage else self.model

    def in_sample(self, origin: np.datetime64) -> bool:
        """Whether the weights may have been trained on the origin's day."""
        return self.trained_until is not None and origin.astype("datetime64[D]").item() <= self.trained_until


def forecast_checkpoint(recipe: Mapping[str, Any], weights: Checkpoint | None = None) -> str:
    """The `checkpoint` of forecasts with this recipe and these weights: `<weights>-<recipe>`, or `<recipe>`.

    If either changes, new forecasts are stored beside the old ones.
    """
    return checkpoint_name(recipe, weights.digest if weights else None)


def checkpoint_name(recipe: Mapping[str, Any], weights: str | None) -> str:
    """`forecast_checkpoint` of weights with this digest."""
    if weights is None:
        return digest_of(recipe)[:WEIGHTS_DIGITS]
    return f"{weights[:WEIGHTS_DIGITS]}-{digest_of(recipe)[:RECIPE_DIGITS]}"


def forecast_seed(seed: int, symbol: str, origin: np.datetime64) -> int:
    """The random seed of one forecast, independent of batch, order and process."""
    named = f"{seed}|{symbol}|{np.datetime_as_string(origin, unit='s')}"
    return int.from_bytes(hashlib.blake2b(named.encode(), digest_size=7).digest(), "big")


def path_quantiles(paths: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """(tasks, paths, steps, fields) → (tasks, steps, fields, levels) float64, increasing with level."""
    drawn = np.quantile(paths.astype(np.float64), np.asarray(levels), axis=1, method=METHOD)
    # Where neighbouring paths are equal, interpolation may be off by one unit in the last place in either direction.
    return np.maximum.accumulate(np.moveaxis(drawn, 0, -1), axis=-1)


def at_levels(values: np.ndarray, own: Sequence[float], levels: Sequence[float]) -> np.ndarray:
    """Quantiles (…, own levels) → (…, levels), between two levels on a straight line."""
    rows = values.reshape(-1, len(own))
    return np.stack([np.interp(levels, own, row) for row in rows]).reshape(*values.shape[:-1], len(levels))


def market_recipe(market: MarketSettings) -> dict[str, str]:
    """The part of a recipe that names the bars: frequency and calendar, where they are not the defaults.

    One home may hold several of either, and forecasts of a checkpoint are of one. The defaults are left out because
    recipes never contained them: adding them would change the `checkpoint` of every stored forecast.
    """
    fields = MarketSettings.model_fields
    named = {"frequency": market.frequency, "calendar": market.calendar}
    return {name: value for name, value in named.items() if value != fields[name].default}


def trained_until(weights: Checkpoint) -> date:
    """The training cutoff of some weights. Weights without a known cutoff may have seen any bar."""
    return weights.cutoff or date.max
