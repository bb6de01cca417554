"""The drop folder: new files are validated, committed to the lake, and moved to `done/` or `refused/` with a note.

A file that is still being copied is left until it is complete. A file is committed first and moved second, so that the
next call completes what a killed one began. Not here: the sensor (orchestration), and the warehouse, which the `bars`
asset fills from the lake.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path

import duckdb
import pyarrow.parquet

from assets.market.ingest.contract import StagedBatch, stage_batch
from assets.market.ingest.lake import Lake, utc_now
from assets.market.ingest.landing import screen_payloads, symbols_in_use
from assets.market.ingest.payloads import Payload, PayloadBatch
from assets.market.ingest.refusals import refusal_of
from assets.market.ingest.rules import REASONS
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.layout import Home
from resources.publish import publish_bytes, scratch_folder
from resources.sources.dropped import DroppedFiles
from resources.sources.files import PARQUET_ENDINGS, ending_of
from resources.sources.protocol import Reading, Wanted
from resources.warehouse import Warehouse

logger = logging.getLogger("candlecast.market")
DONE, REFUSED = "done", "refused"
NOTE = ".json"
# A file is complete when it was not written to for this long.
QUIET_SECONDS = 10.0
# A Parquet or gzip file without its end is still being copied; after this long it counts as truncated.
TRUNCATED_SECONDS = 3600.0
# Checks a gzip file up to here: decompressing a bomb would block the sensor, and the reader refuses it.
MAX_GZIP_BYTES = 1 << 30
MAX_EXAMPLES = 20
# File systems allow 255: the rest is for the ending, a digest, and the note's own ending.
MAX_NAME_BYTES = 200


@dataclass(frozen=True)
class DroppedFile:
    """The outcome of one dropped file, as written in the note beside it.

    Attributes:
        outcome: `done` or `refused`.
        examples: the first rejected rows, with their rules.
        sessions: those of its bars.
        outside: those of them that are not between market.start and market.end: stored, but without a run.
    """

    file: str
    outcome: str
    reason: str = ""
    sha256: str = ""
    received: int = 0
    rejected: int = 0
    rejections: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)


def take_dropped_files(
    folder: Path,
    reading: Reading,
    home: Home,
    now: float | None = None,
    warehouse: Warehouse | None = None,
    within: tuple[date, date | None] = (date.min, None),
) -> list[DroppedFile]:
    """Commit every complete file of a drop folder to the lake.

    A file without a valid row is refused; one with some bad rows is accepted, and its note lists them. The newest
    delivery wins, also where it is an older file that is dropped again.

    Args:
        reading: how its files are read; that of the source `files` (`build_source(settings).reading`).
        now: seconds since 1970, which decide whether a file is complete.
        warehouse: where the bars are; none: the home's.
        within: market.start and market.end.

    Returns:
        The outcome of each file, by name. `pending_sessions` then has the sessions to run.
    """
    outcomes = []
    for file in complete_files(folder, time.time() if now is None else now):
        try:
            dropped = _validate(file, reading, home, warehouse or Warehouse(home.warehouse))
            if dropped.outcome == DONE:
                landed = _commit(file, reading, home, warehouse or Warehouse(home.warehouse))
                dropped = replace(dropped, outside=_outside(dropped.sessions, *within))
                dropped = replace(dropped, reason=_reason(dropped, landed))
        except Exception as error:
            if not isinstance(error, CandlecastError):
                logger.exception("%s", file.name)
            dropped = DroppedFile(file.name, REFUSED, refusal_of(error, file.name))
        _move(file, folder / dropped.outcome, dropped)
        outcomes.append(dropped)
    return outcomes


def complete_files(folder: Path, now: float) -> list[Path]:
    """The files of a folder that are no longer written to, by name. Links and hidden files are ignored."""
    if not folder.is_dir():
        raise CandlecastError(f"the drop folder {folder} does not exist: create it, or change market.drop")
    return [file for file in sorted(folder.iterdir()) if _is_bar_file(file) and _is_complete(file, now)]


def _is_bar_file(file: Path) -> bool:
    return file.is_file() and not file.is_symlink() and not file.name.startswith((".", "~")) and bool(ending_of(file))


def _is_complete(file: Path, now: float) -> bool:
    stat = file.stat()
    # A copy may keep the modification time of another clock; the change time is of this one.
    quiet = now - (stat.st_mtime if stat.st_mtime <= now else stat.st_ctime)
    if quiet < QUIET_SECONDS:
        if quiet < -QUIET_SECONDS:
            logger.warning(
                "%s: its modification time is in the future, so it is left for now: check the clocks, or touch it",
                file.name,
            )
        return False
    if ending_of(file).lower() in PARQUET_ENDINGS and quiet < TRUNCATED_SECONDS:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - 4))
            return stream.read() == b"PAR1"
    if file.suffix.lower() == ".gz" and quiet < TRUNCATED_SECONDS:
        return _has_gzip_end(file)
    return file.stat().st_size > 0 or quiet >= TRUNCATED_SECONDS


def _has_gzip_end(file: Path) -> bool:
    """Whether a gzip file is complete, as far as it is checked. What is not gzip is left to the reader to refuse."""
    try:
        with gzip.open(file, "rb") as stream:
            for _ in range(MAX_GZIP_BYTES >> 20):
                if not stream.read(1 << 20):
                    return file.stat().st_size > 0
    except EOFError:
        return False
    except (gzip.BadGzipFile, zlib.error):
        return True
    return True


def _validate(file: Path, reading: Reading, home: Home, warehouse: Warehouse) -> DroppedFile:
    source = DroppedFiles((file,), reading)
    request = source.plan(_ANYTHING)[0]
    with scratch_folder(home.scratch / "drop") as scratch:
        payload = scratch / "payload.parquet"
        sha256 = source.fetch(request, payload)
        rows = pyarrow.parquet.read_metadata(payload).num_rows
        batch = PayloadBatch(0, reading, (Payload(source.name, request, sha256, utc_now(), rows),))
        calendar = TradingCalendar(reading.calendar, reading.frequency)
        with stage_batch(batch, [payload], calendar, home.scratch / "contract") as staged:
            for reason in symbols_in_use(staged, warehouse).values():
                raise CandlecastError(reason)
            return _outcome(file.name, sha256, staged)


def _outcome(name: str, sha256: str, staged: StagedBatch) -> DroppedFile:
    count = staged.counts[0]
    accepted, rejected = {"file": str(staged.accepted)}, {"file": str(staged.rejected)}
    sessions = _column("SELECT DISTINCT session::VARCHAR FROM read_parquet($file) ORDER BY 1", accepted)
    found = duckdb.execute("SELECT rule, count(*) FROM read_parquet($file) GROUP BY rule ORDER BY 2 DESC, 1", rejected)
    rejections = dict(found.fetchall())
    examples = _column(
        "SELECT concat_ws(', ', 'row ' || row_number, rule, detail) || ': ' || received FROM read_parquet($file) "
        f"ORDER BY row_number LIMIT {MAX_EXAMPLES}",
        rejected,
    )
    reason = ""
    if not sessions:
        worst = next(iter(rejections), "")
        reason = f"no valid row; most often: {REASONS[worst]}" if worst else "the file has no rows"
    return DroppedFile(
        name,
        DONE if sessions else REFUSED,
        reason,
        sha256,
        count.received,
        count.rejected,
        rejections,
        examples,
        sessions,
    )


def _commit(file: Path, reading: Reading, home: Home, warehouse: Warehouse) -> bool:
    """Commit a file to the lake; False: the lake has it already, and nothing newer came since."""
    lake = Lake(home)
    key = DroppedFiles((file,), reading).plan(_ANYTHING)[0].key
    payloads = [payload for batch in lake.batches() for payload in batch.payloads]
    earlier = [payload for payload in payloads if (payload.request.key + ":").startswith(key + ":")]
    delivery = len({payload.request.key for payload in earlier})
    # The same file again, after a killed call, is not a new delivery. After another payload it is, and once the bars
    # that were not closed yet are over.
    if not earlier or earlier[-1] != payloads[-1] or (earlier[-1].again_at or utc_now()) < utc_now():
        delivery += 1
    source = DroppedFiles((file,), reading, delivery)
    _, batch = lake.land(source, _ANYTHING, screen=lambda batch: screen_payloads(batch, lake, warehouse))
    return batch is not None


def _outside(sessions: Sequence[str], first: date, last: date | None) -> list[str]:
    return [day for day in sessions if not first <= date.fromisoformat(day) <= (last or date.max)]


def _reason(dropped: DroppedFile, landed: bool) -> str:
    reasons = [] if landed else ["nothing changed: the lake has the same file already, and nothing newer came since"]
    if dropped.outside:
        reasons.append(
            f"{len(dropped.outside)} of its {len(dropped.sessions)} sessions ({dropped.outside[0]} … "
            f"{dropped.outside[-1]}) are not between market.start and market.end: their bars are stored, and no run "
            "covers them"
        )
    return "; ".join(reasons)


def _move(file: Path, folder: Path, dropped: DroppedFile) -> None:
    """Write the note first and move the file second: a moved file always has its note."""
    folder.mkdir(exist_ok=True)
    ending = ending_of(file)
    stem = os.fsencode(file.name.removesuffix(ending))[:MAX_NAME_BYTES].decode(errors="ignore")
    target = folder / f"{stem}{ending}"
    if target.exists():
        target = folder / f"{stem}.{dropped.sha256[:8] or int(time.time())}{ending}"
    publish_bytes(target.with_name(target.name + NOTE), json.dumps(asdict(dropped), indent=1).encode())
    file.replace(target)


def _column(sql: str, parameters: dict[str, str]) -> list[str]:
    return [value for (value,) in duckdb.execute(sql, parameters).fetchall()]


_ANYTHING = Wanted(None, date.min, date.max, "")


def sessions_of_dropped_files(dropped: Sequence[DroppedFile]) -> list[date]:
    """The sessions of the bars of accepted files, those that runs can cover, oldest first."""
    return sorted(
        {
            date.fromisoformat(day)
            for file in dropped
            if file.outcome == DONE
            for day in file.sessions
            if day not in file.outside
        }
    )
