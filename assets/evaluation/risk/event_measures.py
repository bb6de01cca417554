"""Probabilities of drawdowns and touched prices from stored sample paths, as rows of `forecast_risk`.

Of every model with stored paths, and of the models derived from it, whose law of the close the paths are mapped to.
Stored paths and quantiles never change, so that only forecasts without probabilities are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from assets.evaluation.risk.path_events import Event, mapped, occurs
from assets.evaluation.risk.store import COLUMNS, add_events, events_frame
from assets.forecasting.filters import ForecastFilter, UsedCheckpoints, checkpoint_pairs
from assets.forecasting.metrics import as_levels
from assets.forecasting.path_files import paths_file
from resources.candlecast import Candlecast
from resources.derived_models import is_derived_from
from resources.integrity import is_intact
from resources.progress import Progress, silent
from resources.sql import load_sql

ORIGINS_AT_ONCE = 20
METHOD = "paths"
_FIELDS = ("close", "high", "low")


def path_models(candlecast: Candlecast, used: UsedCheckpoints) -> list[tuple[str, str]]:
    """(model, checkpoint) of those in use that keep sample paths."""
    folder = candlecast.home.paths
    return [pair for pair in checkpoint_pairs(used) if (folder / pair[0] / pair[1]).is_dir()]


def write_events(
    candlecast: Candlecast,
    used: UsedCheckpoints,
    events: Sequence[Event],
    chosen: ForecastFilter,
    progress: Progress = silent,
) -> set[np.datetime64]:
    """Add the probabilities that are missing, and return the origins whose paths are gone or damaged."""
    without: set[np.datetime64] = set()
    sources = path_models(candlecast, used)
    for done, source in enumerate(sources):
        laws = path_laws(source, used)
        missing = _missing_origins(candlecast, laws, events, chosen)
        # A file is read once for all laws that its paths are mapped to.
        for origins in _chunks(np.unique(np.concatenate(list(missing.values())))):
            paths = {origin: _read_paths(paths_file(candlecast.home, *source, origin)) for origin in origins}
            without |= {origin for origin, own in paths.items() if own is None}
            for law in laws:
                known = {origin: own for origin in np.intersect1d(origins, missing[law]) if (own := paths[origin])}
                if known and len(rows := _chunk_rows(candlecast, law, events, known, chosen)):
                    add_events(candlecast.warehouse, rows)
        progress(done + 1, len(sources), source[0])
    return without


def path_laws(source: tuple[str, str], used: UsedCheckpoints) -> list[tuple[str, str]]:
    """(model, checkpoint) of the paths' own law, and of those that are derived from their model."""
    derived = {name: used[name] for name in used if is_derived_from(name, source[0])}
    return [source, *checkpoint_pairs(derived)]


def event_probabilities(
    paths: np.ndarray, stored: np.ndarray, levels: np.ndarray, last_close: float, events: Sequence[Event]
) -> list[float]:
    """The probability of each event.

    Args:
        paths: (paths, steps, 3) sampled closes, highs and lows, in prices.
        stored: (steps, levels) quantiles of the close that the paths are mapped to, in prices.
        levels: (levels,) of `stored`.
    """
    returns = np.log(paths / last_close)
    found = np.exp(mapped(returns[..., 1:], returns[..., 0], np.log(stored / last_close), levels))
    return [float(occurs(event, found[..., 0], found[..., 1]).mean()) for event in events]


def _missing_origins(
    candlecast: Candlecast, laws: Sequence[tuple[str, str]], events: Sequence[Event], chosen: ForecastFilter
) -> dict[tuple[str, str], np.ndarray]:
    """By law, the origins of its forecasts without probabilities, (n,) datetime64[s]."""
    parameters = {
        "step": candlecast.settings.windows.predict_window,
        "first": chosen.first,
        "symbols": chosen.parameters["symbols"],
    }
    with candlecast.warehouse.read() as connection:
        connection.register("wanted_events", events_frame(events))
        connection.register("laws", pd.DataFrame(laws, columns=["model", "checkpoint"], dtype=str))
        found = connection.execute(load_sql("assets.evaluation.risk", "missing_events.sql"), parameters).df()
    origins = found["origin"].to_numpy().astype("datetime64[s]")
    return {
        (model, checkpoint): origins[((found["model"] == model) & (found["checkpoint"] == checkpoint)).to_numpy()]
        for model, checkpoint in laws
    }


def _chunk_rows(
    candlecast: Candlecast,
    law: tuple[str, str],
    events: Sequence[Event],
    paths: Mapping[np.datetime64, Mapping[str, np.ndarray]],
    chosen: ForecastFilter,
) -> pd.DataFrame:
    """The rows of one law, from the paths of some origins."""
    settings, levels = candlecast.settings, as_levels(candlecast.settings.forecasts.levels)
    horizon = settings.windows.predict_window
    parameters = {
        "model": law[0],
        "checkpoint": law[1],
        "frequency": settings.market.frequency,
        "origins": [origin.item() for origin in paths],
        "levels": levels.tolist(),
        "symbols": chosen.parameters["symbols"],
    }
    forecasts = candlecast.warehouse.frame(load_sql("assets.evaluation.risk", "close_quantiles.sql"), parameters)
    rows: list[tuple[object, ...]] = []
    for symbol, origin, target, last_close, quantiles in zip(
        *(forecasts[name].tolist() for name in ("symbol", "origin", "target_ts", "last_close", "quantiles")),
        strict=True,
    ):
        own = paths[np.datetime64(origin, "s")].get(symbol)
        if own is None or len(quantiles) != horizon * len(levels) or own.shape[1] != horizon:
            continue
        found = event_probabilities(own, np.asarray(quantiles).reshape(horizon, -1), levels, last_close, events)
        key = (*law, symbol, origin, horizon, target)
        rows += [(*key, *event, value, METHOD, len(own)) for event, value in zip(events, found, strict=True)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _read_paths(file: Path) -> dict[str, np.ndarray] | None:
    """The closes, highs and lows of each symbol's paths, (paths, steps, 3); None: the file is gone or damaged."""
    if not is_intact(file):
        return None
    table = pq.read_table(file, columns=["symbol", "step", *_FIELDS])
    symbols, steps = table.column("symbol").combine_chunks().dictionary_encode(), table.column("step").to_numpy().max()
    # Of one symbol the rows are ordered by path and step.
    order = np.argsort(symbols.indices.to_numpy(), kind="stable")
    values = np.stack([table.column(name).to_numpy()[order] for name in _FIELDS], axis=-1).astype(np.float64)
    ends = np.cumsum(np.bincount(symbols.indices.to_numpy()))[:-1]
    parts = (part.reshape(-1, steps, len(_FIELDS)) for part in np.split(values, ends))
    return dict(zip(symbols.dictionary.to_pylist(), parts, strict=True))


def _chunks(origins: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(origins), ORIGINS_AT_ONCE):
        yield origins[first : first + ORIGINS_AT_ONCE]
