"""What the warehouse has of the lake: its newest batch, and whether its market tables are of an earlier version.

Not here: which sessions are missing (pending), how batches are ingested (ingest).
"""

from __future__ import annotations

from resources.warehouse import Warehouse

# A table of schema versions 1 and 2, before bar_versions: the market tables must be rebuilt.
OUTDATED_TABLE = "superseded_bars"
NEWEST_BATCH = "SELECT coalesce(max(batch), 0) FROM payloads"


def last_ingested(warehouse: Warehouse) -> int:
    """The number of the newest batch in the warehouse; 0: none."""
    if not warehouse.exists:
        return 0
    with warehouse.read() as connection:
        return int(connection.execute(NEWEST_BATCH).fetchall()[0][0])


def is_outdated(warehouse: Warehouse) -> bool:
    """Whether the market tables are from before `bar_versions`, so that the next ingest rebuilds them."""
    if not warehouse.exists:
        return False
    with warehouse.read() as connection:
        found = connection.execute("SELECT table_name FROM information_schema.tables").fetchall()
    return (OUTDATED_TABLE,) in found
