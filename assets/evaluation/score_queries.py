"""Queries over the scores of the checkpoints in use: paired with a baseline's, by step, as PITs, and their number.

All but `origin_counts` return out-of-sample scores alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from assets.evaluation.scoring import ACROSS_SYMBOLS
from assets.forecasting.filters import (
    FORECAST_FILTER,
    ORIGIN_FILTER,
    ForecastFilter,
    UsedCheckpoints,
    checkpoint_pairs,
)
from assets.forecasting.metrics import ALL_STEPS, BASELINES, CHANCE_LEVEL, rank_ic
from resources.sql import load_sql
from resources.warehouse import Warehouse

NO_FILTER = ForecastFilter()
EQUAL_WEIGHTS = "SELECT DISTINCT origin, 1.0 AS weight FROM forecasts"


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
    parameters: dict[str, object] = {
        "horizons": list(horizons),
        "baselines": list(BASELINES),
        "chance": {"key": list(CHANCE_LEVEL), "value": list(CHANCE_LEVEL.values())},
    }
    return _query(warehouse, "paired_scores.sql", checkpoints, chosen, parameters)


def origin_counts(
    warehouse: Warehouse, checkpoints: UsedCheckpoints, chosen: ForecastFilter = NO_FILTER
) -> pd.DataFrame:
    """The number of in-sample and out-of-sample origins: columns model, in_sample, out_of_sample."""
    return _query(warehouse, "origin_counts.sql", checkpoints, chosen)


def made_at(warehouse: Warehouse, checkpoints: UsedCheckpoints, chosen: ForecastFilter = NO_FILTER) -> pd.DataFrame:
    """When the out-of-sample forecasts from each origin were complete: columns model, origin, made_at."""
    return _query(warehouse, "made_at.sql", checkpoints, chosen)


def pit_values(
    warehouse: Warehouse, checkpoints: UsedCheckpoints, weights: pd.DataFrame, chosen: ForecastFilter = NO_FILTER
) -> pd.DataFrame:
    """Every out-of-sample PIT of the origins in `weights` (columns origin, weight): columns model, pit, weight."""
    return _query(warehouse, "pit_values.sql", checkpoints, chosen, weights=weights)


def corrected_since(
    warehouse: Warehouse, checkpoints: UsedCheckpoints, chosen: ForecastFilter = NO_FILTER
) -> dict[str, int]:
    """The number of scored forecasts by model that were made from bars which were corrected since; none: left out."""
    found = _query(warehouse, "corrected_since.sql", checkpoints, chosen)
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
    return _query(warehouse, "means_by_step.sql", checkpoints, chosen, weights=weights)


def _sql(name: str) -> str:
    """One of this package's scripts with the forecast filter and the scores it reads filled in."""
    filters = {"forecast_filter": FORECAST_FILTER, "origin_filter": ORIGIN_FILTER}
    scores = load_sql("assets.evaluation", "scores_in_use.sql").format(**filters)
    fragments = {"scores": scores, "out_of_sample": load_sql("assets.evaluation", "out_of_sample.sql")}
    return load_sql("assets.evaluation", name).format(all_steps=ALL_STEPS, **filters, **fragments)


def _query(
    warehouse: Warehouse,
    script: str,
    checkpoints: UsedCheckpoints,
    chosen: ForecastFilter,
    parameters: Mapping[str, object] | None = None,
    weights: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The result of a script over the scores of some checkpoints."""
    in_use = pd.DataFrame(checkpoint_pairs(checkpoints), columns=["model", "checkpoint"], dtype=str)
    sql = _sql(script)
    with warehouse.read() as connection:
        connection.register("checkpoints_in_use", in_use)
        if "origin_weights" in sql:
            connection.register(
                "origin_weights", connection.execute(EQUAL_WEIGHTS).df() if weights is None else weights
            )
        others, returns = False, None
        if chosen.symbols is not None:
            others = bool(connection.execute(_sql("other_symbols.sql"), chosen.parameters).fetchall()[0][0])
        if others:
            returns = connection.execute(_sql("predicted_returns.sql"), chosen.parameters).df()
        connection.register("rank_correlations", _rank_correlations(returns))
        known = {"other_symbols": others, **chosen.parameters, **(parameters or {})}
        return connection.execute(sql, {name: value for name, value in known.items() if f"${name}" in sql}).df()


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
