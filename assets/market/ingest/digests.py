"""Digests of bars by session: equal bars, equal digest, in whatever order and however often they were ingested.

Only a bar's values enter, not when or from which payload they came. MD5 of the values as text, because DuckDB's own
hash may change with its version.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pandas as pd

from resources.publish import digest_of
from resources.warehouse import Warehouse

_BY_SESSION = """
SELECT session, count(*) AS rows,
       bit_xor(md5_number(concat_ws('|', symbol, ts, open, high, low, close, coalesce(volume::VARCHAR, '-'),
                                    coalesce(amount::VARCHAR, '-'), coalesce(dividend::VARCHAR, '-'),
                                    coalesce(split::VARCHAR, '-'), array_to_string(flags, ',')))) ::VARCHAR AS digest
FROM bars
WHERE frequency = $frequency AND ($first IS NULL OR session >= $first) AND ($last IS NULL OR session <= $last)
GROUP BY session ORDER BY session
"""
_ACTIONS = """
SELECT symbol, ex_date::VARCHAR AS ex_date, kind, value, price_factor FROM corporate_actions ORDER BY ALL
"""


def session_digests(
    warehouse: Warehouse, frequency: str, first: date | None = None, last: date | None = None
) -> pd.DataFrame:
    """One row per session that has bars: session (date), rows, digest (text)."""
    found = warehouse.frame(_BY_SESSION, {"frequency": frequency, "first": first, "last": last})
    found["session"] = found["session"].dt.date
    return found


def digest_of_bars(digests: pd.DataFrame, sessions: Sequence[date] | None = None) -> str:
    """One digest of the bars of some sessions, from `session_digests`."""
    chosen = digests if sessions is None else digests[digests["session"].isin(set(sessions))]
    return digest_of([chosen["session"].astype(str).tolist(), chosen["rows"].tolist(), chosen["digest"].tolist()])


def contents_by_session(digests: pd.DataFrame) -> dict[date, tuple[int, str]]:
    """Number of bars and digest per session that has bars, from `session_digests`."""
    rows = zip(digests["session"], digests["rows"], digests["digest"], strict=True)
    return {session: (int(count), str(digest)) for session, count, digest in rows}


def digest_of_actions(warehouse: Warehouse) -> str:
    """One digest of all splits and dividends."""
    return digest_of(warehouse.frame(_ACTIONS).to_numpy().tolist())
