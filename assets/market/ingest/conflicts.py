"""Rows that were rejected because of another file of their batch, read again once that file is revised.

Two files of one batch that disagree about a bar are both rejected. When one of them is corrected or removed, the other
is validated again without it, from the lake, and its rows join the batch as versions of the batch that they came with.
Rare, so it costs a second validation instead of a table of rejected candidates. Not here: which version is current.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import duckdb
import pandas as pd

from assets.market.ingest.contract import stage_batch
from assets.market.ingest.lake import Lake
from assets.market.ingest.payloads import Payload, PayloadBatch
from assets.market.ingest.tables import make_table, run_script
from resources.calendar import TradingCalendar
from resources.sql import load_sql

PACKAGE = "assets.market.ingest"
# Known from the moment on at which the revised file came.
_ADD_PAYLOADS = """
INSERT INTO contributed BY NAME
SELECT a.*, c.fetched_at, false AS by_range, false AS removed, true AS reread,
       0 AS received, 0 AS rejected, 0 AS aggregated
FROM added_payloads AS a
JOIN (SELECT p.batch, arg_min(c.fetched_at, c.number) AS fetched_at
      FROM payloads AS p JOIN contributed AS c ON c.request = p.request AND NOT c.by_range AND NOT c.reread
      GROUP BY p.batch) AS c ON c.batch = a.batch
"""


def reread_conflicts(connection: duckdb.DuckDBPyConnection, batch: PayloadBatch, lake: Lake) -> None:
    """Add the rows that conflict with nothing any more to the temporary tables `reread_rows` and `contributed`."""
    frequency: dict[str, object] = {"frequency": batch.reading.frequency}
    run_script(connection, load_sql(PACKAGE, "conflicts.sql"), frequency)
    newest = dict(connection.execute("SELECT request, batch FROM to_reread").fetchall())
    for earlier in lake.batches() if newest else []:
        payloads = [payload for payload in earlier.payloads if newest.get(payload.request.key) == earlier.number]
        if payloads:
            _reread(connection, earlier, payloads, batch, lake)


def _reread(
    connection: duckdb.DuckDBPyConnection,
    earlier: PayloadBatch,
    payloads: Sequence[Payload],
    batch: PayloadBatch,
    lake: Lake,
) -> None:
    """Validate some payloads of an earlier batch together, without its others, and add their rows."""
    first = connection.execute("SELECT count(*) FROM contributed").fetchall()[0][0]
    calendar = TradingCalendar(earlier.reading.calendar, earlier.reading.frequency)
    part = replace(earlier, payloads=tuple(payloads))
    files = [lake.file(payload) for payload in payloads]
    with stage_batch(part, files, calendar, lake.home.scratch / "contract") as staged:
        make_table(connection, "added_payloads", _rows_of(earlier, payloads, first), "*")
        connection.execute(_ADD_PAYLOADS)
        accepted = {"accepted": str(staged.accepted)}
        connection.execute("CREATE OR REPLACE TEMP TABLE reread AS FROM read_parquet($accepted)", accepted)
    values: dict[str, object] = {"frequency": batch.reading.frequency, "first": first}
    run_script(connection, load_sql(PACKAGE, "reread.sql"), values)


def _rows_of(earlier: PayloadBatch, payloads: Sequence[Payload], first: int) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "number": first + number,
                "sha256": payload.sha256,
                "source": payload.source,
                "request": payload.request.key,
                "file": payload.request.file,
                # Other payloads of the batch may have the same content.
                "shared": sum(other.sha256 == payload.sha256 for other in earlier.payloads) > 1,
                "batch": earlier.number,
            }
            for number, payload in enumerate(payloads)
        ]
    )
