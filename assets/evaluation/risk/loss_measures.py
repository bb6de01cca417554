"""Value at risk and expected shortfall of the stored forecasts, computed from their quantiles."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np
import pandas as pd

from assets.evaluation.risk.loss_grid import LossGrid, LossMeasures
from assets.evaluation.risk.store import ES, VAR
from assets.evaluation.risk.tails import METHODS, OUTCOMES, LossForecasts, needed_levels, tail_risks
from assets.forecasting.filters import ORIGIN_FILTER, ForecastFilter
from assets.forecasting.metrics import as_levels
from assets.forecasting.placed_rows import placed, register_places
from resources.settings import Settings
from resources.sql import load_sql

_PLANNED = f"SELECT place FROM placed_origins WHERE {ORIGIN_FILTER}"
_CLOSES = """
SELECT o.place * $symbols + y.place AS place, b.close AS value
FROM bars b JOIN placed_origins o ON o.origin = b.ts JOIN placed_symbols y USING (symbol)
WHERE b.frequency = $frequency
"""
_GROWTH = """
SELECT (o.place * $symbols + y.place) * $steps + s.place AS place, a.actual / a.last_close AS value
FROM scored_actuals a JOIN placed_origins o USING (origin) JOIN placed_symbols y USING (symbol)
JOIN placed_steps s USING (step)
"""


def risk_steps(settings: Settings) -> list[int]:
    """The steps of `risk.steps` within the horizon."""
    return [step for step in settings.risk.steps if step <= settings.windows.predict_window]


def loss_levels(settings: Settings) -> np.ndarray:
    """The quantile levels that the measures are read from."""
    return as_levels(needed_levels(settings.forecasts.levels, settings.risk.levels))


def loss_measures(
    connection: duckdb.DuckDBPyConnection, settings: Settings, grid: LossGrid, learnt: ForecastFilter
) -> LossMeasures:
    """Value at risk and expected shortfall of the forecasts since the start of the test range.

    Args:
        grid: registered with the connection.
        learnt: the forecasts from whose outcomes the tail is learnt, where they are out of sample.
    """
    levels = loss_levels(settings)
    quantiles, targets, in_sample = _quantiles(connection, grid, levels)
    _, origins, symbols, _ = grid.shape
    closes = _array(
        connection, _CLOSES, {"symbols": symbols, "frequency": settings.market.frequency}, (origins, symbols)
    )
    growth = _array(connection, _GROWTH, {**grid.sizes, "origins": None}, grid.shape[1:])
    known = np.isfinite(quantiles).all(axis=-1) & np.isfinite(closes)[:, :, None]
    planned = np.zeros(origins, dtype=bool)
    parameters = {name: value for name, value in learnt.parameters.items() if f"${name}" in _PLANNED}
    planned[connection.execute(_PLANNED, parameters).fetchnumpy()["place"]] = True
    with np.errstate(invalid="ignore"):
        losses, actual = -np.log(quantiles / closes[:, :, None, None]), -np.log(growth)
    actual = np.where(planned[:, None, None] & ~in_sample, actual, np.nan)
    wanted = sorted(settings.risk.levels, reverse=True)
    measures = [(measure, level) for level in wanted for measure in (VAR, ES)]
    shape = (*grid.shape, len(measures))
    found = LossMeasures(
        grid, measures, known, targets, np.full(shape, np.nan), np.zeros(shape, np.int8), np.zeros(shape, np.int32)
    )
    for model in grid.models:
        rows = [row for row, (name, _) in enumerate(grid.checkpoints) if name == model]
        for step in range(grid.shape[-1]):
            _fill(found, rows, step, levels, losses, actual)
    shown = grid.origins >= np.datetime64(settings.windows.test[0])
    return LossMeasures(
        grid, measures, known & shown[:, None, None], targets, found.values, found.methods, found.outcomes
    )


def _fill(
    found: LossMeasures, rows: Sequence[int], step: int, levels: np.ndarray, losses: np.ndarray, actual: np.ndarray
) -> None:
    """The measures of one model and step, whose checkpoints have these rows."""
    # In the order of origins, then symbols.
    origin, symbol, own = np.nonzero(found.known[rows, :, :, step].transpose(1, 2, 0))
    cells = (np.asarray(rows)[own], origin, symbol, step)
    if not len(origin):
        return
    forecasts = LossForecasts(
        origins=found.grid.origins[origin],
        targets=found.targets[cells],
        levels=levels,
        losses=losses[cells],
        actual=actual[cells],
    )
    for number, risk in enumerate(tail_risks(forecasts, [level for _, level in found.measures[::2]])):
        of_var = np.where(risk.var_method == OUTCOMES, risk.outcomes, 0)
        for place, value, method, outcomes in (
            (2 * number, risk.var, risk.var_method, of_var),
            (2 * number + 1, risk.es, risk.es_method, risk.outcomes),
        ):
            found.values[(*cells, place)], found.outcomes[(*cells, place)] = value, outcomes
            found.methods[(*cells, place)] = np.searchsorted(METHODS, method)


def _quantiles(
    connection: duckdb.DuckDBPyConnection, grid: LossGrid, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quantiles of the close, (…, levels), NaN where there is none; and by cell the target, and whether in sample."""
    register_places(connection, "placed_levels", pd.DataFrame({"level": levels}))
    sql = load_sql("assets.evaluation.risk", "loss_quantiles.sql")
    found = connection.execute(sql, {**grid.sizes, "levels": len(levels)}).fetchnumpy()
    place, cell = np.asarray(found["place"]), np.asarray(found["place"]) // len(levels)
    return (
        placed(place, np.asarray(found["value"]), (*grid.shape, len(levels))),
        placed(cell, np.asarray(found["target_ts"]), grid.shape),
        placed(cell, np.asarray(found["in_sample"]), grid.shape),
    )


def _array(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: dict[str, object], shape: tuple[int, ...]
) -> np.ndarray:
    """An array of the column value at the column place of a query, NaN elsewhere."""
    found = connection.execute(sql, {name: one for name, one in parameters.items() if one is not None}).fetchnumpy()
    return placed(np.asarray(found["place"]), np.asarray(found["value"]), shape)
