"""What became of the rows and columns of every file: kept, folded, rejected by which rules, columns not used.

For the asset's page, the report and the end of a command. Not here: rows per rule over all files (summary).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import duckdb
import pandas as pd

from assets.market.ingest.lake import Lake
from assets.market.ingest.landing import code_digest
from assets.market.ingest.payload_columns import find_columns
from assets.market.ingest.payloads import Payload, PayloadBatch
from assets.market.ingest.refusals import inspect_hint
from resources.errors import CandlecastError
from resources.integrity import read_kept_json
from resources.publish import digest_of, publish_bytes
from resources.sql import load_sql
from resources.warehouse import Warehouse

IGNORED = "ignored_columns.json"
COUNTS = ("received", "kept", "folded", "rejected")
# The key of a request of a network source ends with its first and last session.
_RANGE = re.compile(r".*:\d{4}-\d\d-\d\d:\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class FileOutcome:
    """Outcome of the newest version of one file, or of one range of a network source.

    Attributes:
        request: key of the request.
        rules: number of rejected rows and an example per rule, as text; empty: none was rejected.
        lost: rejected rows without bars that were still forming.
        aggregated: those of the folded rows that are part of a bar with other rows.
        ignored: columns of the file that are not used.
    """

    request: str
    source: str
    file: str
    received: int
    kept: int
    folded: int
    rejected: int
    lost: int
    rules: str
    aggregated: int = 0
    ignored: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """One line: counts, rules with an example each, columns that are not used."""
        share = f" ({self.rejected / self.received:.1%})" if self.rejected else ""
        counts = f"{self.received:,} received, {self.kept:,} kept, {self.folded:,} folded"
        counts += f" ({self.aggregated:,} aggregated)" if self.aggregated else ""
        counts += f", {self.rejected:,} rejected"
        ignored = f"; columns ignored: {', '.join(self.ignored)}" if self.ignored else ""
        return f"{self.file}: {counts}{share}{': ' + self.rules if self.rules else ''}{ignored}"


def file_outcomes(warehouse: Warehouse, lake: Lake, frequency: str) -> list[FileOutcome]:
    """The outcome of every file, those with the most lost rows first."""
    ignored = ignored_columns(lake)
    return [replace(one, ignored=ignored.get(one.request, ())) for one in _outcomes(warehouse, frequency)]


def outcomes_frame(outcomes: Sequence[FileOutcome]) -> pd.DataFrame:
    """Outcomes as a table: file, counts (aggregated only where any row is), rules, ignored columns."""
    rows = [(*(getattr(one, name) for name in ("file", *COUNTS, "rules")), ", ".join(one.ignored)) for one in outcomes]
    frame = pd.DataFrame(rows, columns=["file", *COUNTS, "rules", "ignored columns"])
    if any(one.aggregated for one in outcomes):
        frame.insert(1 + COUNTS.index("rejected"), "aggregated", [one.aggregated for one in outcomes])
    return frame


def excess_rejections(warehouse: Warehouse, frequency: str, limit: float) -> list[str]:
    """Files that lost a larger share of their rows than `limit`; the ranges of a network source count together."""
    groups: dict[str, list[FileOutcome]] = {}
    for one in _outcomes(warehouse, frequency):
        groups.setdefault(one.source if _RANGE.fullmatch(one.request) else one.file, []).append(one)
    excess = []
    for name, outcomes in groups.items():
        received, lost = sum(one.received for one in outcomes), sum(one.lost for one in outcomes)
        if lost > limit * received:
            excess.append(
                f"{name}: {lost:,} of {received:,} rows rejected ({lost / received:.1%}; market.max_rejected allows "
                f"{limit:.1%}): {outcomes[0].rules}{inspect_hint(name)}"
            )
    return excess


def ignored_columns(lake: Lake) -> dict[str, tuple[str, ...]]:
    """The columns of every request's newest payload that are not used, by request key.

    A payload never changes, so what was found once is kept in the lake, as long as the code that finds it is the same.
    """
    newest = {payload.request.key: (payload, batch) for batch in lake.batches() for payload in batch.payloads}
    recorded = _recorded(lake)
    found: dict[str, list[str]] = {}
    ignored: dict[str, tuple[str, ...]] = {}
    with duckdb.connect() as connection:
        for key, (payload, batch) in newest.items():
            named = _identity(payload, batch)
            # A payload that is gone, or that its settings refuse, has no columns: other checks name it.
            with suppress(CandlecastError, duckdb.Error):
                found[named] = recorded[named] if named in recorded else _find_ignored(connection, payload, batch, lake)
            ignored[key] = tuple(found.get(named, ()))
    if found != recorded:
        content = {"code": code_digest(), "columns": found}
        publish_bytes(lake.home.lake / IGNORED, json.dumps(content).encode())
    return ignored


def _recorded(lake: Lake) -> dict[str, list[str]]:
    """The columns that an earlier call found, by `_identity`; none, if another version of the code did."""
    content = read_kept_json(lake.home.lake / IGNORED, lake.home.root) or {}
    return dict(content["columns"]) if content.get("code") == code_digest() else {}


def _identity(payload: Payload, batch: PayloadBatch) -> str:
    """A digest of all that decides which columns of a payload are used, beside the code."""
    return digest_of([payload.sha256, payload.request.file, payload.request.symbol, batch.reading_digest])


def _find_ignored(
    connection: duckdb.DuckDBPyConnection, payload: Payload, batch: PayloadBatch, lake: Lake
) -> list[str]:
    return list(find_columns(connection, payload, lake.file(payload), batch.reading).ignored)


def _outcomes(warehouse: Warehouse, frequency: str) -> list[FileOutcome]:
    """The outcome of every file, without its ignored columns."""
    with warehouse.read() as connection:
        sql = load_sql("assets.market", "payload_outcomes.sql")
        rows = connection.execute(sql, {"frequency": frequency}).fetchall()
    return [FileOutcome(*row) for row in rows]
