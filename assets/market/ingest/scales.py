"""Prices of a batch that differ by a power of ten from those of the same symbol in other files: another unit.

Needs the warehouse, so it is compared when payloads land. Not here: magnitudes within one file (findings).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from assets.market.ingest.contract import StagedBatch
from assets.market.ingest.findings import Finding
from resources.sql import load_sql
from resources.warehouse import Warehouse

PACKAGE = "assets.market.ingest"
# Of a decimal logarithm: a week's move of a fifth is no other unit.
TOLERANCE = 0.08


def scale_findings(staged: StagedBatch, warehouse: Warehouse) -> list[Finding]:
    """A warning per file and symbol whose closes are 10 to 10,000 times those of another file, or such a part."""
    payloads = staged.batch.payloads
    if all(payload.source != "files" for payload in payloads):
        return []
    parameters = {
        "accepted": str(staged.accepted),
        "requests": [payload.request.key for payload in payloads],
        "files": [payload.request.file for payload in payloads],
        "tolerance": TOLERANCE,
    }
    with _stored(warehouse) as connection:
        rows = connection.execute(load_sql(PACKAGE, "other_scale.sql"), parameters).fetchall()
    findings = []
    for number, symbol, other, ratio, pairs, session in rows:
        factor = 10.0 ** round(math.log10(ratio))
        scale = staged.batch.reading.scale.get("price", 1.0) / factor
        message = (
            f"{payloads[number].request.file}: closes of {symbol} are about {factor:g} times those of {other} on the "
            f"same or near sessions ({pairs:,} pairs, from {session}): if its unit is another, set "
            f"market.scale.price = {scale:g} for it, in a profile of its own if other files do not need it"
        )
        findings.append(Finding(number, "warning", message, {"scale": {"price": scale}}))
    return findings


@contextmanager
def _stored(warehouse: Warehouse) -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse, or its empty tables before the first ingest."""
    if warehouse.exists:
        with warehouse.read() as connection:
            yield connection
        return
    with duckdb.connect() as connection:
        connection.execute(load_sql("resources", "schema.sql"))
        yield connection
