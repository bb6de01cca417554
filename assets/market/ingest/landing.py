"""Which payloads may land: those that can be read as bars, of symbols that no other source provides.

They are validated before they are committed, so that one bad file blocks neither the others nor later ones. The
validated rows are kept for the ingest that follows, which would otherwise validate the same payloads a second time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import duckdb

from assets.market.ingest.contract import PayloadCounts, StagedBatch, stage_batch
from assets.market.ingest.file_warnings import record_warnings
from assets.market.ingest.lake import Lake, Screening
from assets.market.ingest.payloads import Payload, PayloadBatch
from assets.market.ingest.refusals import PayloadsRefusedError, refusal_of
from assets.market.ingest.scales import scale_findings
from resources.calendar import TradingCalendar
from resources.progress import Progress, silent
from resources.publish import digest_of, publish_folder, scratch_folder
from resources.sources.protocol import Request, Source, Wanted
from resources.warehouse import Warehouse, interruptible

STAGED = "staged"
COUNTS = "counts.json"
_OTHER_SOURCES = """
SELECT i.payload, i.symbol, any_value(b.source)
FROM (SELECT DISTINCT symbol, payload FROM {rows}) AS i
JOIN (SELECT DISTINCT symbol, source FROM bars WHERE frequency = $frequency) AS b ON b.symbol = i.symbol
WHERE b.source <> $source GROUP BY i.payload, i.symbol ORDER BY i.payload, i.symbol
"""
_NOT_CLOSED = """
SELECT min(ts)::DATE, max(ts)::DATE FROM read_parquet($rejected)
WHERE rule IN ('not_closed_yet', 'in_the_future') AND ts <= $end
"""
_AGAIN_AT = """
SELECT r.payload, min(g.closes_at) FROM read_parquet($rejected) AS r JOIN grid AS g ON g.ts = r.ts
WHERE r.rule IN ('not_closed_yet', 'in_the_future') GROUP BY r.payload
"""


def land(
    lake: Lake,
    warehouse: Warehouse,
    source: Source,
    wanted: Wanted,
    refresh: bool = False,
    progress: Progress = silent,
) -> tuple[list[Request], PayloadBatch | None]:
    """`Lake.land` of payloads that can be read as bars; refusals are recorded for the check of `bars`.

    Raises:
        PayloadsRefusedError: a payload cannot be fetched or read. The message names each; the others are committed.
    """
    warnings: dict[str, list[str]] = {}

    def screen(batch: PayloadBatch) -> Screening:
        screening = screen_payloads(batch, lake, warehouse)
        warnings.update({key: list(texts) for key, texts in screening.warnings.items()})
        return screening

    try:
        landed = lake.land(source, wanted, refresh, progress, screen)
    except PayloadsRefusedError as error:
        lake.set_refused(source, error.reasons)
        raise
    finally:
        record_warnings(lake, source, warnings)
    lake.set_refused(source, [])
    return landed


def screen_payloads(batch: PayloadBatch, lake: Lake, warehouse: Warehouse) -> Screening:
    """Which of a batch's payloads can be read as bars. Bad ones are found by bisection, so good ones cost one pass."""
    found = _Screened({}, {})
    accepted = _accepted(batch.payloads, batch, lake, warehouse, found)
    if found.refused and accepted:
        # The accepted ones were not validated together yet.
        accepted = _accepted(
            tuple(replace(payload, again_at=None) for payload in accepted), batch, lake, warehouse, found
        )
    return Screening(accepted, found.refused, found.warnings)


@dataclass(frozen=True)
class _Screened:
    """Reasons for refused payloads, and warnings of accepted ones, by request key."""

    refused: dict[str, str]
    warnings: dict[str, list[str]]


def _accepted(
    payloads: tuple[Payload, ...], batch: PayloadBatch, lake: Lake, warehouse: Warehouse, found: _Screened
) -> tuple[Payload, ...]:
    """The accepted payloads; the reasons for the others, and warnings, are added to `found`."""
    if not payloads:
        return ()
    calendar = TradingCalendar(batch.reading.calendar, batch.reading.frequency)
    part = replace(batch, payloads=payloads)
    try:
        with stage_batch(part, [lake.file(p) for p in payloads], calendar, lake.home.scratch / "contract") as staged:
            reasons = symbols_in_use(staged, warehouse)
            if not reasons:
                found.warnings.update({payload.request.key: [] for payload in payloads})
                for finding in (*staged.warnings, *scale_findings(staged, warehouse)):
                    found.warnings[payloads[finding.payload].request.key].append(finding.message)
                timed = _with_again_at(staged, calendar)
                _keep_staged(replace(staged, batch=replace(part, payloads=timed)), lake)
                return timed
    except Exception as error:
        if len(payloads) == 1:
            found.refused[payloads[0].request.key] = refusal_of(error, payloads[0].request.file)
            return ()
        refusal_of(error, "")
        middle = len(payloads) // 2
        halves = (payloads[:middle], payloads[middle:])
        return tuple(payload for half in halves for payload in _accepted(half, batch, lake, warehouse, found))
    found.refused.update({payloads[number].request.key: reason for number, reason in reasons.items()})
    rest = tuple(payload for payload in payloads if payload.request.key not in found.refused)
    return _accepted(rest, batch, lake, warehouse, found)


def symbols_in_use(staged: StagedBatch, warehouse: Warehouse) -> dict[int, str]:
    """Why payloads are refused whose symbols come from another source, by their number in the batch."""
    if not warehouse.exists:
        return {}
    with warehouse.read() as connection:
        accepted = {"accepted": str(staged.accepted)}
        connection.execute("CREATE TEMP TABLE incoming AS FROM read_parquet($accepted)", accepted)
        return symbols_of_other_sources(connection, "incoming", staged.batch)


def symbols_of_other_sources(connection: duckdb.DuckDBPyConnection, rows: str, batch: PayloadBatch) -> dict[int, str]:
    """Why payloads are refused whose symbols come from another source, by their number in the batch.

    Args:
        rows: the table of the batch's accepted rows.
    """
    parameters = {"frequency": batch.reading.frequency, "source": batch.payloads[0].source}
    found = connection.execute(_OTHER_SOURCES.format(rows=rows), parameters).fetchall()
    return {
        number: f"{batch.payloads[number].request.file}: {symbol} at {batch.reading.frequency} already comes from "
        f"source {source!r} in this warehouse; bars of {batch.payloads[number].source!r} are not mixed in. Give this "
        "profile its own home: CANDLECAST_HOME=…"
        for number, symbol, source in reversed(found)
    }


def _with_again_at(staged: StagedBatch, calendar: TradingCalendar) -> tuple[Payload, ...]:
    """The payloads, each with the time from which its rows that are not closed yet can be accepted."""
    payloads = staged.batch.payloads
    parameters = {"rejected": str(staged.rejected), "end": calendar.all_sessions()[-1].to_pydatetime()}
    with interruptible():
        first, last = duckdb.execute(_NOT_CLOSED, parameters).fetchall()[0]
    if first is None:
        return payloads
    grid = calendar.grid(first, last)
    with interruptible(), duckdb.connect() as connection:
        connection.register("grid", grid)
        times: dict[int, datetime] = dict(connection.execute(_AGAIN_AT, {"rejected": str(staged.rejected)}).fetchall())
    return tuple(replace(payload, again_at=times.get(number)) for number, payload in enumerate(payloads))


def _keep_staged(staged: StagedBatch, lake: Lake) -> None:
    """Keep the validated rows until their batch is ingested, for a day at most."""
    target = _staged_folder(staged.batch, lake)
    if target.exists():
        return
    with scratch_folder(target.parent) as folder:
        staged.accepted.rename(folder / staged.accepted.name)
        staged.rejected.rename(folder / staged.rejected.name)
        counts = [(count.received, count.folded, count.rejected, count.aggregated) for count in staged.counts]
        (folder / COUNTS).write_text(json.dumps(counts))
        publish_folder(folder, target)


@contextmanager
def staged_when_landed(
    batch: PayloadBatch, lake: Lake, calendar: TradingCalendar, progress: Progress = silent
) -> Iterator[StagedBatch]:
    """A batch as it was validated when it landed; else validated now."""
    scratch = lake.home.scratch / "contract"
    with scratch_folder(scratch) as own:
        folder = own / STAGED
        # Moved, so that it stays as long as this process needs it.
        with suppress(FileNotFoundError):
            _staged_folder(batch, lake).rename(folder)
        counts = _read_counts(folder / COUNTS)
        if counts is None:
            payload_files = [lake.file(payload) for payload in batch.payloads]
            with stage_batch(batch, payload_files, calendar, scratch, progress) as staged:
                yield staged
            return
        counted = tuple(PayloadCounts(p, *count) for p, count in zip(batch.payloads, counts, strict=True))
        yield StagedBatch(batch, folder / "accepted.parquet", folder / "rejected.parquet", counted)


def _read_counts(file: Path) -> list[tuple[int, int, int, int]] | None:
    return [tuple(count) for count in json.loads(file.read_text())] if file.is_file() else None


def _staged_folder(batch: PayloadBatch, lake: Lake) -> Path:
    content = [[asdict(payload) for payload in batch.payloads], asdict(batch.reading), code_digest()]
    return lake.home.scratch / STAGED / digest_of(content)


@lru_cache(maxsize=1)
def code_digest() -> str:
    """A digest of all code that validates: rows that an older version validated are validated again."""
    sources = sorted(
        (file.name, file.read_text(encoding="utf-8"))
        for folder in ("assets.market.ingest", "assets.market.parsing")
        for file in files(folder).iterdir()
        if file.name.endswith((".py", ".sql"))
    )
    return digest_of(sources)
