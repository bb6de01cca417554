"""Pending sessions: those whose bars are missing or would change. Cheap where the source has nothing new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from assets.market.actions import actions_differ
from assets.market.ingest.ingested import is_outdated, last_ingested
from assets.market.ingest.lake import Lake, utc_now
from assets.market.ingest.payloads import Payload, PayloadBatch
from assets.market.ingest.refusals import refusal_of
from resources.calendar import TradingCalendar
from resources.layout import Home
from resources.publish import scratch_folder
from resources.settings import Settings
from resources.sources.protocol import Request, Source, Wanted
from resources.warehouse import Warehouse


def wanted_by(settings: Settings, first: date, last: date) -> Wanted:
    """What a run over the sessions from `first` to `last` asks of its source."""
    symbols = None if settings.market.symbols == "all" else tuple(settings.market.symbols)
    return Wanted(symbols, first, last, settings.market.frequency)


def pending_sessions(
    settings: Settings,
    home: Home,
    warehouse: Warehouse,
    calendar: TradingCalendar,
    source: Source,
    now: datetime | None = None,
) -> list[date]:
    """The sessions whose bars are missing or would change, oldest first; only those from market.start to market.end.

    A payload that changes no bar counts for the newest session, so that its rejected rows are stored too; so does one
    that cannot be fetched or read, so that the next run ingests the others and names it.

    Corporate actions that do not follow from the bars, as a run leaves them that was killed between the two, are
    brought up to date by the run of the newest session.

    With nothing new it hashes the source's files and reads the warehouse. With something new it validates the new
    payloads as an ingest would, and writes nothing.

    Args:
        now: UTC without a zone; sessions that close later are not pending.
    """
    first, last = due(settings, calendar, now)
    sessions = calendar.covered_sessions(first, last)
    # The newest with a partition, which opens at 00:00 UTC after the session.
    today = (now or datetime.now(UTC)).date()
    newest = [day for day in sessions if day < today][-1:]
    lake = Lake(home)
    waiting = lake.batches(after=last_ingested(warehouse))
    missing = lake.missing(source, wanted_by(settings, first, last)) if sessions else []
    if not missing and not waiting:
        return newest if is_outdated(warehouse) or actions_differ(warehouse) else []
    if source.by_range and not last_ingested(warehouse):
        return sessions
    if source.by_range:
        changed = {day for request in missing for day in sessions if _contains(request, day)}
    else:
        changed = _changed_by(missing, source, home, warehouse)
    for batch in waiting:
        changed |= _changed(batch, [(payload, lake.file(payload)) for payload in batch.payloads], home, warehouse)
    # A payload that changes no session still has rows to reject or fold: the run of the newest session ingests it.
    return [day for day in sessions if day in changed] or newest


def due(settings: Settings, calendar: TradingCalendar, now: datetime | None = None) -> tuple[date, date]:
    """The first and the last session that can have bars by now."""
    closed = calendar.closed_by(now or datetime.now(UTC).replace(tzinfo=None))
    return settings.market.start, min(settings.market.end or closed, closed)


def _contains(request: Request, day: date) -> bool:
    return (request.first is None or day >= request.first) and (request.last is None or day <= request.last)


def _changed_by(missing: Sequence[Request], source: Source, home: Home, warehouse: Warehouse) -> set[date]:
    if not missing:
        return set()
    import pyarrow.parquet

    with scratch_folder(home.scratch / "pending") as folder:
        payloads = []
        for number, request in enumerate(missing):
            file = folder / f"{number}.parquet"
            try:
                sha256 = source.fetch(request, file)
                rows = pyarrow.parquet.read_metadata(file).num_rows
            except Exception as error:
                # Raised again where the file is not the cause.
                refusal_of(error, request.file)
            else:
                payloads.append((Payload(source.name, request, sha256, utc_now(), rows), file))
        return _changed(PayloadBatch(1 << 40, source.reading, ()), payloads, home, warehouse)


def _changed(
    batch: PayloadBatch, payloads: Sequence[tuple[Payload, Path]], home: Home, warehouse: Warehouse
) -> set[date]:
    """The sessions that some payloads of a batch change. Bad ones, which the run will name, are found by bisection."""
    if not payloads:
        return set()
    from assets.market.ingest.contract import stage_batch
    from assets.market.ingest.revisions import sessions_changed

    calendar = TradingCalendar(batch.reading.calendar, batch.reading.frequency)
    part = replace(batch, payloads=tuple(payload for payload, _ in payloads))
    try:
        with (
            stage_batch(part, [file for _, file in payloads], calendar, home.scratch / "contract") as staged,
            warehouse.read() as connection,
        ):
            return set(sessions_changed(connection, staged, Lake(home)))
    except Exception as error:
        refusal_of(error, "")
    middle = len(payloads) // 2
    halves = (payloads[:middle], payloads[middle:]) if middle else ()
    return {day for half in halves for day in _changed(batch, half, home, warehouse)}
