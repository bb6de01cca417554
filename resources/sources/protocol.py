"""What every source of bars promises, and the words that cross it.

A source plans requests, and fetches one as a payload exactly as it was received. It never validates, adjusts or
fills: that is the contract's work, in assets/market. Not here: which source is used (registry), or where payloads
are kept (assets/market/lake).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Literal, Protocol

from resources.errors import CandlecastError

Basis = Literal["raw", "split-adjusted", "factor"]
"""What a source's prices are: as quoted; divided by every later split (Yahoo); or multiplied by a `factor` (Qlib)."""

ROW, UNPARSED = "_row", "_unparsed"
"""Columns that a payload has only where a text file held lines that are no rows: a row's number, a line's text."""


@dataclass(frozen=True)
class Wanted:
    """What a run asks for: symbols (none: all that the source has) and sessions, both ends inside."""

    symbols: tuple[str, ...] | None
    first: date
    last: date
    frequency: str


@dataclass(frozen=True)
class Request:
    """One thing to ask for.

    Attributes:
        key: its identity over time: a newer payload of the same key is a revision of the older.
        file: what errors and rejected rows name.
        symbol: of all rows, where the payload has no symbol column.
        first, last: the range asked for; none: whatever the source holds.
        asked: the symbol as the source writes it.
        continues: a later part of a series whose first bars were asked for before.
    """

    key: str
    file: str
    symbol: str | None = None
    first: date | None = None
    last: date | None = None
    asked: str = ""
    continues: bool = False

    def within(self, first: date, last: date) -> Request:
        """The same series over another range."""
        series = self.key.rsplit(":", 2)[0]
        name = self.file.removesuffix(_range(self.first, self.last))
        key, file = f"{series}:{first}:{last}", f"{name}{_range(first, last)}"
        continues = self.first is not None and first > self.first
        return replace(self, key=key, file=file, first=first, last=last, continues=continues)


def _range(first: date | None, last: date | None) -> str:
    return f" {first} … {last}"


def request_of_range(source: str, asked: str, frequency: str, first: date, last: date) -> Request:
    """A request for one symbol's bars over a range of sessions, both ends inside."""
    symbol = asked.strip().upper().replace("/", "-")
    series = f"{source}:{symbol}:{frequency}"
    return Request(f"{series}:{first}:{last}", f"{source} {symbol}{_range(first, last)}", symbol, first, last, asked)


class NoRowsError(CandlecastError):
    """A provider answered, and has no row of the range. The payload was written, empty; `sha256` is its digest."""

    def __init__(self, message: str, sha256: str) -> None:
        super().__init__(message)
        self.sha256 = sha256


@dataclass(frozen=True)
class Reading:
    """How a source's payloads are to be read. Part of a payload's provenance: another reading is a revision.

    Attributes:
        columns: our name → the source's, where the guess from the header is not wanted.
        timezone: of stamps that carry none; none: the exchange's.
        date_order: of dates such as 03/04/2012; none: told from the values.
        basis: what the prices are.
        actions: what corporate actions that the rows tell of are said to come from.
        lot: shares in one unit of volume.
    """

    calendar: str
    frequency: str
    columns: Mapping[str, str] = field(default_factory=dict)
    timezone: str | None = None
    date_order: Literal["ymd", "dmy", "mdy"] | None = None
    basis: Basis = "raw"
    actions: Literal["columns", "source"] = "columns"
    lot: float = 1.0


class Source(Protocol):
    """A source of bars."""

    @property
    def name(self) -> str:
        """As in the settings."""
        ...

    @property
    def reading(self) -> Reading:
        """How its payloads are to be read."""
        ...

    @property
    def by_range(self) -> bool:
        """Whether a request is a range of sessions (a network source) or whatever there is (files)."""
        ...

    def plan(self, wanted: Wanted) -> list[Request]:
        """The requests that together answer what is wanted.

        Raises:
            CandlecastError: nothing there can answer it.
        """
        ...

    def vanished(self, held: Sequence[Request]) -> list[Request]:
        """Of requests that were answered once, those whose file is gone: `fetch` gives them an empty payload."""
        ...

    def fingerprint(self, request: Request) -> str | None:
        """The SHA-256 that `fetch` would give, where it can be told without fetching."""
        ...

    def reaches(self, payload: Path) -> date | None:
        """The last day that a fetched payload has a row of; none: no row. Asked of sources by range only."""
        ...

    def fetch(self, request: Request, into: Path) -> str:
        """Write the payload, all columns as received, as one Parquet file; the SHA-256 of what was received.

        Raises:
            NoRowsError: there is no row of the range.
            CandlecastError: the payload cannot be read, or the source answered with an error.
        """
        ...
