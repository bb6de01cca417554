"""Queries over the scores of the checkpoints in use: paired with a baseline's, by step, as PITs, and their number.

All but `origin_counts` return out-of-sample scores alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import pandas as pd

from assets.evaluation.paired_scores import paired_with_baselines
from assets.evaluation.scoring import ACROSS_SYMBOLS
from assets.forecasting.filters import (
    FORECAST_FILTER,
    ORIGIN_FILTER,
    ForecastFilter,
    UsedCheckpoints,
    checkpoint_pairs,
    checkpoints_frame,
)
from assets.forecasting.metrics import ALL_STEPS, BASELINES, CHANCE_LEVEL, rank_ic
from resources.sql import load_sql
from resources.warehouse import Warehouse

NO_FILTER = ForecastFilter()
EQUAL_WEIGHTS = "SELECT DISTINCT origin, 1.0 AS weight FROM forecasts"
_PAIRED_METRICS = """
SELECT DISTINCT metric FROM forecast_scores WHERE metric <> 'pit' AND NOT list_contains(?, metric) ORDER BY metric
"""
_SYMBOLS = "SELECT DISTINCT symbol FROM forecast_scores WHERE symbol <> ? ORDER BY symbol"

_COSTS = """
SELECT model, sum(seconds) / sum(forecasts) AS seconds_per_forecast, max(peak_mib) AS peak_mib,
       max(added_mib) AS added_mib
FROM forecast_costs WHERE list_contains($checkpoints, model || ' ' || checkpoint)
GROUP BY model ORDER BY seconds_per_forecast
"""


def paired_scores(
    warehouse: Warehouse,
    checkpoints: UsedCheckpoints,
    horizons: Sequence[int],
    chosen: ForecastFilter = NO_FILTER,
) -> pd.DataFrame:
    """Scores beside those of a baseline: columns model, metric, horizon, baseline, origin, value, baseline_value.

    Args:
        checkpoints: those of each model that is compared.
    """
    with scores_in_use(warehouse, checkpoints, chosen) as scores:
        return scores.paired(horizons)


def origin_counts(
    warehouse: Warehouse, checkpoints: UsedCheckpoints, chosen: ForecastFilter = NO_FILTER
) -> pd.DataFrame:
    """The number of in-sample and out-of-sample origins: columns model, in_sample, out_of_sample."""
    return _filtered_frame(warehouse, "origin_counts.sql", checkpoints, chosen)


def made_at(warehouse: Warehouse, checkpoints: UsedCheckpoints, chosen: ForecastFilter = NO_FILTER) -> pd.DataFrame:
    """When the out-of-sample forecasts from each origin were complete: columns model, origin, made_at."""
    return _filtered_frame(warehouse, "made_at.sql", checkpoints, chosen)


def pit_values(
    warehouse: Warehouse, checkpoints: UsedCheckpoints, weights: pd.DataFrame, chosen: ForecastFilter = NO_FILTER
) -> pd.DataFrame:
    """Every out-of-sample PIT of the origins in `weights` (columns origin, weight): columns model, pit, weight."""
    with scores_in_use(warehouse, checkpoints, chosen) as scores:
        return scores.pits(weights)


def corrected_since(
    warehouse: Warehouse, checkpoints: UsedCheckpoints, chosen: ForecastFilter = NO_FILTER
) -> dict[str, int]:
    """The number of scored forecasts by model that were made from bars which were corrected since; none: left out."""
    with warehouse.read() as connection:
        if not connection.execute(load_sql("assets.evaluation", "any_corrected.sql")).fetchall()[0][0]:
            return {}
    found = _filtered_frame(warehouse, "corrected_since.sql", checkpoints, chosen)
    return dict(zip(found["model"].astype(str), found["forecasts"].astype(int), strict=True))


def forecast_costs(warehouse: Warehouse, checkpoints: UsedCheckpoints) -> pd.DataFrame:
    """Time and memory by model: columns model, seconds_per_forecast, peak_mib, added_mib; the fastest first."""
    pairs = [f"{model} {checkpoint}" for model, checkpoint in checkpoint_pairs(checkpoints)]
    return warehouse.frame(_COSTS, {"checkpoints": pairs})


def means_by_step(
    warehouse: Warehouse,
    checkpoints: UsedCheckpoints,
    chosen: ForecastFilter = NO_FILTER,
    weights: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Mean out-of-sample scores: columns model, metric, step, value.

    Args:
        weights: columns origin, weight; None: all origins, with equal weights.
    """
    with scores_in_use(warehouse, checkpoints, chosen) as scores:
        return scores.means_by_step(weights)


def _sql(name: str) -> str:
    """One of this package's scripts with the forecast filter and the scores it reads filled in."""
    filters = {"forecast_filter": FORECAST_FILTER, "origin_filter": ORIGIN_FILTER}
    known = {"all_steps": ALL_STEPS, "out_of_sample": load_sql("assets.evaluation", "out_of_sample.sql"), **filters}
    scores = load_sql("assets.evaluation", "scores_in_use.sql").format(**known)
    return load_sql("assets.evaluation", name).format(scores=scores, **known)


@dataclass(frozen=True)
class _Filtered:
    """A connection with `checkpoints_in_use`, and the parameters of the filter."""

    connection: duckdb.DuckDBPyConnection
    chosen: ForecastFilter

    def frame(self, script: str, parameters: Mapping[str, object] | None = None) -> pd.DataFrame:
        """The result of one of this package's scripts."""
        sql, known = _sql(script), {**self.chosen.parameters, **(parameters or {})}
        return self.connection.execute(sql, {name: value for name, value in known.items() if f"${name}" in sql}).df()


@dataclass(frozen=True)
class ScoresInUse:
    """The out-of-sample scores of some checkpoints, for several queries.

    Attributes:
        filtered: with all that `scores_in_use.sql` reads.
        other_symbols: whether symbols that the filter excludes were forecast too.
    """

    filtered: _Filtered
    other_symbols: bool

    def paired(self, horizons: Sequence[int]) -> pd.DataFrame:
        """As `paired_scores`."""
        connection, chosen = self.filtered.connection, self.filtered.chosen.symbols
        metrics = [name for (name,) in connection.execute(_PAIRED_METRICS, [list(CHANCE_LEVEL)]).fetchall()]
        symbols = [name for (name,) in connection.execute(_SYMBOLS, [ACROSS_SYMBOLS]).fetchall()]
        own = symbols if chosen is None else sorted(set(symbols) & set(chosen))
        scored = connection.sql("FROM scored_origins").df()
        chance = {"key": list(CHANCE_LEVEL), "value": list(CHANCE_LEVEL.values())}
        by_chance = self._frame(
            "chance_scores.sql", {"horizons": list(horizons), "baseline": BASELINES[0], "chance": chance}
        )
        paired = paired_with_baselines(connection, scored, own, metrics, horizons, BASELINES)
        found = [one for one in (paired, by_chance) if len(one)]
        return pd.concat(found, ignore_index=True) if found else by_chance

    def pits(self, weights: pd.DataFrame) -> pd.DataFrame:
        """As `pit_values`."""
        self.filtered.connection.register("origin_weights", weights)
        return self._frame("pit_values.sql")

    def means_by_step(self, weights: pd.DataFrame | None = None) -> pd.DataFrame:
        """As `means_by_step`."""
        connection = self.filtered.connection
        connection.register("origin_weights", connection.sql(EQUAL_WEIGHTS).df() if weights is None else weights)
        return self._frame("means_by_step.sql")

    def _frame(self, script: str, parameters: Mapping[str, object] | None = None) -> pd.DataFrame:
        return self.filtered.frame(script, {"other_symbols": self.other_symbols, **(parameters or {})})


@contextmanager
def scores_in_use(warehouse: Warehouse, checkpoints: UsedCheckpoints, chosen: ForecastFilter) -> Iterator[ScoresInUse]:
    """The out-of-sample scores of some checkpoints that pass the filter."""
    with _filtered(warehouse, checkpoints, chosen) as filtered:
        others, returns = False, None
        if chosen.symbols is not None:
            others = bool(filtered.frame("other_symbols.sql").iloc[0, 0])
        if others:
            returns = filtered.frame("predicted_returns.sql")
        filtered.connection.register("rank_correlations", _rank_correlations(returns))
        filtered.connection.register("scored_origins", filtered.frame("scored_origins.sql"))
        yield ScoresInUse(filtered, others)


@contextmanager
def _filtered(warehouse: Warehouse, checkpoints: UsedCheckpoints, chosen: ForecastFilter) -> Iterator[_Filtered]:
    with warehouse.read() as connection:
        connection.register("checkpoints_in_use", checkpoints_frame(checkpoints))
        yield _Filtered(connection, chosen)


def _filtered_frame(
    warehouse: Warehouse, script: str, checkpoints: UsedCheckpoints, chosen: ForecastFilter
) -> pd.DataFrame:
    with _filtered(warehouse, checkpoints, chosen) as filtered:
        return filtered.frame(script)


def _rank_correlations(returns: pd.DataFrame | None) -> pd.DataFrame:
    """Rank correlations across the symbols of `predicted_returns.sql`, as rows of `forecast_scores`."""
    keys = ["model", "checkpoint", "origin", "step"]
    if returns is None or returns.empty:
        kinds = {"model": "str", "checkpoint": "str", "origin": "datetime64[us]", "step": "int32", "value": "float64"}
        found = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})
    else:
        predicted, actual = (
            returns.pivot(index=keys, columns="symbol", values=name) for name in ("predicted", "actual")
        )
        found = rank_ic(predicted, actual).dropna().rename("value").reset_index()
    return found.assign(symbol=ACROSS_SYMBOLS, metric="rank_ic")
