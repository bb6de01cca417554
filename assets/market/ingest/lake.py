"""The lake: every payload as it was received, for ever, and in which order we came to know them.

A payload is `<source>/<sha256>.parquet` with its provenance in a `.json` beside it. What a run landed is committed as
a numbered batch: one small JSON, the write-ahead log from which the warehouse can be rebuilt. No payload and no batch
is ever overwritten. Not here: what the rows mean (contract).
"""

from __future__ import annotations

import errno
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet

from resources.errors import CandlecastError, WarehouseBusyError
from resources.layout import Home
from resources.locks import exclusive_lock
from resources.progress import Progress, silent
from resources.publish import digest_of, publish_bytes, publish_file, scratch_folder
from resources.sources.protocol import NoRowsError, Reading, Request, Source, Wanted

BATCHES = "batches"
REFUSED = "refused.json"
# A range that ends this recently may not be published in full yet.
FRESH_DAYS = 4
# Not the file's fault: trying another file would fail as well, or this one go in later.
_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.ENOMEM}


class PayloadsRefusedError(CandlecastError):
    """Some payloads cannot be had, or not be read as bars; all others of the call are in the lake.

    Args:
        reasons: one a payload.
    """

    def __init__(self, message: str, reasons: Sequence[str]) -> None:
        super().__init__(message)
        self.reasons = list(reasons)


@dataclass(frozen=True)
class Landed:
    """A payload in the lake: what was asked, what came, when.

    Attributes:
        again_at: when the first of the rows that were still forming is over: the same content then says more.
    """

    source: str
    request: Request
    sha256: str
    fetched_at: datetime
    rows: int
    again_at: datetime | None = None


@dataclass(frozen=True)
class Batch:
    """Payloads that became known together. Batches are numbered from 1, in the order of knowledge."""

    number: int
    reading: Reading
    payloads: tuple[Landed, ...]

    @cached_property
    def reading_digest(self) -> str:
        return digest_of(asdict(self.reading))


@dataclass(frozen=True)
class Judgement:
    """What may be committed: the sound payloads, and why each of the others may not, by its request's key."""

    sound: tuple[Landed, ...]
    refused: Mapping[str, str]


Judge = Callable[[Batch], Judgement]


@dataclass(frozen=True)
class Lake:
    """The lake under `home.lake`."""

    home: Home

    def file(self, payload: Landed) -> Path:
        """The payload's Parquet file."""
        return self.home.lake / payload.source / f"{payload.sha256}.parquet"

    def batches(self, after: int = 0) -> list[Batch]:
        """Every committed batch with a number above `after`, in order."""
        files = sorted((self.home.lake / BATCHES).glob("*.json"))
        return [_read_batch(file) for file in files if int(file.stem) > after]

    def current(self) -> dict[str, tuple[Landed, str]]:
        """The newest payload of every request that was ever committed, and how it was read, by the request's key."""
        return {
            payload.request.key: (payload, batch.reading_digest)
            for batch in self.batches()
            for payload in batch.payloads
        }

    def payloads_of(self, source: Source) -> pd.DataFrame:
        """The newest payload of every request: key, file, sha256, rows, fetched_at."""
        held = [payload for payload, _ in self.current().values() if payload.source == source.name]
        rows = [(p.request.key, p.request.file, p.sha256, p.rows, p.fetched_at) for p in held]
        return pd.DataFrame(rows, columns=["key", "file", "sha256", "rows", "fetched_at"])

    def refused(self, source: Source) -> list[str]:
        """What could not be had or read when the source was last asked, in words."""
        file = self.home.lake / REFUSED
        return list(json.loads(file.read_text()).get(source.name, [])) if file.is_file() else []

    def land(
        self,
        source: Source,
        wanted: Wanted,
        refresh: bool = False,
        progress: Progress = silent,
        judge: Judge | None = None,
    ) -> tuple[list[Request], Batch | None]:
        """Fetch what is wanted and not there, and commit it as one batch.

        Killed halfway, the payloads that had arrived stay, uncommitted, and the next call takes them up.

        Args:
            refresh: ask a network source again for ranges that are already there.
            judge: which payloads may be committed; none: all.

        Returns:
            What was missing or changed, and the batch that now holds it; no batch where nothing was.

        Raises:
            PayloadsRefusedError: some payload cannot be had or read. The message names each; the others are committed.
        """
        missing = self.missing(source, wanted, refresh)
        if not missing:
            return [], None
        landed, refused = [], []
        with scratch_folder(self.home.scratch / "lake") as scratch:
            for position, request in enumerate(missing):
                progress(position, len(missing), request.file)
                try:
                    fetched = self._fetched(source, request, scratch, resume=not refresh)
                except Exception as error:
                    refused.append(reason_of(error, request.file))
                else:
                    landed += [fetched] if fetched else []
        progress(len(missing), len(missing))
        if landed and judge:
            judgement = judge(Batch(0, source.reading, tuple(landed)))
            refused += judgement.refused.values()
            for payload in landed:
                if payload.request.key in judgement.refused:
                    self._forget(payload)
            landed = list(judgement.sound)
        batch = self._commit(source, landed) if landed else None
        if refused:
            raise PayloadsRefusedError(
                f"{len(refused)} of {len(missing)} payloads of source {source.name} cannot be had; "
                f"{'the others are in the lake' if landed else 'nothing else was new'}:\n  " + "\n  ".join(refused),
                refused,
            )
        return missing, batch

    def missing(self, source: Source, wanted: Wanted, refresh: bool = False) -> list[Request]:
        """The requests whose payload the lake does not hold as it is now. Cheap: files are only hashed."""
        current = self.current()
        reading = digest_of(asdict(source.reading))
        if not source.by_range:
            held_here = [payload.request for payload, as_read in current.values() if as_read == reading]
            return [
                request
                for request in [*source.plan(wanted), *source.vanished(held_here)]
                if not _is_same(current.get(request.key), source.fingerprint(request), reading)
            ]
        held = [] if refresh else [payload.request for payload, as_read in current.values() if as_read == reading]
        return [rest for request in source.plan(wanted) for rest in _uncovered(request, held)]

    def _fetched(self, source: Source, request: Request, scratch: Path, resume: bool) -> Landed | None:
        """The payload of a request; none where a series that is held has no row of days that are not settled yet."""
        if resume and (earlier := self._uncommitted(source, request)):
            return earlier
        file = scratch / "payload.parquet"
        try:
            sha256 = source.fetch(request, file)
        except NoRowsError as error:
            # A suspension or a delisting, unless nothing was ever had of it: then the name is probably wrong.
            if not self._holds_rows_of(source, request):
                raise
            sha256 = error.sha256
        fetched_at = utc_now()
        if source.by_range:
            request = _as_far_as_it_reaches(request, source.reaches(file), fetched_at)
        rows = pyarrow.parquet.read_metadata(file).num_rows
        if source.by_range and not rows and request.first and request.last and request.last < request.first:
            return None
        landed = Landed(source.name, request, sha256, fetched_at, rows)
        publish_file(file, self.file(landed))
        publish_bytes(self._provenance(landed), _provenance_of(landed, source.reading))
        return landed

    def _holds_rows_of(self, source: Source, request: Request) -> bool:
        return any(
            payload.rows and payload.source == source.name and payload.request.symbol == request.symbol
            for payload, _ in self.current().values()
        )

    def _uncommitted(self, source: Source, request: Request) -> Landed | None:
        """A payload that an earlier, killed call fetched: for files of the same content, for ranges of the same day."""
        tail = digest_of(request.key)[:12]
        committed = {p for batch in self.batches() for p in batch.payloads if p.request.key == request.key}
        moments = {(p.sha256, p.fetched_at) for p in committed}
        newest = max((p.fetched_at for p in committed), default=datetime.min)
        for file in (self.home.lake / source.name).glob(f"*.{tail}.json"):
            content = json.loads(file.read_text())
            landed = _landed(content)
            # What is older than what we came to know since, or was refused under another reading, is no news of then.
            if (landed.sha256, landed.fetched_at) in moments or landed.fetched_at < newest:
                continue
            if digest_of(content.get("reading")) != digest_of(asdict(source.reading)):
                continue
            fresh = (
                landed.sha256 == source.fingerprint(request) if not source.by_range else _is_today(landed.fetched_at)
            )
            if fresh and self.file(landed).is_file():
                return landed
        return None

    def _forget(self, payload: Landed) -> None:
        """Take back the note that a payload arrived: asked again, it is fetched again."""
        self._provenance(payload).unlink(missing_ok=True)

    def note_refused(self, source: Source, reasons: Sequence[str]) -> None:
        """Write down what could not be had or read when a source was asked; nothing: all of it was."""
        file = self.home.lake / REFUSED
        notes = json.loads(file.read_text()) if file.is_file() else {}
        if notes.get(source.name, []) != list(reasons):
            publish_bytes(file, json.dumps({**notes, source.name: list(reasons)}, indent=1).encode())

    def _provenance(self, payload: Landed) -> Path:
        # One content may answer two requests (two files that hold the same), so the request is part of the name.
        return self.home.lake / payload.source / f"{payload.sha256}.{digest_of(payload.request.key)[:12]}.json"

    def _commit(self, source: Source, landed: Sequence[Landed]) -> Batch | None:
        """The next batch, of what no other process committed in the meantime."""
        with exclusive_lock(self.home.lake / ".lock"):
            current = self.current()
            reading = digest_of(asdict(source.reading))
            fresh = [
                payload
                for payload in landed
                if not _is_same(current.get(payload.request.key), payload.sha256, reading) or source.by_range
            ]
            if not fresh:
                return None
            numbers = [int(file.stem) for file in (self.home.lake / BATCHES).glob("*.json")]
            batch = Batch(max(numbers, default=0) + 1, source.reading, tuple(fresh))
            content = {"number": batch.number, "reading": asdict(batch.reading), "payloads": [asdict(p) for p in fresh]}
            publish_bytes(
                self.home.lake / BATCHES / f"{batch.number:08d}.json",
                json.dumps(content, indent=1, default=str).encode(),
            )
            return batch


def _uncovered(request: Request, held: Sequence[Request]) -> list[Request]:
    """The parts of a range of one symbol that no held range of it covers."""
    first, last = request.first or date.min, request.last or date.max
    day = timedelta(days=1)
    gaps, begin = [], first
    ranges = [
        (r.first, r.last) for r in held if r.symbol == request.symbol and r.first and r.last and r.first <= r.last
    ]
    for low, high in sorted(ranges):
        if low > begin:
            gaps.append((begin, min(low - day, last)))
        begin = max(begin, high + day)
        if begin > last:
            break
    if begin <= last:
        gaps.append((begin, last))
    return [request.within(low, high) for low, high in gaps if low <= high]


def _as_far_as_it_reaches(request: Request, reached: date | None, fetched_at: datetime) -> Request:
    """A request as it was answered: a provider that has not published the newest session yet is asked again for it."""
    if request.first is None or request.last is None or fetched_at.date() - request.last > timedelta(days=FRESH_DAYS):
        return request
    return replace(request, last=max(request.first - timedelta(days=1), min(reached or date.min, request.last)))


def _is_same(held: tuple[Landed, str] | None, sha256: str | None, reading: str) -> bool:
    if held is None or held[0].sha256 != sha256 or held[1] != reading:
        return False
    return held[0].again_at is None or held[0].again_at > utc_now()


def _provenance_of(landed: Landed, reading: Reading) -> bytes:
    return json.dumps({**asdict(landed), "reading": asdict(reading)}, indent=1, default=str).encode()


def _read_batch(file: Path) -> Batch:
    try:
        content = json.loads(file.read_text())
        payloads = [_landed(payload) for payload in content["payloads"]]
        return Batch(content["number"], Reading(**content["reading"]), _told_apart(payloads))
    except (ValueError, KeyError, TypeError) as error:
        raise CandlecastError(f"{file} is not a batch of the lake ({error}): restore it from a backup") from error


def _told_apart(payloads: Sequence[Landed]) -> tuple[Landed, ...]:
    """Rejected rows are known by file and number, so two ranges of one series need names of their own."""
    named = Counter(payload.request.file for payload in payloads)
    return tuple(
        replace(payload, request=replace(payload.request, file=f"{payload.request.file} ({payload.request.key})"))
        if named[payload.request.file] > 1
        else payload
        for payload in payloads
    )


def _landed(content: Mapping[str, Any]) -> Landed:
    request = dict(content["request"])
    for end in ("first", "last"):
        request[end] = date.fromisoformat(request[end]) if request[end] else None
    return Landed(
        content["source"],
        Request(**request),
        content["sha256"],
        datetime.fromisoformat(content["fetched_at"]),
        content["rows"],
        datetime.fromisoformat(content["again_at"]) if content.get("again_at") else None,
    )


def utc_now() -> datetime:
    """Now, in UTC without a zone, to the second."""
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)


def _is_today(stamp: datetime) -> bool:
    return stamp.date() == utc_now().date()


def reason_of(error: Exception, file: str) -> str:
    """Why one payload cannot be taken, in words that name its file.

    Raises:
        KeyboardInterrupt: somebody stopped the run.
        Exception: it is not the file's fault (a full disk, a warehouse that is held): the error itself.
    """
    held = isinstance(error, WarehouseBusyError | MemoryError | duckdb.OutOfMemoryException)
    if isinstance(error, duckdb.InterruptException) or (
        isinstance(error, duckdb.Error) and ("KeyboardInterrupt" in str(error) or "Interrupted" in str(error))
    ):
        # Somebody stopped the run while DuckDB was reading a frame.
        raise KeyboardInterrupt from error
    if held or (isinstance(error, OSError) and error.errno in _OF_THE_MACHINE):
        raise error
    if isinstance(error, CandlecastError):
        return str(error)
    said = next(iter(str(error).splitlines()), "")[:300]
    return f"{file}: cannot be read as bars: {type(error).__name__}: {said}. Correct the file, or take it away"
