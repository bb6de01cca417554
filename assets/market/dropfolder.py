"""The drop folder: new files are judged, put into the lake, and moved to `done/` or `refused/` with a note beside them.

A file that is still being copied is left until it is complete. What is taken in is committed to the lake first and
moved second, so a kill in between is made good by the next call. Not here: the sensor (orchestration), and the
warehouse, which the `bars` asset fills from the lake.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

import duckdb
import pyarrow.parquet

from assets.market.contract import Staged, staged
from assets.market.lake import Batch, Lake, Landed, utc_now
from assets.market.rules import REASONS
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.layout import Home
from resources.publish import publish_bytes, scratch_folder
from resources.sources.dropped import DroppedFiles
from resources.sources.files import PARQUET_ENDINGS, ending_of
from resources.sources.protocol import Reading, Wanted

DONE, REFUSED = "done", "refused"
NOTE = ".json"
# A file is complete when nobody wrote to it for this long.
QUIET_SECONDS = 10.0
# A Parquet file without its end is still being copied; after this long it never will be whole.
PATIENCE_SECONDS = 3600.0
MOST_EXAMPLES = 20


@dataclass(frozen=True)
class Taken:
    """What became of one dropped file, as written in the note beside it."""

    file: str
    outcome: str
    reason: str = ""
    sha256: str = ""
    received: int = 0
    rejected: int = 0
    rejections: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)


def take_in(folder: Path, reading: Reading, home: Home, now: float | None = None) -> list[Taken]:
    """Take in every complete file of a drop folder.

    A file of which no row keeps the contract is refused; one with some bad rows is taken, and its note lists them.

    Args:
        reading: how its files are to be read; that of the source `files` (`build_source(settings).reading`).
        now: seconds since 1970, for "complete".

    Returns:
        What became of each, in order of name. Sessions to run are then `pending_sessions(…)`'s to say.
    """
    taken = []
    for file in complete_files(folder, time.time() if now is None else now):
        try:
            fate = _judge(file, reading, home)
            if fate.outcome == DONE:
                _commit(file, reading, home)
        except CandlecastError as error:
            fate = Taken(file.name, REFUSED, str(error))
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
    quiet = now - file.stat().st_mtime
    if quiet < QUIET_SECONDS:
        return False
    if ending_of(file).lower() in PARQUET_ENDINGS and quiet < PATIENCE_SECONDS:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - 4))
            return stream.read() == b"PAR1"
    return file.stat().st_size > 0 or quiet >= PATIENCE_SECONDS


def _judge(file: Path, reading: Reading, home: Home) -> Taken:
    source = DroppedFiles((file,), reading)
    request = source.plan(_ANYTHING)[0]
    with scratch_folder(home.scratch / "drop") as scratch:
        payload = scratch / "payload.parquet"
        sha256 = source.fetch(request, payload)
        rows = pyarrow.parquet.read_metadata(payload).num_rows
        batch = Batch(0, reading, (Landed(source.name, request, sha256, utc_now(), rows),))
        calendar = TradingCalendar(reading.calendar, reading.frequency)
        with staged(batch, [payload], calendar, home.scratch / "contract") as judged:
            return _fate(file.name, sha256, judged)


def _fate(name: str, sha256: str, judged: Staged) -> Taken:
    count = judged.counts[0]
    sessions = _column(f"SELECT DISTINCT session::VARCHAR FROM read_parquet('{judged.kept}') ORDER BY 1")
    found = duckdb.execute(
        f"SELECT rule, count(*) FROM read_parquet('{judged.rejected}') GROUP BY rule ORDER BY 2 DESC, 1"
    )
    rejections = dict(found.fetchall())
    examples = _column(
        f"SELECT 'row ' || row_number || ', ' || rule || ': ' || received FROM read_parquet('{judged.rejected}') "
        f"ORDER BY row_number LIMIT {MOST_EXAMPLES}"
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


def _commit(file: Path, reading: Reading, home: Home) -> None:
    Lake(home).land(DroppedFiles((file,), reading), _ANYTHING)


def _move(file: Path, folder: Path, fate: Taken) -> None:
    """Note first, file second: a file is never there without its note."""
    folder.mkdir(exist_ok=True)
    target = folder / file.name
    if target.exists():
        target = (
            folder / f"{file.name.removesuffix(ending_of(file))}.{fate.sha256[:8] or int(time.time())}{ending_of(file)}"
        )
    publish_bytes(target.with_name(target.name + NOTE), json.dumps(asdict(fate), indent=1).encode())
    file.replace(target)


def _column(sql: str) -> list[str]:
    return [value for (value,) in duckdb.execute(sql).fetchall()]


_ANYTHING = Wanted(None, date.min, date.max, "")


def sessions_taken(taken: Sequence[Taken]) -> list[date]:
    """The sessions that accepted files have bars of, oldest first."""
    return sorted({date.fromisoformat(day) for fate in taken if fate.outcome == DONE for day in fate.sessions})
