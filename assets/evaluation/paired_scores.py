"""Losses and coverages of models beside those of the baselines, paired by symbol, origin and step.

In arrays, a metric and some origins at a time: a join of scores with themselves takes eight times as long. Sums are of
whole numbers in units of 1e-12, so exact, whatever their order. Not here: which scores count (score_queries).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import duckdb
import numpy as np
import pandas as pd

from assets.forecasting.metrics import ALL_STEPS, Metric
from assets.forecasting.placed_rows import register_places
from resources.sql import load_sql

# Of one metric at a time: 8 bytes each, and as much again for what is computed from them.
SCORES_AT_ONCE = 5_000_000
UNIT = 10**12
_NAMES = ("model", "metric", "baseline")
COLUMNS = ("model", "metric", "horizon", "baseline", "origin", "value", "baseline_value")
# A whole number of units as DuckDB converts a decimal to a double, in two parts: together they can exceed 64 bits.
_DOUBLE = "({0}::DECIMAL(26, 0) + {0}_units::DECIMAL(12, 0) * 0.000000000001::DECIMAL(12, 12))::DOUBLE"
_MEANS = (
    f"SELECT {_DOUBLE.format('own')} / n AS value, {_DOUBLE.format('other')} / n AS baseline_value FROM paired_sums"
)


@dataclass(frozen=True)
class ScoreArray:
    """Scores of one metric: (checkpoints, origins, steps, symbols).

    Attributes:
        models: the model of each checkpoint.
        origins: (origins,) datetime64, increasing.
        scaled: whole numbers in units of 1e-12, of 64 bits or Python's; 0: unknown.
        known: whether there is a score.
    """

    models: Sequence[str]
    origins: np.ndarray
    scaled: np.ndarray
    known: np.ndarray


@dataclass(frozen=True)
class _Sums:
    """Sums over the cells that both scored, (…): of the model, of the baseline, and their number."""

    own: np.ndarray
    other: np.ndarray
    n: np.ndarray

    def at(self, horizon: int) -> _Sums:
        """Those of a horizon, by origin, from those by origin and step."""
        parts = (self.own, self.other, self.n)
        return _Sums(*(one.sum(axis=1) if horizon == ALL_STEPS else one[:, horizon - 1] for one in parts))


@dataclass(frozen=True)
class _Comparison:
    """A model beside a baseline at some origins: the last are those that both scored."""

    model: str
    metric: Metric
    horizon: int
    baseline: str
    origins: np.ndarray
    sums: _Sums


def paired_with_baselines(
    connection: duckdb.DuckDBPyConnection,
    scored: pd.DataFrame,
    symbols: Sequence[str],
    metrics: Sequence[Metric],
    horizons: Sequence[int],
    baselines: Sequence[str],
) -> pd.DataFrame:
    """The means of each model and of each baseline by origin, over the cells that both scored: COLUMNS.

    Args:
        scored: columns model, checkpoint, origin: whose scores are paired.
        symbols: whose scores are paired.
    """
    found = [
        one
        for array, metric in _score_arrays(connection, scored, symbols, metrics)
        for one in _comparisons(array, metric, horizons, baselines)
    ]
    if not found:
        return pd.DataFrame(columns=list(COLUMNS))
    counts = [len(one.origins) for one in found]
    named = {name: _repeated([str(getattr(one, name)) for one in found], counts) for name in _NAMES}
    joined = (np.concatenate([getattr(one.sums, part) for one in found]) for part in ("own", "other", "n"))
    frame = pd.DataFrame(
        {
            **named,
            "horizon": np.repeat([one.horizon for one in found], counts),
            "origin": np.concatenate([one.origins for one in found]),
        }
    )
    return frame.join(_means(connection, _Sums(*joined)))[list(COLUMNS)]


def _repeated(names: Sequence[str], counts: Sequence[int]) -> pd.Series:
    """Each name as often as its count, without a Python object for each."""
    values, codes = np.unique(names, return_inverse=True)
    return pd.Series(pd.array(values.tolist(), dtype="str").take(np.repeat(codes, counts)))


def _means(connection: duckdb.DuckDBPyConnection, sums: _Sums) -> pd.DataFrame:
    parts = {"n": sums.n.astype(np.int64)}
    for name, total in (("own", sums.own), ("other", sums.other)):
        parts[name], parts[f"{name}_units"] = (total // UNIT).astype(np.int64), (total % UNIT).astype(np.int64)
    connection.register("paired_sums", pd.DataFrame(parts))
    return connection.execute(_MEANS).df()


def _score_arrays(
    connection: duckdb.DuckDBPyConnection, scored: pd.DataFrame, symbols: Sequence[str], metrics: Sequence[Metric]
) -> Iterator[tuple[ScoreArray, Metric]]:
    steps = int(connection.execute("SELECT coalesce(max(step), 0) FROM forecast_scores").fetchall()[0][0])
    if scored.empty or not symbols or not steps:
        return
    register_places(connection, "placed_symbols", pd.DataFrame({"symbol": list(symbols)}))
    keys = scored[["model", "checkpoint"]].drop_duplicates().sort_values(["model", "checkpoint"], ignore_index=True)
    row = scored[["model", "checkpoint"]].merge(keys.reset_index(names="row"), how="left")["row"].to_numpy()
    origins, column = np.unique(scored["origin"].to_numpy(), return_inverse=True)
    at_once = max(1, SCORES_AT_ONCE // (len(keys) * steps * len(symbols)))
    for first in range(0, len(origins), at_once):
        own = origins[first : first + at_once]
        place = np.where((column >= first) & (column < first + len(own)), row * len(own) + column - first, -1)
        connection.register("placed_origins", scored.assign(place=place)[place >= 0])
        span = {"oldest": own[0].astype("datetime64[us]").item(), "newest": own[-1].astype("datetime64[us]").item()}
        shape = (len(keys), len(own), steps, len(symbols))
        # Of the cells that a sum adds: each checkpoint of a model with each of a baseline.
        summed = steps * len(symbols) * int(keys["model"].value_counts().max()) ** 2
        for metric in metrics:
            found = connection.execute(
                load_sql("assets.evaluation", "placed_scores.sql"),
                {**span, "metric": metric, "steps": steps, "symbols": len(symbols)},
            ).fetchnumpy()
            scaled, known = _placed(np.asarray(found["place"]), np.asarray(found["scaled"]), shape, summed)
            yield ScoreArray(keys["model"].tolist(), own, scaled, known), metric


def _placed(
    places: np.ndarray, scores: np.ndarray, shape: tuple[int, ...], summed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Scores in their places as whole numbers, of 64 bits where so many can be added, and which places have one."""
    fits = not len(scores) or float(np.abs(scores).max()) * summed < np.iinfo(np.int64).max
    whole = scores.astype(np.int64) if fits else np.array([int(one) for one in scores], dtype=object)
    scaled, known = np.zeros(np.prod(shape), dtype=whole.dtype), np.zeros(np.prod(shape), dtype=bool)
    scaled[places], known[places] = whole, True
    return scaled.reshape(shape), known.reshape(shape)


def _comparisons(
    array: ScoreArray, metric: Metric, horizons: Sequence[int], baselines: Sequence[str]
) -> Iterator[_Comparison]:
    models = sorted(set(array.models))
    for baseline in sorted(set(baselines) & set(models)):
        for model in (one for one in models if one != baseline):
            by_step = _sums(array, model, baseline)
            for horizon in (one for one in horizons if one <= by_step.n.shape[1]):
                sums = by_step.at(horizon)
                both = sums.n > 0
                if both.any():
                    own = _Sums(sums.own[both], sums.other[both], sums.n[both])
                    yield _Comparison(model, metric, horizon, baseline, array.origins[both], own)


def _sums(array: ScoreArray, model: str, baseline: str) -> _Sums:
    """Sums over symbols by origin and step, of every checkpoint of the one with every checkpoint of the other."""
    mine, theirs = ([row for row, name in enumerate(array.models) if name == one] for one in (model, baseline))
    own, other = (np.zeros(array.scaled.shape[1:3], dtype=array.scaled.dtype) for _ in range(2))
    n = np.zeros(own.shape, dtype=np.int64)
    for first, second in product(mine, theirs):
        both = array.known[first] & array.known[second]
        n = n + both.sum(axis=-1)
        own = own + (array.scaled[first] * both).sum(axis=-1)
        other = other + (array.scaled[second] * both).sum(axis=-1)
    return _Sums(own, other, n)
