"""Outdated derived forecasts: those made before forecasts that they would be derived from today.

They were made of fewer earlier origins than are stored now, because these were forecast later (a backfill, a home that
began with its newest session), or before the forecast that they are derived from was replaced or, in a combination,
made. They are made again, so that the order in which sessions are forecast does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from assets.forecasting.calibration.base_keys import Base, pair_table
from assets.forecasting.calibration.stored import StoredForecasts
from assets.forecasting.filters import FORECAST_FILTER, ORIGIN_FILTER, SYMBOL_FILTER
from assets.forecasting.forecaster import ForecastKey
from assets.forecasting.origins import forward_steps
from resources.sql import load_sql


@dataclass(frozen=True)
class DerivedFrom:
    """A derived model, with the models that its forecasts are derived from.

    Attributes:
        learns: whether the model learns from earlier origins.
    """

    model: str
    checkpoint: str
    bases: tuple[Base, ...]
    learns: bool


class OutdatedForecasts:
    """The outdated forecasts of the models of an asset, which one query finds."""

    def __init__(self, stored: StoredForecasts) -> None:
        self._stored = stored
        self._models = dict[DerivedFrom, None]()
        self._found = dict[DerivedFrom, frozenset[ForecastKey]]()

    def declare(self, model: DerivedFrom) -> None:
        """Name a model that is asked for."""
        self._models[model] = None

    def of(self, model: DerivedFrom) -> frozenset[ForecastKey]:
        """The (symbol, origin) of the stored forecasts of a model that are made again, as they are now.

        A forecast that was made before its first target began is evidence that cannot be made again: it stays, unless
        it was made of less than half of the earlier origins.
        """
        if model not in self._found:
            # Those whose bases are made in the same run are asked for later.
            others = [one for one in self._models if not any(map(self._stored.is_made_here, one.bases))]
            named = others if model in others else [model]
            self._found |= dict(zip(named, outdated_forecasts(self._stored, named), strict=True))
        # Asked for again, it may have been made again.
        return self._found.pop(model)


def outdated_forecasts(stored: StoredForecasts, models: Sequence[DerivedFrom]) -> list[frozenset[ForecastKey]]:
    """By model, the (symbol, origin) of its stored forecasts that are made again."""
    derived = [(one.model, one.checkpoint) for one in models]
    learns = pa.array([one.learns for one in models])
    read = [(place, base.model, one, one == base.checkpoints[-1])
            for place, model in enumerate(models) for base in model.bases for one in base.checkpoints]  # fmt: skip
    numbers, names, checkpoints, newest = map(pa.array, zip(*read, strict=True))
    filters = {"forecast_filter": FORECAST_FILTER, "origin_filter": ORIGIN_FILTER, "symbol_filter": SYMBOL_FILTER}
    suspected, outdated = (load_sql(__package__, name).format(**filters) for name in ("suspected.sql", "outdated.sql"))
    with stored.warehouse.read() as connection:
        connection.register("derived", pair_table(derived).append_column("learns", learns))
        columns = {"number": numbers, "model": names, "checkpoint": checkpoints, "newest": newest}
        connection.register("bases", pa.table(columns))
        if not connection.execute(suspected, stored.filter.parameters).fetchall():
            return [frozenset()] * len(models)
        found = connection.execute(outdated, stored.filter.parameters).fetchnumpy()
    number, origins = np.asarray(found["number"]), np.asarray(found["origin"]).astype("datetime64[s]")
    forward = forward_steps(origins, np.asarray(found["made_at"]).astype("datetime64[s]"), 1, stored.calendar)[:, 0]
    again = ~forward | (2 * np.asarray(found["learnt_from"]) < np.asarray(found["known"]))
    symbols = np.asarray(found["symbol"])
    rows = [again & (number == place) for place in range(len(models))]
    return [frozenset(zip(map(str, symbols[own]), origins[own], strict=True)) for own in rows]
