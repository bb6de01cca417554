"""The drop folder: new files are judged, put into the lake, and moved to `done/` or `refused/` with a note beside them.

A file that is still being copied is left until it is complete. What is taken in is committed to the lake first and
moved second, so a kill in between is made good by the next call. Not here: the sensor (orchestration), and the
warehouse, which the `bars` asset fills from the lake.
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

from assets.market.ingest.contract import Staged, staged
from assets.market.ingest.lake import Batch, Lake, Landed, reason_of, utc_now
from assets.market.ingest.landing import foreign_in, judgement_of
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
# A file is complete when nobody wrote to it for this long.
QUIET_SECONDS = 10.0
# A Parquet or gzip file without its end is still being copied; after this long it never will be whole.
PATIENCE_SECONDS = 3600.0
# Of a gzip, not further than this: a bomb would hold everything up, and the reader names it.
MOST_LOOKED_AT = 1 << 30
MOST_EXAMPLES = 20
# File systems allow 255; the ending, a digest, and the note's and its unfinished file's own letters come to the rest.
MOST_NAME_BYTES = 200


@dataclass(frozen=True)
class Taken:
    """What became of one dropped file, as written in the note beside it.

    Attributes:
        sessions: those that it has bars of.
        outside: those of them that are not between market.start and market.end: stored, but no run is about them.
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


def take_in(
    folder: Path,
    reading: Reading,
    home: Home,
    now: float | None = None,
    warehouse: Warehouse | None = None,
    within: tuple[date, date | None] = (date.min, None),
) -> list[Taken]:
    """Take in every complete file of a drop folder.

    A file of which no row keeps the contract is refused; one with some bad rows is taken, and its note lists them.
    The newest delivery wins, also where it is an older file that is dropped once more.

    Args:
        reading: how its files are to be read; that of the source `files` (`build_source(settings).reading`).
        now: seconds since 1970, for "complete".
        warehouse: where the bars are; none: in the home.
        within: market.start and market.end.

    Returns:
        What became of each, in order of name. Sessions to run are then `pending_sessions(…)`'s to say.
    """
    taken = []
    for file in complete_files(folder, time.time() if now is None else now):
        try:
            fate = _judge(file, reading, home, warehouse or Warehouse(home.warehouse))
            if fate.outcome == DONE:
                landed = _commit(file, reading, home, warehouse or Warehouse(home.warehouse))
                fate = replace(fate, outside=_outside(fate.sessions, *within))
                fate = replace(fate, reason=_in_words(fate, landed))
        except Exception as error:
            if not isinstance(error, CandlecastError):
                logger.exception("%s", file.name)
            fate = Taken(file.name, REFUSED, reason_of(error, file.name))
        _move(file, folder / fate.outcome, fate)
        taken.append(fate)
    return taken


def complete_files(folder: Path, now: float) -> list[Path]:
    """The files of a folder that nobody is writing to any more, by name. Links and hidden files are never taken."""
    if not folder.is_dir():
        raise CandlecastError(f"the drop folder {folder} does not exist: make it, or change market.drop")
    return [file for file in sorted(folder.iterdir()) if _is_bar_file(file) and _is_complete(file, now)]


def _is_bar_file(file: Path) -> bool:
    return file.is_file() and not file.is_symlink() and not file.name.startswith((".", "~")) and bool(ending_of(file))


def _is_complete(file: Path, now: float) -> bool:
    stat = file.stat()
    # A copy may bring a time of another clock with it; when the file was last changed here, it does not.
    quiet = now - (stat.st_mtime if stat.st_mtime <= now else stat.st_ctime)
    if quiet < QUIET_SECONDS:
        if quiet < -QUIET_SECONDS:
            logger.warning("%s: left until it is no longer of the future: check the clocks, or touch it", file.name)
        return False
    if ending_of(file).lower() in PARQUET_ENDINGS and quiet < PATIENCE_SECONDS:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - 4))
            return stream.read() == b"PAR1"
    if file.suffix.lower() == ".gz" and quiet < PATIENCE_SECONDS:
        return _has_gzip_end(file)
    return file.stat().st_size > 0 or quiet >= PATIENCE_SECONDS


def _has_gzip_end(file: Path) -> bool:
    """Whether a gzip file goes on to its end, as far as one looks; of what is no gzip the reader says so."""
    try:
        with gzip.open(file, "rb") as stream:
            for _ in range(MOST_LOOKED_AT >> 20):
                if not stream.read(1 << 20):
                    return file.stat().st_size > 0
    except EOFError:
        return False
    except (gzip.BadGzipFile, zlib.error):
        return True
    return True


def _judge(file: Path, reading: Reading, home: Home, warehouse: Warehouse) -> Taken:
    source = DroppedFiles((file,), reading)
    request = source.plan(_ANYTHING)[0]
    with scratch_folder(home.scratch / "drop") as scratch:
        payload = scratch / "payload.parquet"
        sha256 = source.fetch(request, payload)
        rows = pyarrow.parquet.read_metadata(payload).num_rows
        batch = Batch(0, reading, (Landed(source.name, request, sha256, utc_now(), rows),))
        calendar = TradingCalendar(reading.calendar, reading.frequency)
        with staged(batch, [payload], calendar, home.scratch / "contract") as judged:
            for told in foreign_in(judged, warehouse).values():
                raise CandlecastError(told)
            return _fate(file.name, sha256, judged)


def _fate(name: str, sha256: str, judged: Staged) -> Taken:
    count = judged.counts[0]
    kept, rejected = {"file": str(judged.kept)}, {"file": str(judged.rejected)}
    sessions = _column("SELECT DISTINCT session::VARCHAR FROM read_parquet($file) ORDER BY 1", kept)
    found = duckdb.execute("SELECT rule, count(*) FROM read_parquet($file) GROUP BY rule ORDER BY 2 DESC, 1", rejected)
    rejections = dict(found.fetchall())
    examples = _column(
        "SELECT 'row ' || row_number || ', ' || rule || ': ' || received FROM read_parquet($file) "
        f"ORDER BY row_number LIMIT {MOST_EXAMPLES}",
        rejected,
    )
    reason = ""
    if not sessions:
        worst = next(iter(rejections), "")
        reason = f"no row keeps the contract, most of them: {REASONS[worst]}" if worst else "the file has no rows"
    return Taken(
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
    """Put a file into the lake; False: it is there already, and nothing newer came since."""
    lake = Lake(home)
    key = DroppedFiles((file,), reading).plan(_ANYTHING)[0].key
    payloads = [payload for batch in lake.batches() for payload in batch.payloads]
    earlier = [payload for payload in payloads if (payload.request.key + ":").startswith(key + ":")]
    delivery = len({payload.request.key for payload in earlier})
    # The same file once more, taken up after a kill, is no new delivery. After another payload it is, and once bars
    # that were still forming are over.
    if not earlier or earlier[-1] != payloads[-1] or (earlier[-1].again_at or utc_now()) < utc_now():
        delivery += 1
    source = DroppedFiles((file,), reading, delivery)
    _, batch = lake.land(source, _ANYTHING, judge=lambda batch: judgement_of(batch, lake, warehouse))
    return batch is not None


def _outside(sessions: Sequence[str], first: date, last: date | None) -> list[str]:
    return [day for day in sessions if not first <= date.fromisoformat(day) <= (last or date.max)]


def _in_words(fate: Taken, landed: bool) -> str:
    told = [] if landed else ["nothing changed: the same file was taken in before, and nothing newer has come since"]
    if fate.outside:
        told.append(
            f"{len(fate.outside)} of its {len(fate.sessions)} sessions ({fate.outside[0]} … {fate.outside[-1]}) are "
            "not between market.start and market.end: their bars are stored, and no run is about them"
        )
    return "; ".join(told)


def _move(file: Path, folder: Path, fate: Taken) -> None:
    """Note first, file second: a file is never there without its note."""
    folder.mkdir(exist_ok=True)
    ending = ending_of(file)
    stem = os.fsencode(file.name.removesuffix(ending))[:MOST_NAME_BYTES].decode(errors="ignore")
    target = folder / f"{stem}{ending}"
    if target.exists():
        target = folder / f"{stem}.{fate.sha256[:8] or int(time.time())}{ending}"
    publish_bytes(target.with_name(target.name + NOTE), json.dumps(asdict(fate), indent=1).encode())
    file.replace(target)


def _column(sql: str, parameters: dict[str, str]) -> list[str]:
    return [value for (value,) in duckdb.execute(sql, parameters).fetchall()]


_ANYTHING = Wanted(None, date.min, date.max, "")


def sessions_taken(taken: Sequence[Taken]) -> list[date]:
    """The sessions that accepted files have bars of and that runs may be about, oldest first."""
    return sorted(
        {
            date.fromisoformat(day)
            for fate in taken
            if fate.outcome == DONE
            for day in fate.sessions
            if day not in fate.outside
        }
    )
