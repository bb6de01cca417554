"""Payloads and the batches that they were committed in, and the JSON that the lake keeps of both.

Belongs here: what one file of the lake holds. Not here: which payload is fetched, when, and where it is kept (lake).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from resources.errors import CandlecastError
from resources.publish import digest_of
from resources.sources.protocol import Reading, Request


@dataclass(frozen=True)
class Payload:
    """What answered one request, as received.

    Attributes:
        sha256: of the content; names the payload's file in the lake.
        fetched_at: UTC without a zone.
        again_at: when the first of the bars that were not closed yet is over; the content is validated again then.
    """

    source: str
    request: Request
    sha256: str
    fetched_at: datetime
    rows: int
    again_at: datetime | None = None


@dataclass(frozen=True)
class PayloadBatch:
    """Payloads that became known together. Batches are numbered from 1, in the order in which they were committed."""

    number: int
    reading: Reading
    payloads: tuple[Payload, ...]

    @cached_property
    def reading_digest(self) -> str:
        return digest_of(asdict(self.reading))


def batch_to_json(batch: PayloadBatch) -> bytes:
    content = {
        "number": batch.number,
        "reading": asdict(batch.reading),
        "payloads": [asdict(payload) for payload in batch.payloads],
    }
    return json.dumps(content, indent=1, default=str).encode()


def read_batch(file: Path) -> PayloadBatch:
    """The batch in a file of the lake. A process reads a file once, and again where it is another one by then.

    Raises:
        CandlecastError: the file is not a batch.
    """
    stat = file.stat()
    return _read_batch(file, (stat.st_ino, stat.st_size, stat.st_mtime_ns))


# A batch per evening: those of sixty years.
@lru_cache(maxsize=1 << 14)
def _read_batch(file: Path, _state: tuple[int, int, int]) -> PayloadBatch:
    try:
        content = json.loads(file.read_text())
        payloads = [payload_from_json(payload) for payload in content["payloads"]]
        return PayloadBatch(content["number"], Reading(**content["reading"]), _with_unique_files(payloads))
    except (ValueError, KeyError, TypeError) as error:
        raise CandlecastError(
            f"{file} is not a batch of the lake ({error}): restore it from a backup, or run "
            "`candlecast doctor --repair`"
        ) from error


def provenance_to_json(payload: Payload, reading: Reading) -> bytes:
    return json.dumps({**asdict(payload), "reading": asdict(reading)}, indent=1, default=str).encode()


def payload_from_json(content: Mapping[str, Any]) -> Payload:
    request = dict(content["request"])
    for end in ("first", "last"):
        request[end] = date.fromisoformat(request[end]) if request[end] else None
    return Payload(
        content["source"],
        Request(**request),
        content["sha256"],
        datetime.fromisoformat(content["fetched_at"]),
        content["rows"],
        datetime.fromisoformat(content["again_at"]) if content.get("again_at") else None,
    )


def _with_unique_files(payloads: Sequence[Payload]) -> tuple[Payload, ...]:
    """Rejected rows are identified by file and row number, so two ranges of one series need different file names."""
    names = Counter(payload.request.file for payload in payloads)
    return tuple(
        replace(payload, request=replace(payload.request, file=f"{payload.request.file} ({payload.request.key})"))
        if names[payload.request.file] > 1
        else payload
        for payload in payloads
    )
