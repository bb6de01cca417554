"""What must hold of scores as they lie in the warehouse. Questions in SQL. Not here: Dagster."""

from __future__ import annotations

from datetime import date, timedelta

import pandas as pd

from assets.evaluation.scoring import OTHERS
from resources.warehouse import Warehouse

_IMPOSSIBLE = """
SELECT model, checkpoint, symbol, origin, step, metric, count(*) AS times, min(value) AS least, max(value) AS most
FROM forecast_scores
GROUP BY ALL
HAVING times > 1 OR NOT isfinite(least) OR NOT isfinite(most)
    OR CASE WHEN metric IN ('coverage_80', 'coverage_90', 'direction') THEN least NOT IN (0, 1)
            WHEN metric = 'rank_ic' THEN abs(least) > 1
            WHEN metric = 'pit' THEN least <= 0 OR least >= 1
            ELSE least < 0 END
ORDER BY ALL
LIMIT 1000
"""
_CONTENT = f"""
SELECT count(*) AS rows,
       bit_xor(md5_number(concat_ws('|', model, checkpoint, symbol, origin, step, metric, value)))::VARCHAR AS digest
FROM forecast_scores ANTI JOIN ({OTHERS}) USING (model, checkpoint) WHERE origin BETWEEN $oldest AND $newest
"""


def impossible_scores(warehouse: Warehouse) -> pd.DataFrame:
    """Scores that are doubled, not finite, or outside what their metric can be; the first thousand."""
    return warehouse.frame(_IMPOSSIBLE)


def score_content(warehouse: Warehouse, first: date, last: date, horizon: int, frequency: str) -> tuple[int, str]:
    """How many scores of bars of a frequency there are of the origins that reach the sessions `first` … `last`, and a
    digest of them."""
    # Sessions to calendar days: two in seven are weekend, and holidays cluster.
    oldest = first - timedelta(days=2 * horizon + 7)
    span: dict[str, object] = {"oldest": oldest, "newest": last + timedelta(days=1)}
    found = warehouse.frame(_CONTENT, {**span, "frequency": frequency})
    return int(found["rows"][0]), str(found["digest"][0])
