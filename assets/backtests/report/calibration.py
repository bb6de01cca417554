"""How often the close was at most each forecast quantile, by model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import pandas as pd

from assets.forecasting.filters import FORECAST_FILTER

# A forecast's PIT is at most a level exactly where the close was at most that quantile. Levels are counted side by
# side: a row for each PIT and level takes three times as long.
_SHARES = f"""
SELECT model, unnest($levels::DOUBLE[]) AS level, unnest([{{at_most}}]) / count(*) AS share, count(*) AS forecasts
FROM (SELECT * FROM forecast_scores WHERE metric = 'pit' AND {FORECAST_FILTER})
JOIN forecasts f USING (model, checkpoint, symbol, origin)
WHERE NOT f.in_sample AND list_contains($checkpoints, model || ' ' || checkpoint)
GROUP BY model ORDER BY model, level
"""
_AT_MOST = "count(*) FILTER (value <= $levels[{place}] + 1e-9)"


def read_calibration(connection: duckdb.DuckDBPyConnection, parameters: Mapping[str, Any]) -> pd.DataFrame:
    """The share of out-of-sample closes at most each quantile: columns model, level, share, forecasts.

    Args:
        parameters: levels, checkpoints, and those of FORECAST_FILTER.
    """
    at_most = ", ".join(_AT_MOST.format(place=place + 1) for place in range(len(parameters["levels"])))
    return connection.execute(_SHARES.format(at_most=at_most), dict(parameters)).df()
