"""Which earlier forecasts some models have: by origin and symbol, and the checkpoint that made each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from assets.forecasting.filters import FORECAST_FILTER, ForecastFilter
from resources.sql import load_sql
from resources.warehouse import Warehouse


@dataclass(frozen=True)
class Base:
    """A model whose stored forecasts are read.

    Attributes:
        checkpoints: those of its vintages, the oldest first; the last one is that of the forecasts that are derived
            from.
    """

    model: str
    checkpoints: tuple[str, ...]


@dataclass(frozen=True)
class BaseKeys:
    """The earlier forecasts of a model, by origin and symbol.

    Attributes:
        origins: (n,) datetime64[s].
        symbols: (n,) places among the symbols with forecasts.
        checkpoints: (n,) text.
    """

    origins: np.ndarray
    symbols: np.ndarray
    checkpoints: np.ndarray


def read_base_keys(
    warehouse: Warehouse, bases: Sequence[Base], symbols: np.ndarray, chosen: ForecastFilter
) -> Iterator[tuple[Base, BaseKeys]]:
    """The earlier forecasts of each of some models: one per origin and symbol, by the last checkpoint that made one.

    Args:
        symbols: with forecasts, sorted: (symbols,) text.
        chosen: which forecasts are earlier ones.
    """
    pairs = list(dict.fromkeys((base.model, one) for base in bases for one in base.checkpoints))
    sql = load_sql(__package__, "earlier_forecasts.sql").format(forecast_filter=FORECAST_FILTER)
    named = pa.table({"place": np.arange(len(symbols)), "symbol": pa.array(symbols, pa.string())})
    with warehouse.read() as connection:
        connection.register("pairs", pair_table(pairs))
        connection.register("named", named)
        found = connection.execute(sql, chosen.parameters).fetchnumpy()
    numbers, places = (np.asarray(found[name], dtype=np.int64) for name in ("number", "place"))
    origins = np.asarray(found["origin"]).astype("datetime64[s]")
    order = np.argsort(numbers, kind="stable")
    places, origins, starts = places[order], origins[order], np.searchsorted(numbers[order], np.arange(len(pairs) + 1))
    rows = {pair: slice(starts[number], starts[number + 1]) for number, pair in enumerate(pairs)}
    for base in bases:
        own = [rows[base.model, one] for one in base.checkpoints]
        yield base, _newest(base, [origins[part] for part in own], [places[part] for part in own])


def _newest(base: Base, origins: Sequence[np.ndarray], symbols: Sequence[np.ndarray]) -> BaseKeys:
    """Of each origin and symbol the forecast by the last checkpoint.

    Args:
        origins, symbols: of each checkpoint.
    """
    versions = np.repeat(np.arange(len(origins)), [len(part) for part in origins])
    stamps, places = np.concatenate(origins), np.concatenate(symbols)
    order = np.lexsort((versions, places, stamps))
    stamps, places, versions = stamps[order], places[order], versions[order]
    last = np.ones(len(stamps), dtype=bool)
    last[:-1] = (stamps[1:] != stamps[:-1]) | (places[1:] != places[:-1])
    return BaseKeys(stamps[last], places[last], np.array(base.checkpoints, dtype=object)[versions[last]])


def pair_table(pairs: Sequence[tuple[str, str]]) -> pa.Table:
    """A table of (model, checkpoint) by number."""
    models, checkpoints = zip(*pairs, strict=True)
    return pa.table({"number": np.arange(len(pairs)), "model": pa.array(models, pa.string()),
                     "checkpoint": pa.array(checkpoints, pa.string())})  # fmt: skip
