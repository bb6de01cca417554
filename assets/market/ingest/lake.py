"""The lake: every payload as it was received, permanently, and the order in which payloads became known.

A payload is `<source>/<sha256>.parquet` with its provenance in a `.json` beside it. What a run fetched is committed as
a numbered batch: one small JSON, the write-ahead log from which the warehouse can be rebuilt. No payload and no batch
is ever overwritten. Not here: what the rows mean (contract).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from assets.market.ingest.payloads import (
    Payload,
    PayloadBatch,
    batch_to_json,
    payload_from_json,
    provenance_to_json,
    read_batch,
)
from assets.market.ingest.refusals import PayloadsRefusedError, refusal_of
from resources.integrity import DAMAGED, is_sealed, keep_if_intact, read_kept_json, seal_file
from resources.layout import Home
from resources.locks import exclusive_lock
from resources.progress import Progress, silent
from resources.publish import digest_of, publish_bytes, publish_file, scratch_folder
from resources.sources.protocol import NoRowsError, Request, Source, Wanted

if TYPE_CHECKING:
    import pandas as pd

BATCHES = "batches"
LOCK = ".lock"
REFUSED = "refused.json"
# A range that ends this recently may not be published in full yet.
FRESH_DAYS = 4


@dataclass(frozen=True)
class Screening:
    """Which payloads may be committed, and why each of the others may not, by its request's key.

    Attributes:
        warnings: of accepted payloads, by request key.
    """

    accepted: tuple[Payload, ...]
    refused: Mapping[str, str]
    warnings: Mapping[str, Sequence[str]] = field(default_factory=dict)


Screen = Callable[[PayloadBatch], Screening]


@dataclass(frozen=True)
class Lake:
    """The lake under `home.lake`."""

    home: Home

    def file(self, payload: Payload) -> Path:
        """The payload's Parquet file."""
        return self.home.lake / payload.source / f"{payload.sha256}.parquet"

    def batches(self, after: int = 0) -> list[PayloadBatch]:
        """Every committed batch with a number above `after`, in order."""
        files = sorted((self.home.lake / BATCHES).glob("*.json"))
        return [read_batch(file) for file in files if int(file.stem) > after]

    def set_aside(self) -> set[int]:
        """Numbers of damaged batches that were set aside. None is used again: the warehouse has rows of them."""
        folder = self.home.root / DAMAGED / self.home.lake.relative_to(self.home.root) / BATCHES
        return {int(file.name.split(".")[0]) for file in folder.glob("*.json*")}

    def current(self) -> dict[str, tuple[Payload, str]]:
        """The newest payload of every request that was committed, and the digest of its reading, by request key."""
        return {
            payload.request.key: (payload, batch.reading_digest)
            for batch in self.batches()
            for payload in batch.payloads
        }

    def payloads_of(self, source: Source) -> pd.DataFrame:
        """The newest payload of every request: key, file, sha256, rows, fetched_at."""
        import pandas as pd

        held = [payload for payload, _ in self.current().values() if payload.source == source.name]
        rows = [(p.request.key, p.request.file, p.sha256, p.rows, p.fetched_at) for p in held]
        return pd.DataFrame(rows, columns=["key", "file", "sha256", "rows", "fetched_at"])

    def refused(self, source: Source) -> list[str]:
        """Why payloads were refused when the source was last read: one reason per payload."""
        recorded = read_kept_json(self.home.lake / REFUSED, self.home.root) or {}
        return list(recorded.get(source.name, []))

    def set_refused(self, source: Source, reasons: Sequence[str]) -> None:
        """Record why payloads were refused; none: all were accepted."""
        file = self.home.lake / REFUSED
        recorded = read_kept_json(file, self.home.root) or {}
        if recorded.get(source.name, []) != list(reasons):
            publish_bytes(file, json.dumps({**recorded, source.name: list(reasons)}, indent=1).encode())

    def land(
        self,
        source: Source,
        wanted: Wanted,
        refresh: bool = False,
        progress: Progress = silent,
        screen: Screen | None = None,
    ) -> tuple[list[Request], PayloadBatch | None]:
        """Fetch what is wanted and missing, and commit it as one batch.

        If the process is killed, the payloads that had arrived stay, uncommitted, and the next call uses them.

        Args:
            refresh: fetch ranges of a network source again that are already in the lake.
            screen: decides which payloads may be committed; none: all.

        Returns:
            What was missing or changed, and the batch that now holds it; no batch if nothing was.

        Raises:
            PayloadsRefusedError: a payload cannot be fetched or read. The message names each; the others are committed.
        """
        missing = self.missing(source, wanted, refresh)
        if not missing:
            return [], None
        landed, refused = self._fetch_all(source, missing, refresh, progress)
        if landed and screen:
            screening = screen(PayloadBatch(0, source.reading, tuple(landed)))
            refused += screening.refused.values()
            for payload in landed:
                if payload.request.key in screening.refused:
                    # Without its provenance it is fetched again.
                    self._provenance(payload).unlink(missing_ok=True)
            landed = list(screening.accepted)
        batch = self._commit(source, landed) if landed else None
        if refused:
            raise PayloadsRefusedError(
                f"{len(refused)} of {len(missing)} payloads of source {source.name} are refused; "
                f"{'the others are in the lake' if landed else 'nothing else was new'}:\n  " + "\n  ".join(refused),
                refused,
            )
        return missing, batch

    def missing(self, source: Source, wanted: Wanted, refresh: bool = False) -> list[Request]:
        """The requests whose current payload is not in the lake. Cheap: files are only hashed.

        A payload that does not match its recorded digest is set aside under `<home>/damaged` and missing, too.
        """
        current = {key: held for key, held in self.current().items() if self._is_held(held[0], source)}
        reading = digest_of(asdict(source.reading))
        same_reading = [payload.request for payload, as_read in current.values() if as_read == reading]
        if not source.by_range:
            return [
                request
                for request in [*source.plan(wanted), *source.vanished(same_reading)]
                if not _is_same(current.get(request.key), source.fingerprint(request), reading)
            ]
        held = [] if refresh else same_reading
        return [rest for request in source.plan(wanted) for rest in _uncovered(request, held)]

    def _fetch_all(
        self, source: Source, requests: Sequence[Request], refresh: bool, progress: Progress
    ) -> tuple[list[Payload], list[str]]:
        """The payloads of requests, and the reasons why others could not be fetched."""
        landed: list[Payload] = []
        refused: list[str] = []
        with scratch_folder(self.home.scratch / "lake") as scratch:
            for position, request in enumerate(requests):
                progress(position, len(requests), request.file)
                try:
                    payload = self._fetch(source, request, scratch, resume=not refresh)
                except Exception as error:
                    refused.append(refusal_of(error, request.file))
                else:
                    landed += [payload] if payload else []
        progress(len(requests), len(requests))
        return landed, refused

    def _fetch(self, source: Source, request: Request, scratch: Path, resume: bool) -> Payload | None:
        """The payload of a request; none where the next part of a held series has no settled rows yet."""
        import pyarrow.parquet

        if resume and (earlier := self._uncommitted(source, request)):
            return earlier
        file = scratch / "payload.parquet"
        try:
            sha256 = source.fetch(request, file)
        except NoRowsError as error:
            # A suspension or a delisting, unless the symbol never had a row: then its name is probably wrong.
            if not self._holds_rows_of(source, request):
                raise
            sha256 = error.sha256
        fetched_at = utc_now()
        if source.by_range:
            request = _up_to_last_row(request, source.reaches(file), fetched_at)
        rows = pyarrow.parquet.read_metadata(file).num_rows
        if source.by_range and not rows and request.first and request.last and request.last < request.first:
            return None
        payload = Payload(source.name, request, sha256, fetched_at, rows)
        self._publish(file, self.file(payload))
        publish_bytes(self._provenance(payload), provenance_to_json(payload, source.reading))
        return payload

    def _is_held(self, payload: Payload, source: Source) -> bool:
        return payload.source != source.name or keep_if_intact(self.file(payload), self.home.root)

    def _publish(self, file: Path, destination: Path) -> None:
        """Publish a payload's file and record its digest, unless the same is there with one."""
        # Another process may publish the same content, or validate it: the file is replaced, and never missing.
        with exclusive_lock(self.home.lake / LOCK):
            if keep_if_intact(destination, self.home.root) and is_sealed(destination):
                return
            # It may be of an earlier version, or be damaged: the content that was just received replaces it.
            publish_file(file, destination)
            seal_file(destination)

    def _holds_rows_of(self, source: Source, request: Request) -> bool:
        return any(
            payload.rows and payload.source == source.name and payload.request.symbol == request.symbol
            for payload, _ in self.current().values()
        )

    def _uncommitted(self, source: Source, request: Request) -> Payload | None:
        """A payload that a killed call fetched: of a file with the same content, or of a range on the same day."""
        key_digest = digest_of(request.key)[:12]
        committed = {p for batch in self.batches() for p in batch.payloads if p.request.key == request.key}
        moments = {(p.sha256, p.fetched_at) for p in committed}
        newest = max((p.fetched_at for p in committed), default=datetime.min)
        for file in (self.home.lake / source.name).glob(f"*.{key_digest}.json"):
            content = read_kept_json(file, self.home.root)
            if content is None:
                continue
            payload = payload_from_json(content)
            # One that is older than what was committed since, or was read otherwise, is not current.
            if (payload.sha256, payload.fetched_at) in moments or payload.fetched_at < newest:
                continue
            if digest_of(content.get("reading")) != digest_of(asdict(source.reading)):
                continue
            if source.by_range:
                fresh = payload.fetched_at.date() == utc_now().date()
            else:
                fresh = payload.sha256 == source.fingerprint(request)
            if fresh and self.file(payload).is_file():
                return payload
        return None

    def _provenance(self, payload: Payload) -> Path:
        # One content may answer two requests (two files that hold the same), so the request is part of the name.
        return self.home.lake / payload.source / f"{payload.sha256}.{digest_of(payload.request.key)[:12]}.json"

    def _commit(self, source: Source, landed: Sequence[Payload]) -> PayloadBatch | None:
        """The next batch, of what no other process committed in the meantime."""
        with exclusive_lock(self.home.lake / LOCK):
            current = self.current()
            reading = digest_of(asdict(source.reading))
            fresh = [
                payload
                for payload in landed
                if not _is_same(current.get(payload.request.key), payload.sha256, reading) or source.by_range
            ]
            if not fresh:
                return None
            numbers = {int(file.stem) for file in (self.home.lake / BATCHES).glob("*.json")} | self.set_aside()
            batch = PayloadBatch(max(numbers, default=0) + 1, source.reading, tuple(fresh))
            publish_bytes(self.home.lake / BATCHES / f"{batch.number:08d}.json", batch_to_json(batch))
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


def _up_to_last_row(request: Request, last_row: date | None, fetched_at: datetime) -> Request:
    """A request cut to its answer: a provider that has not published the newest session yet is asked for it again."""
    if request.first is None or request.last is None or fetched_at.date() - request.last > timedelta(days=FRESH_DAYS):
        return request
    return replace(request, last=max(request.first - timedelta(days=1), min(last_row or date.min, request.last)))


def _is_same(held: tuple[Payload, str] | None, sha256: str | None, reading: str) -> bool:
    if held is None or held[0].sha256 != sha256 or held[1] != reading:
        return False
    return held[0].again_at is None or held[0].again_at > utc_now()


def utc_now() -> datetime:
    """Now, in UTC without a zone, to the second."""
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)
