"""Outdated derived forecasts: those made before forecasts that they would be derived from today.

They were made of fewer earlier origins than are stored now, because these were forecast later (a backfill, a home that
began with its newest session), or before the forecast that they are derived from was replaced or, in a combination,
made. They are made again, so that the order in which sessions are forecast does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from assets.forecasting.calibration.stored import Base, StoredForecasts
from assets.forecasting.filters import FORECAST_FILTER
from assets.forecasting.forecaster import ForecastKey
from assets.forecasting.origins import forward_steps
from resources.sql import load_sql


def outdated_forecasts(
    stored: StoredForecasts, model: str, checkpoint: str, bases: Sequence[Base], learns: bool
) -> frozenset[ForecastKey]:
    """The (symbol, origin) of a derived model's stored forecasts that are made again.

    A forecast that was made before its first target began is evidence that cannot be made again: it stays, unless it
    was made of less than half of the earlier origins.

    Args:
        learns: whether the model learns from earlier origins.
    """
    read = [(base.model, one, one == base.checkpoints[-1]) for base in bases for one in base.checkpoints]
    sql = load_sql(__package__, "outdated.sql").format(forecast_filter=FORECAST_FILTER)
    parameters = {**stored.filter.parameters, "model": model, "checkpoint": checkpoint, "learns": learns}
    with stored.warehouse.read() as connection:
        connection.register("bases", pd.DataFrame(read, columns=["model", "checkpoint", "newest"]))
        found = connection.execute(sql, parameters).fetchnumpy()
    origins, made_at = (np.asarray(found[name]).astype("datetime64[s]") for name in ("origin", "made_at"))
    forward = forward_steps(origins, made_at, 1, stored.calendar)[:, 0]
    again = ~forward | (2 * np.asarray(found["learnt_from"]) < np.asarray(found["known"]))
    return frozenset(zip(map(str, np.asarray(found["symbol"])[again]), origins[again], strict=True))
