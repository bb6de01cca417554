"""Validation of the stored bars: row conservation, the contract, unique keys, missing symbols, unreported splits.

Every function returns what is wrong; an empty result means that nothing is. Not here: the Dagster checks built on
them (checks), descriptive tables (summary), validation of corporate actions (actions).
"""

from __future__ import annotations

from collections.abc import Sequence

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


def conservation_errors(warehouse: Warehouse, lake: Lake) -> list[str]:
    """Violations of received = kept + folded + rejected per payload, and differences to the rows that are stored."""
    with warehouse.read() as connection:
        payloads = connection.execute(load_sql("assets.market", "conservation.sql")).fetchall()
    rows_in_lake = {(batch.number, p.request.key): p.rows for batch in lake.batches() for p in batch.payloads}
    errors = []
    for batch, request, file, received, kept, folded, rejected, stored in payloads:
        in_lake = rows_in_lake.get((batch, request))
        if received != kept + folded + rejected:
            errors.append(f"{file}: {received} rows received, but kept {kept} + folded {folded} + rejected {rejected}")
        if rejected != stored:
            errors.append(f"{file}: {rejected} rows rejected, but {stored} in rejected_bars")
        if received != in_lake:
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


def symbols_without_bars(warehouse: Warehouse, frequency: str, wanted: Sequence[str] | None) -> list[str]:
    """Those of the wanted symbols that have no bar. None: all symbols are wanted, so none is missing."""
    if wanted is None:
        return []
    with warehouse.read() as connection:
        found = connection.execute("SELECT DISTINCT symbol FROM bars WHERE frequency = ?", [frequency]).fetchall()
    return sorted(set(wanted) - {symbol for (symbol,) in found})
