"""Shared by the network sources: one request per symbol and range, retries, rate limit, payload from a data frame.

Only transient failures (a lost connection, a rate limit) are retried, with exponential, jittered waits. All others
are errors at once. No source ever replaces another.
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


class TransientError(Exception):
    """A failure that may pass: too many requests, a lost connection, an HTML page instead of data."""


def plan_ranges(source: str, wanted: Wanted, frequencies: dict[str, str]) -> list[Request]:
    """One request per symbol.

    Raises:
        CandlecastError: the settings list no symbols, or the source has no bars of the frequency.
    """
    if wanted.symbols is None:
        raise CandlecastError(f"source {source!r} cannot list all symbols: list them in market.symbols")
    if wanted.frequency not in frequencies:
        raise CandlecastError(
            f"source {source!r} has no {wanted.frequency} bars; market.frequency may be {', '.join(frequencies)}"
        )
    return [request_of_range(source, symbol, wanted.frequency, wanted.first, wanted.last) for symbol in wanted.symbols]


def with_retries(ask: Callable[[], T], request: Request, first_wait: float = 1.0) -> T:
    """The result of `ask`, called again while it raises `TransientError`.

    Raises:
        CandlecastError: all attempts failed.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        wait=tenacity.wait_random_exponential(multiplier=first_wait, max=LONGEST_WAIT),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        reraise=True,
    )
    try:
        return retrying(ask)
    except TransientError as error:
        raise CandlecastError(f"{request.file}: failed {ATTEMPTS} times: {error}. Try again later") from error


class Pace:
    """A rate limit: at least `seconds` between two calls."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._next = 0.0

    def wait(self) -> None:
        now = time.monotonic()
        if now < self._next:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + self.seconds


def write_payload(frame: pd.DataFrame, into: Path) -> str:
    """Write a frame as a Parquet file; returns the SHA-256 of the file."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    pyarrow.parquet.write_table(table, into, compression="zstd")
    return hashlib.sha256(into.read_bytes()).hexdigest()
