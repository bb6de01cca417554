"""What sources that are asked over a network have in common: ranges, retries, and a payload from a frame.

Retries are for what may pass (a lost connection, a rate limit), with growing, jittered waits. Everything else is an
error at once. No source ever stands in for another.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import tenacity

from resources.errors import CandlecastError
from resources.sources.protocol import Request, Wanted, request_of_range

ATTEMPTS = 5
LONGEST_WAIT = 60.0
T = TypeVar("T")


class PassingError(Exception):
    """The provider could not answer now: too many requests, a lost connection, a page instead of data."""


def plan_ranges(source: str, wanted: Wanted, frequencies: dict[str, str]) -> list[Request]:
    """One request a symbol.

    Raises:
        CandlecastError: no symbols are named, or the source has no bars of the frequency.
    """
    if wanted.symbols is None:
        raise CandlecastError(f'source {source!r} cannot be asked for symbols = "all": name them in market.symbols')
    if wanted.frequency not in frequencies:
        raise CandlecastError(
            f"source {source!r} has no bars of {wanted.frequency}; market.frequency may be {', '.join(frequencies)}"
        )
    return [request_of_range(source, symbol, wanted.frequency, wanted.first, wanted.last) for symbol in wanted.symbols]


def with_retries(ask: Callable[[], T], request: Request, first_wait: float = 1.0) -> T:
    """What `ask` returns, asked again while it raises `PassingError`.

    Raises:
        CandlecastError: it still failed at the last attempt.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(PassingError),
        wait=tenacity.wait_random_exponential(multiplier=first_wait, max=LONGEST_WAIT),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        reraise=True,
    )
    try:
        return retrying(ask)
    except PassingError as error:
        raise CandlecastError(f"{request.file}: failed {ATTEMPTS} times: {error}. Try again later") from error


class Pace:
    """At least `seconds` between two calls."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._next = 0.0

    def wait(self) -> None:
        now = time.monotonic()
        if now < self._next:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + self.seconds


def write_payload(frame: pd.DataFrame, into: Path) -> str:
    """A frame as the payload's Parquet file; the SHA-256 of that file."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    pyarrow.parquet.write_table(table, into, compression="zstd")
    return hashlib.sha256(into.read_bytes()).hexdigest()
