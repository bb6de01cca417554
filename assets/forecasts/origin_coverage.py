"""Coverage of the central intervals of stored forecasts by model and origin.

In arrays, some origins at a time: joins of quantiles with closes take four times as long. Not here: coverage over all
origins, and its bounds (coverage).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pandas as pd

from assets.forecasting.filters import FORECAST_FILTER, ForecastFilter, UsedCheckpoints, checkpoints_frame
from assets.forecasting.placed_rows import placed, register_places
from assets.forecasts.coverage import Bound
from resources.candlecast import Candlecast
from resources.sql import load_sql

# 8 bytes each, several times.
QUANTILES_AT_ONCE = 4_000_000
_ORIGINS = f"""
SELECT model, origin, min(learnt_from) AS learnt_from
FROM forecasts SEMI JOIN placed_checkpoints USING (model, checkpoint) WHERE {FORECAST_FILTER} GROUP BY ALL ORDER BY ALL
"""
_CLOSES = """
SELECT y.place AS symbol, ts, b.close AS quoted, a.close AS adjusted
FROM bars b JOIN adjusted_bars a USING (symbol, ts, frequency) JOIN placed_symbols y USING (symbol)
WHERE b.frequency = $frequency AND ($first IS NULL OR ts >= $first)
"""
_SYMBOLS = """
SELECT DISTINCT symbol FROM forecasts SEMI JOIN placed_checkpoints USING (model, checkpoint)
WHERE $symbols IS NULL OR list_contains($symbols, symbol) ORDER BY symbol
"""


@dataclass(frozen=True)
class _Closes:
    """Closes of bars: (symbols, stamps) each, NaN where there is no bar. `stamps` are increasing."""

    stamps: np.ndarray
    quoted: np.ndarray
    adjusted: np.ndarray

    def at(self, origins: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Closes in prices as quoted at the origin: (checkpoints, origins, symbols, steps); NaN: no bar.

        Args:
            targets: (checkpoints, origins, steps) datetime64, NaT where there is no forecast.
        """
        origin, target = (np.searchsorted(self.stamps, one) for one in (origins, targets))
        origin, target = (np.minimum(one, len(self.stamps) - 1) for one in (origin, target))
        at_target = np.where((self.stamps[target] == targets)[..., None], self.adjusted.T[target], np.nan)
        at_origin = (self.stamps[origin] == origins)[:, None]
        quoted, adjusted = (np.where(at_origin, one.T[origin], np.nan) for one in (self.quoted, self.adjusted))
        return at_target.swapaxes(-1, -2) * quoted[..., None] / adjusted[..., None]


def coverage_by_origin(
    candlecast: Candlecast, used: UsedCheckpoints, bounds: Sequence[Bound], chosen_origins: np.ndarray | None = None
) -> pd.DataFrame:
    """The share of closes inside each interval, over symbols and steps: columns model, origin, ends, outcomes (of a
    step), learnt_from (earlier origins; NaN: the model does not learn), and one per nominal coverage.

    Args:
        chosen_origins: (n,) datetime64, those alone; None: all.
    """
    settings, warehouse = candlecast.settings, candlecast.warehouse
    chosen = ForecastFilter.of(settings, warehouse)
    pairs = checkpoints_frame(used)
    levels = [level for one in bounds for level in (one.interval.low, one.interval.high)]
    with warehouse.read() as connection:
        register_places(connection, "placed_checkpoints", pairs)
        register_places(connection, "placed_levels", pd.DataFrame({"level": levels}, dtype="float64"))
        learnt = connection.execute(_ORIGINS, chosen.parameters).df()
        if chosen_origins is not None:
            learnt = learnt[learnt["origin"].isin(chosen_origins)]
        symbols = connection.execute(_SYMBOLS, {"symbols": chosen.parameters["symbols"]}).df()
        register_places(connection, "placed_symbols", symbols)
        closes = _read_closes(connection, settings.market.frequency, len(symbols), learnt["origin"].min())
        axes = (pairs["model"].tolist(), np.unique(learnt["origin"].to_numpy()), len(symbols), len(levels))
        found = [
            part
            for origins, quantiles, targets in _quantiles(connection, *axes)
            for part in _shares(axes[0], origins, quantiles, targets, closes.at(origins, targets), bounds)
        ]
    if not found:
        return pd.DataFrame()
    joined = pd.concat(found, ignore_index=True).merge(learnt, on=["model", "origin"])
    return joined.sort_values(["model", "origin"], ignore_index=True)


def _read_closes(connection: duckdb.DuckDBPyConnection, frequency: str, symbols: int, first: pd.Timestamp) -> _Closes:
    """The closes from a timestamp on; NaT: all."""
    parameters = {"frequency": frequency, "first": None if pd.isna(first) else first.to_pydatetime()}
    found = connection.execute(_CLOSES, parameters).fetchnumpy()
    stamps, column = np.unique(np.asarray(found["ts"]), return_inverse=True)
    place = np.asarray(found["symbol"]) * len(stamps) + column
    shape = (symbols, len(stamps))
    return _Closes(stamps, *(placed(place, np.asarray(found[name]), shape) for name in ("quoted", "adjusted")))


def _quantiles(
    connection: duckdb.DuckDBPyConnection, models: Sequence[str], origins: np.ndarray, symbols: int, levels: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Some origins at a time, (n,), with the quantiles of the close, (checkpoints, n, symbols, steps, levels), and
    targets, (checkpoints, n, steps)."""
    steps = int(connection.execute("SELECT coalesce(max(step), 0) FROM forecast_quantiles").fetchall()[0][0])
    of_an_origin = len(models) * symbols * steps * levels
    if not of_an_origin:
        return
    at_once = max(1, QUANTILES_AT_ONCE // of_an_origin)
    for first in range(0, len(origins), at_once):
        own = origins[first : first + at_once].astype("datetime64[us]")
        register_places(connection, "placed_origins", pd.DataFrame({"origin": own}))
        sizes = {"origins": len(own), "symbols": symbols, "steps": steps, "levels": levels}
        span = {"oldest": own[0].item(), "newest": own[-1].item()}
        sql = load_sql("assets.forecasts", "placed_quantiles.sql")
        found = connection.execute(sql, {**sizes, **span}).fetchnumpy()
        place, shape = np.asarray(found["place"]), (len(models), len(own), symbols, steps, levels)
        step, row = place // levels % steps, place // (levels * steps * symbols)
        targets = placed(row * steps + step, np.asarray(found["target_ts"]), (*shape[:2], steps))
        yield own, placed(place, np.asarray(found["value"]), shape), targets


def _shares(
    models: Sequence[str],
    origins: np.ndarray,
    quantiles: np.ndarray,
    targets: np.ndarray,
    actuals: np.ndarray,
    bounds: Sequence[Bound],
) -> Iterator[pd.DataFrame]:
    """By model, the shares of its origins that have outcomes."""
    known = np.isfinite(quantiles) & np.isfinite(actuals)[..., None]
    at_most, below = (
        (known & compare(actuals[..., None], quantiles)).sum(axis=(2, 3)) for compare in (np.less_equal, np.less)
    )
    counts = known.sum(axis=(2, 3))
    ends = np.where(known.any(axis=(2, 4)), targets, np.datetime64("NaT"))
    for model in sorted(set(models)):
        own = [row for row, name in enumerate(models) if name == model]
        n, share, under = (one[own].sum(axis=0) for one in (counts, at_most, below))
        rows = n.any(axis=-1)
        with np.errstate(invalid="ignore"):
            share, under = share[rows] / n[rows], under[rows] / n[rows]
        found = pd.DataFrame(
            {
                "origin": origins[rows],
                "ends": np.fmax.reduce(np.fmax.reduce(ends[own], axis=0)[rows], axis=1),
                "outcomes": known[own].any(axis=(0, 3)).sum(axis=1).max(axis=-1)[rows],
            }
        )
        for place, one in enumerate(bounds):
            found[one.interval.nominal] = share[:, 2 * place + 1] - under[:, 2 * place]
        yield found.assign(model=model)
