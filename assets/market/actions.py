"""Corporate actions: splits and dividends as the bars report them, with factors that adjust earlier prices.

A split of r new shares for one multiplies earlier prices by 1 / r. A dividend multiplies them by 1 − cash / previous
close (as CRSP and Yahoo do), so that the growth of the factors is the total return with dividends reinvested.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from resources.sql import load_sql
from resources.warehouse import Warehouse

if TYPE_CHECKING:
    import pandas as pd

_IMPOSSIBLE = """
SELECT symbol, session, dividend * split AS cash, previous FROM session_actions
WHERE cash >= previous ORDER BY symbol, session
"""
_CONFLICTING = """
SELECT symbol, session, 'split' AS kind, least_split AS one, most_split AS other FROM session_actions WHERE one <> other
UNION ALL
SELECT symbol, session, 'dividend', least_cash, most_cash FROM session_actions WHERE least_cash <> most_cash
ORDER BY symbol, session
"""
_UNKNOWN = """
SELECT symbol, frequency, count(*) AS bars, max(session) AS newest FROM bars
WHERE list_contains(flags, 'action_unknown') GROUP BY symbol, frequency ORDER BY newest DESC, symbol, frequency
"""
_DIFFERING = """
SELECT symbol, session, dividend, split FROM bars
WHERE frequency = $frequency AND contains(actions, 'differs from adjusted close') ORDER BY session DESC, symbol
"""
_COUNTS = "SELECT (SELECT count(*) FROM added), (SELECT count(*) FROM withdrawn), (SELECT count(*) FROM reported)"
_DELETE = """
DELETE FROM corporate_actions USING withdrawn AS w
WHERE corporate_actions.symbol = w.symbol AND corporate_actions.ex_date = w.ex_date AND corporate_actions.kind = w.kind
"""


@dataclass(frozen=True)
class ActionChanges:
    """Row counts of a refresh: added, withdrawn, and the total afterwards."""

    added: int
    withdrawn: int
    total: int


def refresh_actions(warehouse: Warehouse) -> ActionChanges:
    """Bring `corporate_actions` up to date with `bars`. Nothing is written if nothing changed."""
    with warehouse.read() as connection:
        changes = _compare(connection)
    if not changes.added and not changes.withdrawn:
        return changes
    with warehouse.write() as connection:
        changes = _compare(connection)
        connection.execute(_DELETE)
        connection.execute("INSERT INTO corporate_actions FROM added ORDER BY symbol, ex_date, kind")
    return changes


def actions_differ(warehouse: Warehouse) -> ActionChanges | None:
    """What a refresh would change; None: `corporate_actions` agrees with `bars`, or there is no warehouse yet."""
    if not warehouse.exists:
        return None
    with warehouse.read() as connection:
        changes = _compare(connection)
    return changes if changes.added or changes.withdrawn else None


def impossible_dividends(warehouse: Warehouse) -> pd.DataFrame:
    """Dividends of at least the previous close, which are not used: symbol, session, cash, previous."""
    return _session_actions(warehouse, _IMPOSSIBLE)


def conflicting_actions(warehouse: Warehouse) -> pd.DataFrame:
    """Sessions whose bars report different actions, which are not used: symbol, session, kind, one, other."""
    return _session_actions(warehouse, _CONFLICTING)


def unknown_actions(warehouse: Warehouse) -> pd.DataFrame:
    """Series with bars for which no source reports whether there was an action: symbol, frequency, bars, newest."""
    return warehouse.frame(_UNKNOWN)


def differing_actions(warehouse: Warehouse, frequency: str) -> pd.DataFrame:
    """Bars whose stated actions differ from the source's adjusted close: symbol, session, dividend, split."""
    return warehouse.frame(_DIFFERING, {"frequency": frequency})


def _session_actions(warehouse: Warehouse, query: str) -> pd.DataFrame:
    with warehouse.read() as connection:
        connection.execute(load_sql("assets.market", "session_actions.sql"))
        return connection.execute(query).df()


def _compare(connection: duckdb.DuckDBPyConnection) -> ActionChanges:
    """Temporary tables `reported`, `added` and `withdrawn`, and their sizes."""
    connection.execute(load_sql("assets.market", "session_actions.sql"))
    connection.execute(f"CREATE TEMP TABLE reported AS {load_sql('assets.market', 'actions.sql')}")
    connection.execute("CREATE TEMP TABLE added AS FROM reported EXCEPT FROM corporate_actions")
    connection.execute("CREATE TEMP TABLE withdrawn AS FROM corporate_actions EXCEPT FROM reported")
    added, withdrawn, total = connection.execute(_COUNTS).fetchall()[0]
    return ActionChanges(added, withdrawn, total)
