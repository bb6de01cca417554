"""Forecasts of losses beside the losses that occurred, read as arrays. Not here: how they are compared (backtest)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from assets.forecasting.filters import FORECAST_FILTER, ForecastFilter
from assets.forecasting.placed_rows import placed, register_places
from resources.sql import load_sql
from resources.warehouse import Warehouse

# Of empty columns too.
_KINDS = {"step": "int64", "level": "float64", "model": "str", "symbol": "str", "origin": "datetime64[us]"}


@dataclass(frozen=True)
class LossOutcomes:
    """Out-of-sample value at risk and expected shortfall of one step and level, with the loss that occurred.

    Attributes:
        models, symbols: in increasing order.
        origins: (origins,) datetime64, increasing.
        targets: (models, symbols, origins) datetime64; NaT: no value at risk, or no outcome of it.
        var, es: as `targets`; NaN where there is none.
        loss: (symbols, origins) the negative log return that occurred; NaN: not known.
    """

    models: Sequence[str]
    symbols: Sequence[str]
    origins: np.ndarray
    targets: np.ndarray
    var: np.ndarray
    es: np.ndarray
    loss: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """(models, symbols, origins) bool."""
        known: np.ndarray = ~np.isnat(self.targets)
        return known


def read_loss_outcomes(
    warehouse: Warehouse, chosen: ForecastFilter, steps: Sequence[int], levels: Sequence[float]
) -> dict[tuple[int, float], LossOutcomes]:
    """The outcomes of the forecasts that pass a filter, by step and level."""
    with warehouse.read() as connection:
        axes = {"step": steps, "level": levels, **_axes(connection, chosen)}
        models, symbols, origins = axes["model"], axes["symbol"], np.array(axes["origin"], dtype="datetime64[us]")
        for name, values in axes.items():
            register_places(connection, f"placed_{name}s", pd.DataFrame({name: values}, dtype=_KINDS[name]))
        shape = tuple(len(values) for values in axes.values())
        sizes = {f"{name}s": len(values) for name, values in axes.items()}
        found = _arrays(connection, "loss_outcomes.sql", sizes, shape)
        losses = _arrays(connection, "losses.sql", sizes, (len(steps), len(symbols), len(origins)))["loss"]
    return {
        (step, level): LossOutcomes(
            models,
            symbols,
            origins,
            np.where(
                np.isnan(losses[at]) | np.isnan(found["var"][at, below]),
                np.datetime64("NaT"),
                found["target_ts"][at, below],
            ),
            found["var"][at, below],
            found["es"][at, below],
            losses[at],
        )
        for at, step in enumerate(steps)
        for below, level in enumerate(levels)
    }


def _axes(connection: duckdb.DuckDBPyConnection, chosen: ForecastFilter) -> dict[str, Sequence[Any]]:
    """The models, symbols and origins of the out-of-sample forecasts that pass a filter, in increasing order."""
    sql = load_sql("assets.evaluation.risk", "outcome_axes.sql").format(forecast_filter=FORECAST_FILTER)
    models, symbols, origins = connection.execute(sql, chosen.parameters).fetchall()[0]
    return {"model": models or [], "symbol": symbols or [], "origin": origins or []}


def _arrays(
    connection: duckdb.DuckDBPyConnection, script: str, sizes: Mapping[str, int], shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """The columns of a query at the places in its column `place`; NaN or NaT elsewhere."""
    sql = load_sql("assets.evaluation.risk", script)
    found = connection.execute(sql, {name: size for name, size in sizes.items() if f"${name}" in sql}).fetchnumpy()
    places = np.asarray(found.pop("place"))
    return {name: placed(places, np.ma.asarray(values), shape) for name, values in found.items()}
