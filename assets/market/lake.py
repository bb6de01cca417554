"""The lake: every payload as it was received, for ever, and in which order we came to know them.

A payload is `<source>/<sha256>.parquet` with its provenance in a `.json` beside it. What a run landed is committed as
a numbered batch: one small JSON, the write-ahead log from which the warehouse can be rebuilt. Nothing here is ever
overwritten. Not here: what the rows mean (contract).
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet

from resources.errors import CandlecastError
from resources.layout import Home
from resources.progress import Progress, silent
from resources.publish import digest_of, publish_bytes, publish_file, scratch_folder
from resources.sources.protocol import Reading, Request, Source, Wanted

BATCHES = "batches"
# A range that ends this recently may not be published in full yet.
FRESH_DAYS = 4


@dataclass(frozen=True)
class Landed:
    """A payload in the lake: what was asked, what came, when."""

    source: str
    request: Request
    sha256: str
    fetched_at: datetime
    rows: int


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

    def land(
        self, source: Source, wanted: Wanted, refresh: bool = False, progress: Progress = silent
    ) -> tuple[list[Request], Batch | None]:
        """Fetch what is wanted and not there, and commit it as one batch.

        Killed halfway, the payloads that had arrived stay, uncommitted, and the next call takes them up.

        Args:
            refresh: ask a network source again for ranges that are already there.

        Returns:
            What was missing or changed, and the batch that now holds it; no batch where nothing was.

        Raises:
            CandlecastError: some payload cannot be had. The message names each.
        """
        missing = self.missing(source, wanted, refresh)
        if not missing:
            return [], None
        landed, refused = [], []
        with scratch_folder(self.home.scratch / "lake") as scratch:
            for position, request in enumerate(missing):
                progress(position, len(missing), request.file)
                try:
                    landed.append(self._fetched(source, request, scratch, resume=not refresh))
                except CandlecastError as error:
                    refused.append(str(error))
        progress(len(missing), len(missing))
        if refused:
            raise CandlecastError(
                f"{len(refused)} of {len(missing)} payloads of source {source.name} cannot be had; "
                "nothing was ingested:\n  " + "\n  ".join(refused)
            )
        return missing, self._commit(source, landed)

    def missing(self, source: Source, wanted: Wanted, refresh: bool = False) -> list[Request]:
        """The requests whose payload the lake does not hold as it is now. Cheap: files are only hashed."""
        current = self.current()
        reading = digest_of(asdict(source.reading))
        if not source.by_range:
            return [
                request
                for request in source.plan(wanted)
                if not _is_same(current.get(request.key), source.fingerprint(request), reading)
            ]
        held = [] if refresh else [payload.request for payload, as_read in current.values() if as_read == reading]
        return [rest for request in source.plan(wanted) for rest in _uncovered(request, held)]

    def _fetched(self, source: Source, request: Request, scratch: Path, resume: bool) -> Landed:
        if resume and (earlier := self._uncommitted(source, request)):
            return earlier
        file = scratch / "payload.parquet"
        sha256 = source.fetch(request, file)
        fetched_at = utc_now()
        if source.by_range:
            request = _as_far_as_it_reaches(request, source.reaches(file), fetched_at)
        landed = Landed(source.name, request, sha256, fetched_at, pyarrow.parquet.read_metadata(file).num_rows)
        publish_file(file, self.file(landed))
        publish_bytes(self._provenance(source.name, request, sha256), _provenance_of(landed, source.reading))
        return landed

    def _uncommitted(self, source: Source, request: Request) -> Landed | None:
        """A payload that an earlier, killed call fetched: for files of the same content, for ranges of the same day."""
        tail = digest_of(request.key)[:12]
        committed = {(p.request.key, p.sha256) for batch in self.batches() for p in batch.payloads}
        for file in (self.home.lake / source.name).glob(f"*.{tail}.json"):
            content = json.loads(file.read_text())
            landed = _landed(content)
            if source.by_range and (request.key, landed.sha256) in committed:
                continue
            fresh = (
                landed.sha256 == source.fingerprint(request) if not source.by_range else _is_today(landed.fetched_at)
            )
            if fresh and self.file(landed).is_file():
                return landed
        return None

    def _provenance(self, source: str, request: Request, sha256: str) -> Path:
        # One content may answer two requests (two files that hold the same), so the request is part of the name.
        return self.home.lake / source / f"{sha256}.{digest_of(request.key)[:12]}.json"

    def _commit(self, source: Source, landed: Sequence[Landed]) -> Batch | None:
        """The next batch, of what no other process committed in the meantime."""
        with self._locked():
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

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One committer at a time on this machine. The kernel frees the lock of a killed process."""
        self.home.lake.mkdir(parents=True, exist_ok=True)
        with (self.home.lake / ".lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


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
    return held is not None and held[0].sha256 == sha256 and held[1] == reading


def _provenance_of(landed: Landed, reading: Reading) -> bytes:
    return json.dumps({**asdict(landed), "reading": asdict(reading)}, indent=1, default=str).encode()


def _read_batch(file: Path) -> Batch:
    try:
        content = json.loads(file.read_text())
        payloads = tuple(_landed(payload) for payload in content["payloads"])
        return Batch(content["number"], Reading(**content["reading"]), payloads)
    except (ValueError, KeyError, TypeError) as error:
        raise CandlecastError(f"{file} is not a batch of the lake ({error}): restore it from a backup") from error


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
    )


def utc_now() -> datetime:
    """Now, in UTC without a zone, to the second."""
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)


def _is_today(stamp: datetime) -> bool:
    return stamp.date() == utc_now().date()
