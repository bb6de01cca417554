"""The interface of a source of bars, and the types that it exchanges with the lake.

A source plans requests and fetches the payload of one request exactly as received. It never validates, adjusts or
fills: the contract in `assets.market.ingest` does. Not here: which source is used (registry), and how payloads are
stored (`assets.market.ingest.lake`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Literal, Protocol

from resources.errors import CandlecastError

Basis = Literal["raw", "split-adjusted", "factor"]
"""Adjustment of a source's prices: none, as quoted; divided by later splits (Yahoo); multiplied by `factor` (Qlib)."""

Stamp = Literal["start", "end"]
Adjusted = Literal["none", "splits", "splits and dividends"]

ROW, UNPARSED = "_row", "_unparsed"
"""Columns of a payload from a text file with lines that could not be parsed: the row number, the text of the line."""


@dataclass(frozen=True)
class Wanted:
    """The bars that a run needs: symbols (None: all of the source) and sessions, both ends inclusive."""

    symbols: tuple[str, ...] | None
    first: date
    last: date
    frequency: str


@dataclass(frozen=True)
class Request:
    """The request for one payload.

    Attributes:
        key: identity over time: a newer payload of the same key is a revision of the older one.
        file: name of the payload in errors and rejected rows.
        symbol: symbol of all rows, if the payload has no symbol column.
        first, last: requested sessions, both inclusive; None: everything that the source has.
        asked: the symbol in the spelling of the source.
        continues: whether an earlier part of the series was requested before.
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
    """The request for one symbol's bars over a range of sessions, both ends inclusive."""
    symbol = asked.strip().upper().replace("/", "-")
    series = f"{source}:{symbol}:{frequency}"
    return Request(f"{series}:{first}:{last}", f"{source} {symbol}{_range(first, last)}", symbol, first, last, asked)


class NoRowsError(CandlecastError):
    """The provider has no row in the requested range. The payload was written without rows; `sha256` is its digest."""

    def __init__(self, message: str, sha256: str) -> None:
        super().__init__(message)
        self.sha256 = sha256


@dataclass(frozen=True)
class Reading:
    """How to interpret a source's payloads. Part of the provenance: the same payload read differently is a revision.

    Attributes:
        columns: standard name → name in the payload; other columns are recognised by their usual names.
        timezone: time zone of timestamps without an offset; None: the exchange's.
        date_order: order of day, month and year in dates such as 03/04/2012; None: inferred from the values.
        basis: adjustment of the prices.
        actions: recorded as the origin of the corporate actions that the rows contain.
        lot: shares per unit of volume.
        stamp: whether a timestamp is the start or the end of its bar; None: start, unless the values show otherwise,
            which is an error.
        adjusted: for what the prices of files are adjusted; None: inferred from splits and factors.
        symbol_from: "stem", "folder" or a pattern of the file name; None: the stem without usual decorations.
        series: series of a symbol that are read, where a column has several; None: all.
        header: column names of text files without a header line.
        scale: factors of price, volume and amount.
        resample: whether rows of a finer frequency are aggregated into bars of `frequency`.
    """

    calendar: str
    frequency: str
    columns: Mapping[str, str] = field(default_factory=dict)
    timezone: str | None = None
    date_order: Literal["ymd", "dmy", "mdy"] | None = None
    basis: Basis = "raw"
    actions: Literal["columns", "source"] = "columns"
    lot: float = 1.0
    stamp: Stamp | None = None
    adjusted: Adjusted | None = None
    symbol_from: str | None = None
    series: Sequence[str] | None = None
    header: Sequence[str] | None = None
    scale: Mapping[str, float] = field(default_factory=dict)
    resample: bool = False


class Source(Protocol):
    """A source of bars."""

    @property
    def name(self) -> str:
        """The name of the source in the settings."""
        ...

    @property
    def reading(self) -> Reading:
        """How to interpret its payloads."""
        ...

    @property
    def by_range(self) -> bool:
        """Whether a request is for a range of sessions (network sources) or for a whole file."""
        ...

    def plan(self, wanted: Wanted) -> list[Request]:
        """The requests whose payloads together contain the wanted bars.

        Raises:
            CandlecastError: the source cannot have them: no file matches, or the frequency is not offered.
        """
        ...

    def vanished(self, held: Sequence[Request]) -> list[Request]:
        """Those of the fetched requests whose file was removed since: `fetch` returns an empty payload for them."""
        ...

    def fingerprint(self, request: Request) -> str | None:
        """The SHA-256 that `fetch` would return; None: not known without fetching."""
        ...

    def reaches(self, payload: Path) -> date | None:
        """The date of the last row of a fetched payload; None: no rows. Only used if `by_range`."""
        ...

    def fetch(self, request: Request, into: Path) -> str:
        """Write the payload with all columns as received to one Parquet file; returns the SHA-256 of what was received.

        Raises:
            NoRowsError: the provider has no row in the range.
            CandlecastError: the payload cannot be read, or the provider returned an error.
        """
        ...
