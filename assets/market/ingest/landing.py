"""Which payloads may land: those that can be read as bars, of symbols that no other source gives.

Judged before they are committed, so that one bad file keeps none of the others out and none that come later. What was
judged is handed over to the ingest that follows, which would otherwise judge the same payloads a second time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import duckdb

from assets.market.ingest.contract import Counted, Staged, staged
from assets.market.ingest.lake import Batch, Judgement, Lake, Landed, PayloadsRefusedError, reason_of
from resources.calendar import TradingCalendar
from resources.progress import Progress, silent
from resources.publish import digest_of, publish_folder, scratch_folder
from resources.sources.protocol import Request, Source, Wanted
from resources.warehouse import Warehouse, interruptible

HANDED_OVER = "judged"
COUNTS = "counts.json"
_FOREIGN = """
SELECT i.payload, i.symbol, any_value(b.source)
FROM (SELECT DISTINCT symbol, payload FROM {rows}) AS i
JOIN (SELECT DISTINCT symbol, source FROM bars WHERE frequency = $frequency) AS b ON b.symbol = i.symbol
WHERE b.source <> $source GROUP BY i.payload, i.symbol ORDER BY i.payload, i.symbol
"""
_UNFINISHED = """
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
) -> tuple[list[Request], Batch | None]:
    """`Lake.land` of payloads that can be read as bars; what is refused is noted for the check of bars.

    Raises:
        PayloadsRefusedError: some payload cannot be had or read. The message names each; the others are committed.
    """
    try:
        landed = lake.land(source, wanted, refresh, progress, lambda batch: judgement_of(batch, lake, warehouse))
    except PayloadsRefusedError as error:
        lake.note_refused(source, error.reasons)
        raise
    lake.note_refused(source, [])
    return landed


def judgement_of(batch: Batch, lake: Lake, warehouse: Warehouse) -> Judgement:
    """Which of a batch's payloads are sound. A bad one is found by halves, so a good batch is judged once."""
    refused: dict[str, str] = {}
    sound = _sound(batch.payloads, batch, lake, warehouse, refused)
    if refused and sound:
        # What the sound ones are together was not looked at yet.
        sound = _sound(tuple(replace(payload, again_at=None) for payload in sound), batch, lake, warehouse, refused)
    return Judgement(sound, refused)


def _sound(
    payloads: tuple[Landed, ...], batch: Batch, lake: Lake, warehouse: Warehouse, refused: dict[str, str]
) -> tuple[Landed, ...]:
    if not payloads:
        return ()
    calendar = TradingCalendar(batch.reading.calendar, batch.reading.frequency)
    part = replace(batch, payloads=payloads)
    try:
        with staged(part, [lake.file(p) for p in payloads], calendar, lake.home.scratch / "contract") as judged:
            foreign = foreign_in(judged, warehouse)
            if not foreign:
                timed = _with_moments(judged, calendar)
                _hand_over(replace(judged, batch=replace(part, payloads=timed)), lake)
                return timed
    except Exception as error:
        if len(payloads) == 1:
            refused[payloads[0].request.key] = reason_of(error, payloads[0].request.file)
            return ()
        reason_of(error, "")
        middle = len(payloads) // 2
        halves = (payloads[:middle], payloads[middle:])
        return tuple(payload for half in halves for payload in _sound(half, batch, lake, warehouse, refused))
    refused.update({payloads[number].request.key: told for number, told in foreign.items()})
    rest = tuple(payload for payload in payloads if payload.request.key not in refused)
    return _sound(rest, batch, lake, warehouse, refused)


def foreign_in(judged: Staged, warehouse: Warehouse) -> dict[int, str]:
    """Why payloads may not be mixed with the bars in the warehouse, by their number in the batch."""
    if not warehouse.exists:
        return {}
    with warehouse.read() as connection:
        connection.execute("CREATE TEMP TABLE incoming AS FROM read_parquet($kept)", {"kept": str(judged.kept)})
        return says_of_another_source(connection, "incoming", judged.batch)


def says_of_another_source(connection: duckdb.DuckDBPyConnection, rows: str, batch: Batch) -> dict[int, str]:
    """Why payloads may not be mixed with the bars that are there, by their number in the batch."""
    parameters = {"frequency": batch.reading.frequency, "source": batch.payloads[0].source}
    return {
        number: f"{batch.payloads[number].request.file}: {symbol} at {batch.reading.frequency} already comes from "
        f"source {source!r} in this warehouse; bars of {batch.payloads[number].source!r} are not mixed in. Give this "
        "profile its own home: CANDLECAST_HOME=…"
        for number, symbol, source in reversed(connection.execute(_FOREIGN.format(rows=rows), parameters).fetchall())
    }


def _with_moments(judged: Staged, calendar: TradingCalendar) -> tuple[Landed, ...]:
    """The payloads, each with the moment from which its unfinished rows can be taken."""
    payloads = judged.batch.payloads
    parameters = {"rejected": str(judged.rejected), "end": calendar.all_sessions()[-1].to_pydatetime()}
    with interruptible():
        first, last = duckdb.execute(_UNFINISHED, parameters).fetchall()[0]
    if first is None:
        return payloads
    grid = calendar.grid(first, last)
    with interruptible(), duckdb.connect() as connection:
        connection.register("grid", grid)
        moments: dict[int, datetime] = dict(
            connection.execute(_AGAIN_AT, {"rejected": str(judged.rejected)}).fetchall()
        )
    return tuple(replace(payload, again_at=moments.get(number)) for number, payload in enumerate(payloads))


def _hand_over(judged: Staged, lake: Lake) -> None:
    """Keep what was judged until its batch is ingested, or for a day."""
    target = _place(judged.batch, lake)
    if target.exists():
        return
    with scratch_folder(target.parent) as folder:
        judged.kept.rename(folder / judged.kept.name)
        judged.rejected.rename(folder / judged.rejected.name)
        counts = [(count.received, count.folded, count.rejected) for count in judged.counts]
        (folder / COUNTS).write_text(json.dumps(counts))
        publish_folder(folder, target)


@contextmanager
def handed_over(batch: Batch, lake: Lake, calendar: TradingCalendar, progress: Progress = silent) -> Iterator[Staged]:
    """A batch as it was judged when it landed; else judged now."""
    folder = _place(batch, lake)
    counts = _read_counts(folder / COUNTS)
    if counts is None:
        payload_files = [lake.file(payload) for payload in batch.payloads]
        with staged(batch, payload_files, calendar, lake.home.scratch / "contract", progress) as judged:
            yield judged
        return
    counted = tuple(Counted(p, *count) for p, count in zip(batch.payloads, counts, strict=True))
    yield Staged(batch, folder / "kept.parquet", folder / "rejected.parquet", counted)
    shutil.rmtree(folder, ignore_errors=True)


def _read_counts(file: Path) -> list[tuple[int, int, int]] | None:
    return [tuple(count) for count in json.loads(file.read_text())] if file.is_file() else None


def _place(batch: Batch, lake: Lake) -> Path:
    known = [[asdict(payload) for payload in batch.payloads], asdict(batch.reading), _rules()]
    return lake.home.scratch / HANDED_OVER / digest_of(known)


@lru_cache(maxsize=1)
def _rules() -> str:
    """A digest of everything that judges: what an older version judged is judged again."""
    here = sorted(
        (file.name, file.read_text(encoding="utf-8"))
        for folder in ("assets.market.ingest", "assets.market.parsing")
        for file in files(folder).iterdir()
        if file.name.endswith((".py", ".sql"))
    )
    return digest_of(here)
