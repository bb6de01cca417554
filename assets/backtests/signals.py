"""Signals: the expected return of a symbol, computed from the forecast quantiles by one rule for all models.

The expected close is the area under the quantile function: linear between the levels, flat beyond the outermost ones.
Flat tails bias the mean of a right-skewed distribution slightly downwards, for every model alike. The signal is that
expected close over the close at the origin, minus 1; both are prices as quoted at the origin. Not here: the use of
signals (plan).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from datetime import date

import duckdb
import numpy as np
import pandas as pd

from assets.forecasting.baselines.closed_form import ESTIMATED
from assets.forecasting.filters import UsedCheckpoints, checkpoint_pairs, checkpoints_frame
from assets.forecasting.placed_rows import placed, register_places
from assets.market.universe import Universe
from resources.derived_models import COMBINATIONS, is_recalibrated
from resources.sql import load_sql
from resources.warehouse import Warehouse

NO_DIRECTION_BY_CONSTRUCTION = ("random_walk", "random_walk_ewma", *ESTIMATED)
NO_DIRECTION = (
    "the median forecast is the last close of every symbol, so the model forecasts no direction; its signals would "
    "rank symbols by volatility"
)
TOLERANCE = 1e-6
RECALIBRATED = "recalibrated forecasts have the medians of their model, whose signals rank the symbols"
COMBINED = "the direction of a combination is that of its members, whose signals rank the symbols"
CONSTANT_SIGNAL = "the signal is the same for all symbols of each origin, so it ranks nothing"
NOT_A_MEMBER = "the symbol is not a member of the universe at the origin"
TOO_EARLY = "the origin is before windows.test"
NOT_IN_USE = "the model is not in use"
_KEYS = ("model", "checkpoint", "symbol", "origin")
COLUMNS = (*_KEYS, "value")

# 8 bytes each, several times.
QUANTILES_AT_ONCE = 4_000_000

_LEVELS = "SELECT DISTINCT level FROM forecast_quantiles WHERE field = 'close' AND step = ? ORDER BY level"
_STORED = "SELECT model, checkpoint, symbol, origin, value FROM signals ORDER BY model, symbol, origin"
_OMISSIONS = "SELECT model, forecasts, reason FROM signal_omissions ORDER BY position"


@dataclass(frozen=True)
class OmittedForecasts:
    """Forecasts of a model from which no signals are made, and the reason."""

    model: str
    forecasts: int
    reason: str


@dataclass(frozen=True)
class SignalSet:
    """Expected simple returns over the horizon, and the forecasts left out.

    Attributes:
        frame: columns model, checkpoint, symbol, origin, value; by model, symbol, origin; of the checkpoints in use.
        step: the horizon in bars.
    """

    frame: pd.DataFrame
    step: int
    omissions: tuple[OmittedForecasts, ...]


def make_signals(
    warehouse: Warehouse,
    frequency: str,
    step: int,
    used: UsedCheckpoints,
    universe: Universe,
    since: date = date.min,
) -> SignalSet:
    """The signals of every model that has out-of-sample forecasts `step` bars ahead.

    Args:
        used: the checkpoints in use of each model.
        universe: a symbol has a signal at an origin only while it is a member.
        since: the first day of origins, as on the scoreboard.
    """
    with warehouse.read() as connection:
        counts = connection.execute(load_sql("assets.backtests", "forecast_counts.sql"), {"since": since}).df()
        forecast = set(counts.loc[counts["out_of_sample"] > 0, "model"].astype(str))
        without = {model: reason for model in sorted(forecast) if (reason := _never_ranks(model))}
        # Those of earlier checkpoints have no part in whether a model forecasts a direction.
        connection.register("checkpoints_in_use", checkpoints_frame(used))
        parameters = {"frequency": frequency, "since": since, "without_signals": list(without)}
        forecasts = connection.execute(load_sql("assets.backtests", "signal_forecasts.sql"), parameters).df()
        closes = _predicted_closes(connection, forecasts, step)
    forecasts = _rows(forecasts.assign(**closes), np.isfinite(closes["expected"]))
    member = _members(forecasts, universe)
    frame, non_members = _rows(forecasts, member), _rows(forecasts, ~member)
    frame = frame.assign(value=frame["expected"] / frame["close"] - 1)[list(COLUMNS)]
    undirected = _without_direction(forecasts)
    flat = dict.fromkeys(_flat_models(frame), CONSTANT_SIGNAL) | dict.fromkeys(undirected, NO_DIRECTION) | without
    kept = frame[~frame["model"].isin(list(flat))].sort_values(["model", "symbol", "origin"], ignore_index=True)
    return SignalSet(kept, step, (*_omissions(counts, used, flat), *_non_members(non_members, flat)))


def expected_closes(forecasts: np.ndarray, levels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The expected close of each forecast.

    Args:
        forecasts: (n,) the forecast of each quantile, in non-decreasing order.
        levels, values: (n,) of the quantiles, by forecast in increasing order of the level.
    """
    starts = np.flatnonzero(np.r_[True, forecasts[1:] != forecasts[:-1]])
    ends = np.r_[starts[1:], len(forecasts)] - 1
    within = np.where(forecasts[1:] == forecasts[:-1], np.diff(levels) * (values[1:] + values[:-1]) / 2, 0.0)
    body = np.add.reduceat(np.r_[within, 0.0], starts)
    expected: np.ndarray = body + levels[starts] * values[starts] + (1 - levels[ends]) * values[ends]
    return expected


def _predicted_closes(
    connection: duckdb.DuckDBPyConnection, forecasts: pd.DataFrame, step: int
) -> dict[str, np.ndarray]:
    """The expected close and the median of each forecast, NaN where it has none: some origins at a time.

    Args:
        forecasts: columns model, checkpoint, symbol, origin.
    """
    levels = np.asarray(connection.execute(_LEVELS, [step]).fetchnumpy()["level"])
    register_places(connection, "placed_levels", pd.DataFrame({"level": levels}))
    is_median = np.abs(levels - 0.5) < TOLERANCE
    found = {name: np.full(len(forecasts), np.nan) for name in ("expected", "median")}
    stamps = forecasts["origin"].to_numpy()
    origins, counts = np.unique(stamps, return_counts=True)
    chunk = np.cumsum(counts) * len(levels) // QUANTILES_AT_ONCE
    for number in np.unique(chunk) if len(levels) else ():
        span = origins[chunk == number][[0, -1]]
        rows = np.flatnonzero((stamps >= span[0]) & (stamps <= span[1]))
        register_places(
            connection, "placed_forecasts", forecasts.loc[rows, ["model", "checkpoint", "symbol", "origin"]]
        )
        oldest, newest = span.astype("datetime64[us]").tolist()
        parameters = {"levels": len(levels), "step": step, "oldest": oldest, "newest": newest}
        read = connection.execute(load_sql("assets.backtests", "signal_quantiles.sql"), parameters).fetchnumpy()
        quantiles = placed(np.asarray(read["place"]), np.asarray(read["value"]), (len(rows), len(levels)))
        row, level = np.nonzero(np.isfinite(quantiles))
        if len(row):
            found["expected"][rows[np.unique(row)]] = expected_closes(
                row, np.asarray(levels)[level], quantiles[row, level]
            )
        if is_median.any():
            found["median"][rows] = quantiles[:, is_median][:, 0]
    return found


def store_signals(warehouse: Warehouse, signal_set: SignalSet) -> bool:
    """Replace the stored signals and omissions, in one transaction. False: they were equal, nothing was written."""
    if signal_set.frame.equals(read_signals(warehouse)) and signal_set.omissions == read_omissions(warehouse):
        return False
    omissions = [(place, *astuple(one)) for place, one in enumerate(signal_set.omissions)]
    with warehouse.write() as connection:
        connection.execute("DELETE FROM signals")
        connection.register("new_rows", signal_set.frame)
        connection.execute("INSERT INTO signals BY NAME SELECT * FROM new_rows")
        connection.execute("DELETE FROM signal_omissions")
        if omissions:
            connection.executemany("INSERT INTO signal_omissions VALUES (?, ?, ?, ?)", omissions)
    return True


def read_signals(warehouse: Warehouse) -> pd.DataFrame:
    """The stored signals, by model, symbol, origin."""
    return warehouse.frame(_STORED)


def read_omissions(warehouse: Warehouse) -> tuple[OmittedForecasts, ...]:
    """The forecasts that the stored signals leave out. Empty: none, or an earlier version stored the signals."""
    with warehouse.read() as connection:
        return tuple(OmittedForecasts(*row) for row in connection.execute(_OMISSIONS).fetchall())


def _never_ranks(model: str) -> str | None:
    """Why a model has no signals whatever it forecasts; None: it may have some."""
    if model in COMBINATIONS:
        return COMBINED
    if is_recalibrated(model):
        return RECALIBRATED
    return NO_DIRECTION if model in NO_DIRECTION_BY_CONSTRUCTION else None


def _in_use(frame: pd.DataFrame, used: UsedCheckpoints) -> np.ndarray:
    """Whether the checkpoint of each row is in use: (n,) bool."""
    pairs, kept = set(checkpoint_pairs(used)), np.zeros(len(frame), dtype=bool)
    for pair, rows in frame.groupby(["model", "checkpoint"]).indices.items():
        kept[rows] = pair in pairs
    return kept


def _members(forecasts: pd.DataFrame, universe: Universe) -> np.ndarray:
    """Whether the symbol of each row was a member on the session of its origin."""
    session = forecasts["session"].to_numpy()
    found = np.zeros(len(forecasts), dtype=bool)
    for symbol, rows in forecasts.groupby("symbol").indices.items():
        found[rows] = universe.is_member(str(symbol), session[rows])
    return found


def _rows(forecasts: pd.DataFrame, wanted: np.ndarray) -> pd.DataFrame:
    return forecasts if wanted.all() else forecasts[wanted].reset_index(drop=True)


def _flat_models(frame: pd.DataFrame) -> set[str]:
    """Models with the same signal for all symbols of every origin that has several symbols."""
    spread = frame.groupby(["model", "origin"])["value"].agg(["size", "min", "max"])
    several = spread[spread["size"] > 1]
    widest = (several["max"] - several["min"]).groupby("model").max()
    return {str(model) for model in widest.index[widest <= 0]}


def _without_direction(forecasts: pd.DataFrame) -> set[str]:
    """Models whose median forecast is the close at the origin; the median over all forecasts tolerates revised bars.

    The mean of such a right-skewed distribution still grows with its volatility.
    """
    medians = forecasts[np.isfinite(forecasts["median"])]
    moved = (medians["median"] / medians["close"] - 1).abs().groupby(medians["model"]).median()
    return {str(model) for model in moved.index[moved <= TOLERANCE]}


def _omissions(counts: pd.DataFrame, used: UsedCheckpoints, flat: Mapping[str, str]) -> list[OmittedForecasts]:
    now, pairs = _in_use(counts, used), checkpoint_pairs(used)
    found = [
        OmittedForecasts(model, int(counts.loc[now & (counts["model"] == model), "out_of_sample"].sum()), flat[model])
        for model in sorted(flat)
    ]
    columns = (counts[name].tolist() for name in ("model", "checkpoint", "in_sample", "out_of_sample", "early"))
    for model, checkpoint, seen, unseen, early in zip(*columns, strict=True):
        in_use = (model, checkpoint) in pairs
        if model in flat and in_use:
            continue
        if seen:
            reason = f"in-sample: the origin is not after the cutoff of checkpoint {checkpoint[:12]}"
            found.append(OmittedForecasts(model, seen, reason))
        if early and in_use:
            found.append(OmittedForecasts(model, early, TOO_EARLY))
        if unseen and not in_use:
            others = [other for name, other in pairs if name == model]
            reason = f"made by checkpoint {checkpoint[:12]}; {others[-1][:12]} is in use" if others else NOT_IN_USE
            found.append(OmittedForecasts(model, unseen, reason))
    return found


def _non_members(forecasts: pd.DataFrame, flat: Mapping[str, str]) -> list[OmittedForecasts]:
    """Counts of forecasts for symbols that were not members of the universe."""
    wanted = ~forecasts["model"].isin(list(flat))
    counts = forecasts.loc[wanted, ["model", "symbol", "origin"]].drop_duplicates().groupby("model").size()
    return [OmittedForecasts(str(model), int(count), NOT_A_MEMBER) for model, count in counts.items()]
