"""Signals: what a model expects a symbol to return, from its quantiles alone, by one rule for every model.

The expected close is the area under the quantile function: linear between the levels, flat beyond the outermost ones.
Flat tails lean a little to the low side for a right-skewed law, for every model alike. The signal is that close over
the origin's close, less one: both are in prices as quoted at the origin. Not here: what is done with a signal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from assets.market.universe import Universe
from resources.warehouse import Warehouse

BY_CONSTRUCTION = ("random_walk", "random_walk_ewma")
NO_VIEW = (
    "its median is the last close of every symbol, so it has no view on direction: what would be ranked is how wide "
    "its forecasts are"
)
SAME = 1e-6
NOTHING_TO_RANK = "gives every symbol of an origin the same signal, so it has nothing to rank by"
NOT_A_MEMBER = "not a member of the universe on the origin's day"
TOO_EARLY = "the origin is before windows.test"
COLUMNS = ("model", "checkpoint", "symbol", "origin", "value")

_QUANTILES = """
SELECT q.model, q.checkpoint, q.symbol, q.origin, q.level, q.value, b.close, b.session
FROM forecast_quantiles q
JOIN bars b ON b.symbol = q.symbol AND b.ts = q.origin AND b.frequency = $frequency
WHERE q.field = 'close' AND q.step = $step AND NOT q.in_sample AND q.origin >= $since
ORDER BY q.model, q.checkpoint, q.symbol, q.origin, q.level
"""
_COUNTS = """
SELECT model, checkpoint,
       count(*) FILTER (WHERE in_sample)                          AS in_sample,
       count(*) FILTER (WHERE NOT in_sample AND origin >= $since) AS out_of_sample,
       count(*) FILTER (WHERE NOT in_sample AND origin < $since)  AS early
FROM forecasts
GROUP BY model, checkpoint
ORDER BY model, checkpoint
"""
_STORED = "SELECT model, checkpoint, symbol, origin, value FROM signals ORDER BY model, symbol, origin"


@dataclass(frozen=True)
class OmittedForecasts:
    """A model without signals, or a part of its forecasts that made none, and why."""

    model: str
    forecasts: int
    reason: str


@dataclass(frozen=True)
class Signals:
    """Expected simple returns over the horizon, and what was left out.

    Attributes:
        frame: columns model, checkpoint, symbol, origin, value; by model, symbol, origin; one checkpoint a model.
        step: the horizon in bars.
    """

    frame: pd.DataFrame
    step: int
    omissions: tuple[OmittedForecasts, ...]


def make_signals(
    warehouse: Warehouse,
    frequency: str,
    step: int,
    used: Mapping[str, str],
    universe: Universe,
    since: date = date.min,
) -> Signals:
    """The signals of every model that has out-of-sample forecasts `step` bars ahead.

    Args:
        used: the checkpoint of each model whose forecasts count.
        universe: whose members on an origin's day have a signal there.
        since: the first day of which an origin counts, as on the scoreboard.
    """
    with warehouse.read() as connection:
        quantiles = connection.execute(_QUANTILES, {"frequency": frequency, "step": step, "since": since}).df()
        counts = connection.execute(_COUNTS, {"since": since}).df()
    # Before anything is asked of a model: what an earlier checkpoint said is neither its view nor its lack of one.
    quantiles = _rows(quantiles, quantiles["checkpoint"].eq(quantiles["model"].map(used)).to_numpy())
    member = _members(quantiles, universe)
    frame, others = expected_returns(_rows(quantiles, member)), _rows(quantiles, ~member)
    forecast = set(counts.loc[counts["out_of_sample"] > 0, "model"].astype(str))
    viewless = _without_view(quantiles) | forecast.intersection(BY_CONSTRUCTION)
    flat = dict.fromkeys(_flat_models(frame), NOTHING_TO_RANK) | dict.fromkeys(viewless, NO_VIEW)
    kept = frame[~frame["model"].isin(list(flat))].sort_values(["model", "symbol", "origin"], ignore_index=True)
    return Signals(kept, step, (*_omissions(counts, used, flat), *_strangers(others, flat)))


def expected_returns(quantiles: pd.DataFrame) -> pd.DataFrame:
    """The expected simple return of every (model, checkpoint, symbol, origin).

    Args:
        quantiles: columns model, checkpoint, symbol, origin, level, value, close; sorted by all but the last two.
    """
    keys = ["model", "checkpoint", "symbol", "origin"]
    if quantiles.empty:
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in zip(COLUMNS, _KINDS, strict=True)})
    level, value = quantiles["level"].to_numpy(), quantiles["value"].to_numpy()
    group = quantiles.groupby(keys, sort=False).ngroup().to_numpy()
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    ends = np.r_[starts[1:], len(group)] - 1
    within = np.where(group[1:] == group[:-1], np.diff(level) * (value[1:] + value[:-1]) / 2, 0.0)
    body = np.add.reduceat(np.r_[within, 0.0], starts)
    mean = body + level[starts] * value[starts] + (1 - level[ends]) * value[ends]
    found = quantiles.loc[starts, keys].reset_index(drop=True)
    found["value"] = mean / quantiles["close"].to_numpy()[starts] - 1
    return found


def store_signals(warehouse: Warehouse, frame: pd.DataFrame) -> bool:
    """Make the table `signals` these rows, in one transaction. False: it was so already, and nothing was written."""
    if frame.equals(read_signals(warehouse)):
        return False
    with warehouse.write() as connection:
        connection.execute("DELETE FROM signals")
        connection.register("made", frame)
        connection.execute("INSERT INTO signals BY NAME SELECT * FROM made")
    return True


def read_signals(warehouse: Warehouse) -> pd.DataFrame:
    """The stored signals, by model, symbol, origin."""
    return warehouse.frame(_STORED)


def _members(quantiles: pd.DataFrame, universe: Universe) -> np.ndarray:
    """Whether each row's symbol was a member on its session."""
    session = quantiles["session"].to_numpy()
    found = np.zeros(len(quantiles), dtype=bool)
    for symbol, rows in quantiles.groupby("symbol").indices.items():
        found[rows] = universe.holds(str(symbol), session[rows])
    return found


def _rows(quantiles: pd.DataFrame, wanted: np.ndarray) -> pd.DataFrame:
    return quantiles if wanted.all() else quantiles[wanted].reset_index(drop=True)


def _flat_models(frame: pd.DataFrame) -> set[str]:
    """Models whose signal never differs between two symbols of one origin, though there were two."""
    spread = frame.groupby(["model", "origin"])["value"].agg(["size", np.ptp])
    several = spread[spread["size"] > 1]
    widest = several["ptp"].groupby("model").max()
    return {str(model) for model in widest.index[widest <= 0]}


def _without_view(quantiles: pd.DataFrame) -> set[str]:
    """Models whose median is the origin's close, but for bars that were revised since.

    The mean of such a law still grows with its width, for prices are skewed to the right.
    """
    level = quantiles["level"].to_numpy(dtype=np.float64)
    medians = quantiles[np.abs(level - 0.5) < SAME]
    moved = (medians["value"] / medians["close"] - 1).abs().groupby(medians["model"]).median()
    return {str(model) for model in moved.index[moved <= SAME]}


def _omissions(counts: pd.DataFrame, used: Mapping[str, str], flat: Mapping[str, str]) -> list[OmittedForecasts]:
    now = counts["checkpoint"].eq(counts["model"].map(used))
    found = [
        OmittedForecasts(model, int(counts.loc[now & (counts["model"] == model), "out_of_sample"].sum()), flat[model])
        for model in sorted(flat)
    ]
    columns = (counts[name].tolist() for name in ("model", "checkpoint", "in_sample", "out_of_sample", "early"))
    for model, checkpoint, seen, unseen, early in zip(*columns, strict=True):
        if model in flat and used.get(model) == checkpoint:
            continue
        if seen:
            reason = f"in-sample: the origin is not after the cutoff of checkpoint {checkpoint[:12]}"
            found.append(OmittedForecasts(model, seen, reason))
        if early and used.get(model) == checkpoint:
            found.append(OmittedForecasts(model, early, TOO_EARLY))
        if unseen and used.get(model) != checkpoint:
            other = used.get(model)
            reason = f"made by {checkpoint[:12]}; in use is {other[:12]}" if other else "the model is not in use"
            found.append(OmittedForecasts(model, unseen, reason))
    return found


def _strangers(quantiles: pd.DataFrame, flat: Mapping[str, str]) -> list[OmittedForecasts]:
    """Forecasts for symbols that were no members."""
    wanted = ~quantiles["model"].isin(list(flat))
    counts = quantiles.loc[wanted, ["model", "symbol", "origin"]].drop_duplicates().groupby("model").size()
    return [OmittedForecasts(str(model), int(count), NOT_A_MEMBER) for model, count in counts.items()]


_KINDS = ("str", "str", "str", "datetime64[us]", "float64")
