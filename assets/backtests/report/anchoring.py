"""What anchored forecasts take from their model beside the volatility model, read off the newest stored forecasts.

An anchored forecast has the location λ·(m − c) and the scale S·(g·s / S)^w, m and s those of the model and S that of
the volatility model (assets.forecasting.calibration.anchoring). λ and w are equal for all symbols of an origin, so they
are the slopes of regressions over the symbols.
"""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import numpy as np
import pandas as pd

from assets.backtests.report.formatting import listing, model_name
from assets.forecasting.filters import FORECAST_FILTER
from resources.derived_models import ANCHORED
from resources.sql import load_sql

VOLATILITY = "volatility"
COLUMNS = ("model", "origin", "step", "location", "scale")
# Smaller sums of squares are rounding: no slope can be read.
LEAST = 1e-12


def read_anchoring(
    connection: duckdb.DuckDBPyConnection, parameters: Mapping[str, object], frequency: str
) -> pd.DataFrame:
    """The weights of a model's location and scale at its newest origin: columns model, origin, step, location, scale.

    NaN where they cannot be read: a model without a view, or a single symbol.

    Args:
        parameters: those of the forecast filter, and `checkpoints`.
    """
    sql = load_sql("assets.backtests.report", "anchoring.sql").format(forecast_filter=FORECAST_FILTER)
    named = {**parameters, "frequency": frequency, "suffix": ANCHORED, "volatility": VOLATILITY}
    found = connection.execute(sql, named).df()
    rows = [(*key, *_weights(own)) for key, own in found.groupby(["model", "origin", "step"])]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def anchoring_text(weights: pd.DataFrame) -> tuple[str, ...]:
    """One sentence per anchored model: the weight of its view on direction and on scale, by step."""
    found = []
    for model, own in weights.groupby("model"):
        name, origin = model_name(str(model).removesuffix(ANCHORED)), own["origin"].iloc[0]
        location, scale = (_by_step(own.set_index("step")[part]) for part in ("location", "scale"))
        if not location and not scale:
            continue
        start = f"{model_name(str(model))}, from {origin:%Y-%m-%d}: the view of {name}"
        if not own[["location", "scale"]].any(axis=None):
            found.append(f"{start} on direction and scale was not shown to help; it is the volatility model.")
            continue
        views = [f"on {what} has the weight {by_step}" for what, by_step in (("direction", location), ("scale", scale))
                 if by_step]  # fmt: skip
        found.append(f"{start} {', that '.join(views)}; the rest is the volatility model.")
    return tuple(found)


def _weights(own: pd.DataFrame) -> tuple[float, float]:
    """λ and w from the symbols of one origin and step."""
    given, found = own["own_location"].to_numpy(), own["location"].to_numpy()
    volatility = own["volatility"].to_numpy()
    relative, stretch = (np.log(own[part].to_numpy() / volatility) for part in ("own_scale", "scale"))
    return _slope(given, found), _slope(relative, stretch)


def _slope(given: np.ndarray, found: np.ndarray) -> float:
    """The slope of a regression; NaN: nothing varies."""
    given = given - given.mean()
    squares = float(given @ given)
    return round(float(given @ found) / squares, 2) + 0.0 if squares > LEAST else np.nan


def _by_step(weights: pd.Series) -> str:
    """`0.2 at steps 1 and 2, 0 at steps 3 to 10`; empty: none is known."""
    known = weights.dropna()
    if known.nunique() == 1 and len(known) == len(weights):
        return f"{known.iloc[0]:g} at all steps"
    parts = []
    for value, own in known.groupby(known, sort=False):
        parts.append(f"{value:g} at {_steps([int(str(step)) for step in own.index])}")
    return listing(parts)


def _steps(steps: list[int]) -> str:
    if len(steps) > 2 and steps[-1] - steps[0] == len(steps) - 1:
        return f"steps {steps[0]} to {steps[-1]}"
    return f"{'step' if len(steps) == 1 else 'steps'} {listing([str(step) for step in steps])}"
