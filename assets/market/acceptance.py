"""Validation of the stored bars: row conservation, the contract, unique keys, missing symbols, unreported splits.

Every function returns what is wrong; an empty result means that nothing is. Not here: the Dagster checks built on
them (checks), descriptive tables (summary), validation of corporate actions (actions).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from assets.market.ingest.lake import Lake
from resources.sql import load_sql
from resources.warehouse import Warehouse

_DUPLICATES = """
SELECT symbol, ts, frequency, count(*) AS rows FROM bars GROUP BY ALL HAVING count(*) > 1 LIMIT 20
"""
_POSSIBLE_SPLITS = """
SELECT symbol, session, close, flags FROM bars
WHERE frequency = $frequency AND list_contains(flags, 'looks_like_split') ORDER BY session DESC, symbol
"""

# Fewer sessions do not tell a leak from chance.
LEAK_SESSIONS = 120


def missing_payloads(lake: Lake) -> list[str]:
    """The payloads in use whose file is not in the lake, or is empty, by request."""
    return [
        f"{payload.request.file}: {payload.source}/{payload.sha256[:12]}….parquet"
        for payload, _ in lake.current().values()
        if payload.rows and not (lake.file(payload).is_file() and lake.file(payload).stat().st_size)
    ]


def conservation_errors(warehouse: Warehouse, lake: Lake) -> list[str]:
    """Violations of received = kept + folded + rejected per payload, and differences to the rows that are stored."""
    with warehouse.read() as connection:
        payloads = connection.execute(load_sql("assets.market", "conservation.sql")).fetchall()
    set_aside = lake.set_aside()
    rows_in_lake = {(batch.number, p.request.key): p.rows for batch in lake.batches() for p in batch.payloads}
    errors = []
    for batch, request, file, received, kept, folded, rejected, stored in payloads:
        in_lake = rows_in_lake.get((batch, request))
        if received != kept + folded + rejected:
            errors.append(f"{file}: {received} rows received, but kept {kept} + folded {folded} + rejected {rejected}")
        if rejected != stored:
            errors.append(f"{file}: {rejected} rows rejected, but {stored} in rejected_bars")
        if received != in_lake and batch not in set_aside:
            errors.append(f"{file}: {received} rows received, but {in_lake} in the lake")
    return errors + _total_errors(warehouse)


def _total_errors(warehouse: Warehouse) -> list[str]:
    with warehouse.read() as connection:
        kept, single, versions = connection.execute(load_sql("assets.market", "kept_rows.sql")).fetchall()[0]
    if kept == single + versions:
        return []
    return [f"{kept} rows kept, but {single} bars of one version and {versions} versions in bar_versions"]


def contract_violations(warehouse: Warehouse, frequency: str) -> pd.DataFrame:
    """The first 20 stored bars that violate the contract: symbol, ts, violation."""
    return warehouse.frame(load_sql("assets.market", "violations.sql"), {"frequency": frequency})


def duplicate_keys(warehouse: Warehouse) -> pd.DataFrame:
    """The first 20 keys that are stored more than once: symbol, ts, frequency, rows."""
    return warehouse.frame(_DUPLICATES)


def possible_splits(warehouse: Warehouse, frequency: str) -> pd.DataFrame:
    """Bars with an overnight price change at a split ratio and no reported split: symbol, session, close, flags."""
    return warehouse.frame(_POSSIBLE_SPLITS, {"frequency": frequency})


def leak_signs(warehouse: Warehouse, frequency: str) -> pd.DataFrame:
    """Signs that bars hold the price of another day, the strongest of each symbol.

    Columns symbol, first, last (sessions), sessions (their number), sign, value, limit.

    A close of a later day is undone overnight (`overnight_against_move`: correlation of the overnight move with the
    move of the session before). A close of an earlier day lies outside the next session's range in half of the
    sessions (`outside_next_range`). The ranges of real sessions are alike from day to day (`range_autocorrelation`).
    Judged over all sessions of a symbol and over periods of 250. The limits allow for chance; of 115 US stocks over 21
    years the lowest correlation was -0.15 (-0.41 within a period) and the highest share outside 33 % (48 %). With
    closes shifted by a day they are below -0.76, and by a day in the other direction above 46 %. Bars within a session
    are put together: a shift by one intraday bar is not found.
    """
    parameters = {"frequency": frequency, "fewest": LEAK_SESSIONS}
    found = warehouse.frame(load_sql("assets.market", "leak_signs.sql"), parameters)
    chance = 3 / np.sqrt(found["sessions"])
    limits = {
        "overnight_against_move": -0.35 - chance,
        "outside_next_range": -0.4 - chance,
        "range_autocorrelation": -chance,
    }
    signs = [
        found.assign(sign=sign, value=found[sign], limit=limit, excess=limit - value)[value < limit]
        for sign, limit in limits.items()
        for value in (-found[sign] if sign == "outside_next_range" else found[sign],)
    ]
    strongest = pd.concat(signs).sort_values(["symbol", "excess"], ascending=[True, False]).drop_duplicates("symbol")
    strongest["limit"] = strongest["limit"].where(strongest["value"] < 0, -strongest["limit"])
    shown: pd.DataFrame = strongest[["symbol", "first", "last", "sessions", "sign", "value", "limit"]]
    return shown


def symbols_without_bars(warehouse: Warehouse, frequency: str, wanted: Sequence[str] | None) -> list[str]:
    """Those of the wanted symbols that have no bar. None: all symbols are wanted, so none is missing."""
    if wanted is None:
        return []
    with warehouse.read() as connection:
        found = connection.execute("SELECT DISTINCT symbol FROM bars WHERE frequency = ?", [frequency]).fetchall()
    return sorted(set(wanted) - {symbol for (symbol,) in found})
