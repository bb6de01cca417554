"""Splits and dividends, from what the bars say, as factors that carry earlier prices into later terms.

A split of r new shares for one multiplies earlier prices by 1 / r. A dividend multiplies them by 1 − cash / the close
before it (CRSP's and Yahoo's way), so that the growth of the factors is the total return of holding and reinvesting.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import pandas as pd

from resources.calendar import DAILY
from resources.warehouse import Warehouse

# A session's actions are read from one frequency: the one that says most of them, then the longest, 1d before 1h before
# 5min. Several bars of a session may repeat an action; where they tell different ones, none is taken. What was derived
# from an adjusted close happened at any time since the frequency's session before: where another frequency has that
# time's sessions and tells the action there, it is the same one.
_SEEN = f"""
WITH told AS MATERIALIZED (
    SELECT symbol, frequency, session, arg_max(close, ts) AS close, count(*) AS bars,
           min(CASE WHEN actions IS NULL OR actions = 'unknown' THEN 0
                    WHEN suffix(actions, 'unknown') THEN 1 ELSE 2 END) AS said,
           min(dividend) FILTER (dividend > 0) AS least_cash, max(dividend) FILTER (dividend > 0) AS most_cash,
           min(split) FILTER (split <> 1) AS least_split, max(split) FILTER (split <> 1) AS most_split,
           arg_min(actions, ts) FILTER (dividend > 0 OR split <> 1) AS origin,
           arg_min(source, ts) AS source,
           arg_min(payload_sha256, ts) AS payload_sha256, min(available_at) AS available_at
    FROM bars
    GROUP BY symbol, frequency, session
),
several AS (SELECT symbol FROM told GROUP BY symbol HAVING min(frequency) <> max(frequency)),
compared AS (
    SELECT *, lag(session) OVER (PARTITION BY symbol, frequency ORDER BY session) AS since,
           avg(bars) OVER (PARTITION BY symbol, frequency) AS bars_a_session
    FROM told SEMI JOIN several USING (symbol)
),
days AS (
    SELECT *, NULL AS since, NULL AS bars_a_session FROM told ANTI JOIN several USING (symbol)
    UNION ALL
    FROM compared
    QUALIFY row_number() OVER (PARTITION BY symbol, session
                               ORDER BY said DESC, frequency = '{DAILY}' DESC, bars_a_session, frequency) = 1
),
counted AS MATERIALIZED (
    SELECT *, CASE WHEN least_cash = most_cash THEN least_cash ELSE 0 END AS dividend,
           CASE WHEN least_split = most_split THEN least_split ELSE 1 END AS split
    FROM (SELECT *, lag(close) OVER (PARTITION BY symbol ORDER BY session) AS previous FROM days)
    WHERE origin IS NOT NULL
),
twice AS (
    SELECT d.symbol, d.session, bool_or(o.dividend > 0) AS dividend, bool_or(o.split <> 1) AS split
    FROM counted AS d JOIN counted AS o
        ON o.symbol = d.symbol AND o.session > d.since AND o.session < d.session AND o.frequency <> d.frequency
    WHERE d.origin LIKE 'derived%'
    GROUP BY d.symbol, d.session
),
seen AS (
    SELECT c.* REPLACE (CASE WHEN t.dividend THEN 0 ELSE c.dividend END AS dividend,
                        CASE WHEN t.split THEN 1 ELSE c.split END AS split)
    FROM counted AS c LEFT JOIN twice AS t USING (symbol, session)
)
"""
_ACTIONS = f"""
{_SEEN}
SELECT symbol, session AS ex_date, 'split' AS kind, split AS value, 1 / split AS price_factor,
       origin, source, payload_sha256, available_at
FROM seen WHERE split <> 1
UNION ALL
-- Cash is paid on the shares after the split of the same day.
SELECT symbol, session, 'dividend', dividend, 1 - dividend * split / previous,
       origin, source, payload_sha256, available_at
FROM seen WHERE dividend > 0 AND dividend * split < previous
"""
_IMPOSSIBLE = f"""
{_SEEN}
SELECT symbol, session, dividend * split AS cash, previous FROM seen
WHERE cash >= previous ORDER BY symbol, session
"""
_CONTRADICTING = f"""
{_SEEN}
SELECT symbol, session, 'split' AS kind, least_split AS one, most_split AS other FROM seen WHERE one <> other
UNION ALL
SELECT symbol, session, 'dividend', least_cash, most_cash FROM seen WHERE least_cash <> most_cash
ORDER BY symbol, session
"""
_UNKNOWN = """
SELECT symbol, frequency, count(*) AS bars, max(session) AS newest FROM bars
WHERE list_contains(flags, 'action_unknown') GROUP BY symbol, frequency ORDER BY newest DESC, symbol, frequency
"""


@dataclass(frozen=True)
class Refreshed:
    """What a refresh changed: actions added, withdrawn, and all that there are now."""

    added: int
    withdrawn: int
    total: int


def refresh_actions(warehouse: Warehouse) -> Refreshed:
    """Make `corporate_actions` say what `bars` say. Nothing is written where nothing changed."""
    with warehouse.read() as connection:
        added, withdrawn, total = _compare(connection)
    if added or withdrawn:
        with warehouse.write() as connection:
            added, withdrawn, total = _compare(connection)
            connection.execute(
                "DELETE FROM corporate_actions USING withdrawn AS w WHERE corporate_actions.symbol = w.symbol "
                "AND corporate_actions.ex_date = w.ex_date AND corporate_actions.kind = w.kind"
            )
            connection.execute("INSERT INTO corporate_actions FROM added ORDER BY symbol, ex_date, kind")
    return Refreshed(added, withdrawn, total)


def impossible_dividends(warehouse: Warehouse) -> pd.DataFrame:
    """Dividends of at least the whole price of the day before: symbol, session, cash, previous. They are left out."""
    return warehouse.frame(_IMPOSSIBLE)


def unknown_actions(warehouse: Warehouse) -> pd.DataFrame:
    """Bars of which nobody says whether shares were split or a dividend was paid: symbol, frequency, bars, newest."""
    return warehouse.frame(_UNKNOWN)


def contradicting_actions(warehouse: Warehouse) -> pd.DataFrame:
    """Sessions whose bars tell different ones: symbol, session, kind, one, other. They are left out."""
    return warehouse.frame(_CONTRADICTING)


def _compare(connection: duckdb.DuckDBPyConnection) -> tuple[int, int, int]:
    connection.execute(f"CREATE TEMP TABLE said AS {_ACTIONS}")
    connection.execute("CREATE TEMP TABLE added AS FROM said EXCEPT FROM corporate_actions")
    connection.execute("CREATE TEMP TABLE withdrawn AS FROM corporate_actions EXCEPT FROM said")
    counts = "SELECT (SELECT count(*) FROM added), (SELECT count(*) FROM withdrawn), (SELECT count(*) FROM said)"
    added, withdrawn, total = connection.execute(counts).fetchall()[0]
    return added, withdrawn, total
