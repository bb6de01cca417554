"""What must hold for forecasts as they lie in the warehouse. Questions in SQL, answers in words. Not here: Dagster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from assets.forecasting.forecaster import Forecaster
from resources.warehouse import Warehouse

BANDS = {0.8: (0.1, 0.9), 0.9: (0.05, 0.95)}
# A band is called off only where it covers far from its share; intervals and significance are the scoreboard's.
TOLERATED = 0.15
FEWEST_TARGETS = 100

_RUN = "model = $model AND checkpoint = $checkpoint AND origin BETWEEN $first AND $last"
_DISORDERED = f"""
SELECT symbol, origin, step, field FROM (
    SELECT symbol, origin, step, field, level, value,
           lag(value) OVER (PARTITION BY symbol, origin, step, field ORDER BY level) AS below
    FROM forecast_quantiles WHERE {_RUN}
)
WHERE NOT isfinite(value) OR value < below
"""
_IMPOSSIBLE = f"""
SELECT symbol, origin, step, level FROM (
    SELECT symbol, origin, step, level,
           max(value) FILTER (field = 'open') AS open, max(value) FILTER (field = 'high') AS high,
           max(value) FILTER (field = 'low') AS low, max(value) FILTER (field = 'close') AS close,
           min(value) FILTER (field IN ('open', 'high', 'low', 'close')) AS least_price,
           min(value) FILTER (field IN ('volume', 'amount')) AS least_size
    FROM forecast_quantiles WHERE {_RUN} GROUP BY ALL
)
WHERE least_price <= 0 OR least_size < 0 OR low > least(open, close) OR high < greatest(open, close)
"""
_INCOMPLETE = f"""
WITH counted AS (
    SELECT symbol, origin, count(*) AS n, count(DISTINCT step) * count(DISTINCT field) * count(DISTINCT level) AS due
    FROM forecast_quantiles WHERE {_RUN} GROUP BY ALL
)
SELECT symbol, origin FROM (SELECT symbol, origin FROM forecasts WHERE {_RUN}) f
FULL JOIN counted c USING (symbol, origin)
WHERE c.n IS NULL OR c.n <> c.due OR f.symbol IS NULL
"""
_IMPOSSIBLE_PATHS = """
SELECT symbol, filename, path, step FROM read_parquet($files, filename = true)
WHERE NOT coalesce(low > 0 AND low <= least(open, close) AND greatest(open, close) <= high
                   AND isfinite(high) AND volume >= 0 AND amount >= 0, false)
"""
_CALIBRATION = f"""
WITH quoted AS (
    SELECT b.symbol, b.ts, b.close AS quoted, a.close AS adjusted
    FROM bars b JOIN adjusted_bars a USING (symbol, ts, frequency)
    WHERE b.frequency = $frequency
)
SELECT q.level, avg((t.adjusted * o.quoted / o.adjusted <= q.value)::DOUBLE) AS share,
       avg((t.adjusted * o.quoted / o.adjusted < q.value)::DOUBLE) AS below, count(*) AS n
FROM (SELECT * FROM forecast_quantiles WHERE {_RUN} AND field = 'close') q
JOIN quoted o ON o.symbol = q.symbol AND o.ts = q.origin
JOIN quoted t ON t.symbol = q.symbol AND t.ts = q.target_ts
GROUP BY q.level ORDER BY q.level
"""
_CONTENT = f"""
SELECT count(*) AS rows,
       bit_xor(md5_number(concat_ws('|', symbol, origin, step, target_ts, field, level, value)))::VARCHAR AS digest
FROM forecast_quantiles WHERE {_RUN}
"""
_CORRECTED = f"SELECT avg(corrected) AS rate FROM forecasts WHERE {_RUN}"


@dataclass(frozen=True)
class Run:
    """The forecasts of one forecaster from some origins."""

    forecaster: Forecaster
    origins: Sequence[np.datetime64]

    @property
    def parameters(self) -> dict[str, object]:
        return {
            "model": self.forecaster.model,
            "checkpoint": self.forecaster.checkpoint,
            "first": min(self.origins).item(),
            "last": max(self.origins).item(),
        }


def disordered(warehouse: Warehouse, run: Run) -> pd.DataFrame:
    """Quantiles that are not finite or fall as their level rises."""
    return warehouse.frame(_DISORDERED, run.parameters)


def impossible(warehouse: Warehouse, run: Run) -> pd.DataFrame:
    """Quantiles that no market can print: a price not above 0, a negative volume, a high below a close."""
    return warehouse.frame(_IMPOSSIBLE, run.parameters)


def incomplete(warehouse: Warehouse, run: Run) -> pd.DataFrame:
    """Forecasts with a quantile missing or doubled, or without any."""
    return warehouse.frame(_INCOMPLETE, run.parameters)


def impossible_paths(warehouse: Warehouse, files: Sequence[Path]) -> pd.DataFrame:
    """Bars of sample paths that no market can print."""
    return warehouse.frame(_IMPOSSIBLE_PATHS, {"files": [str(file) for file in files]})


def calibration(warehouse: Warehouse, run: Run, frequency: str) -> pd.DataFrame:
    """How often the close then was at or below each level's quantile, and below it: columns level, share, below, n."""
    return warehouse.frame(_CALIBRATION, {**run.parameters, "frequency": frequency})


def coverage(calibrated: pd.DataFrame) -> dict[float, float]:
    """The share of closes inside the central 80 % and 90 % bands, ends included; empty before anything has happened."""
    share, below = (dict(zip(calibrated["level"], calibrated[name], strict=True)) for name in ("share", "below"))
    return {band: share[high] - below[low] for band, (low, high) in BANDS.items() if low in share and high in share}


def off_bands(calibrated: pd.DataFrame) -> list[str]:
    """In words, the bands that cover far from their share; none while too little has happened to say."""
    if calibrated.empty or calibrated["n"].min() < FEWEST_TARGETS:
        return []
    return [
        f"the {band:.0%} band covered {covered:.1%} of {calibrated['n'].min():,} closes"
        for band, covered in coverage(calibrated).items()
        if abs(covered - band) > TOLERATED
    ]


def content(warehouse: Warehouse, run: Run) -> tuple[int, str]:
    """How many quantiles there are, and a digest of them."""
    found = warehouse.frame(_CONTENT, run.parameters)
    return int(found["rows"][0]), str(found["digest"][0])


def corrected(warehouse: Warehouse, run: Run) -> float:
    """The share of what the model said that had to be put right: bars projected, quantiles that crossed."""
    return float(warehouse.frame(_CORRECTED, run.parameters)["rate"][0])
