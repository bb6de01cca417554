"""Who belonged to the universe when: listing and delisting spans, and whether only survivors are known.

Spans come from a file of members where the settings name one, and otherwise from the bars themselves: from a symbol's
first bar to its last, and open where it still trades. A source that lists today's symbols alone knows no delisting;
then every number on its history carries survivorship bias, and `note` says so.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.settings import Settings
from resources.warehouse import Warehouse

# Without a bar for this many sessions before the newest, a symbol counts as delisted; fewer are a suspension.
DELISTED_AFTER = 20
_SPANS = """
SELECT symbol, min(session) AS first, max(session) AS last FROM bars
WHERE frequency = $frequency GROUP BY symbol ORDER BY symbol
"""
SURVIVORS = (
    "Survivorship bias: the source knows no symbol that stopped trading, so results on this history are those of "
    "companies that were going to survive."
)


@dataclass(frozen=True)
class Span:
    """From the first session to the last, both inside; no last: still a member."""

    first: date
    last: date | None


@dataclass(frozen=True)
class Universe:
    """The symbols and when each was a member.

    Attributes:
        spans: by symbol, oldest first; a symbol may come back.
        told_by: "members" (a file) or "bars".
    """

    spans: Mapping[str, Sequence[Span]]
    told_by: str

    @property
    def survivors_only(self) -> bool:
        """No symbol of several ever left."""
        return all(spans[-1].last is None for spans in self.spans.values())

    @property
    def note(self) -> str:
        """What a reader of results must know; empty: nothing."""
        return SURVIVORS if self.survivors_only else ""

    def members(self, day: date) -> list[str]:
        """The symbols that were members on a day, in alphabetical order."""
        return [
            symbol
            for symbol, spans in sorted(self.spans.items())
            if any(span.first <= day and (span.last is None or day <= span.last) for span in spans)
        ]

    def holds(self, symbol: str, days: np.ndarray) -> np.ndarray:
        """Whether a symbol was a member on each of these days. Shape (days,)."""
        days = days.astype("datetime64[D]")
        found = np.zeros(len(days), dtype=bool)
        for span in self.spans.get(symbol, ()):
            found |= (days >= np.datetime64(span.first)) & (days <= np.datetime64(span.last or date.max))
        return found


def read_universe(settings: Settings, warehouse: Warehouse) -> Universe:
    """The universe of one set of settings.

    Raises:
        CandlecastError: symbols that the settings name have no bars, or the file of members cannot be read.
    """
    market = settings.market
    with warehouse.read() as connection:
        found = connection.execute(_SPANS, {"frequency": market.frequency}).fetchall()
    there = {symbol: (first, last) for symbol, first, last in found}
    asked = wanted_symbols(settings)
    wanted = list(there) if asked is None else asked
    missing = [symbol for symbol in wanted if symbol not in there]
    if missing:
        raise CandlecastError(
            f"market.symbols names {', '.join(missing)}, of which there are no bars; "
            f"there are: {', '.join(there) or 'none'}"
        )
    if market.members:
        return Universe(_told(settings.root / market.members, wanted), "members")
    gone_before = _delisted_before(settings, max((last for _, last in there.values()), default=market.start))
    spans = {s: [Span(there[s][0], None if there[s][1] >= gone_before else there[s][1])] for s in wanted}
    return Universe(spans, "bars")


def wanted_symbols(settings: Settings) -> list[str] | None:
    """The symbols that the settings name, as the warehouse writes them; none: all that there are."""
    asked = settings.market.symbols
    return None if asked == "all" else sorted({stored_symbol(symbol) for symbol in asked})


def symbols_of(settings: Settings, warehouse: Warehouse) -> list[str]:
    """The symbols that the settings ask for, as the warehouse writes them."""
    return sorted(read_universe(settings, warehouse).spans)


def stored_symbol(symbol: str) -> str:
    """A symbol as the warehouse writes it: upper case, and BTC/USDT as BTC-USDT."""
    return symbol.strip().upper().replace("/", "-")


def _delisted_before(settings: Settings, newest: date) -> date:
    calendar = TradingCalendar(settings.market.calendar)
    before = calendar.sessions(min(settings.market.start, newest), newest)
    return before[-min(DELISTED_AFTER, len(before))].date() if len(before) else newest


def _told(file: Path, wanted: Sequence[str]) -> dict[str, list[Span]]:
    if not file.is_file():
        raise CandlecastError(f"market.members: {file} does not exist")
    spans: dict[str, list[Span]] = {}
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeError as error:
        raise CandlecastError(f"{file}: not UTF-8 ({error}): save the file as UTF-8") from None
    with io.StringIO(text, newline="") as stream:
        rows = csv.DictReader(stream)
        lacking = {"symbol", "start", "end"} - set(rows.fieldnames or [])
        if lacking:
            raise CandlecastError(f"{file}: the header needs symbol,start,end; {', '.join(sorted(lacking))} is missing")
        for number, row in enumerate(rows, 1):
            try:
                first = date.fromisoformat(row["start"].strip())
                last = date.fromisoformat(row["end"].strip()) if row["end"].strip() else None
                symbol = stored_symbol(row["symbol"])
            except (ValueError, AttributeError) as error:
                raise CandlecastError(f"{file}, row {number}: dates are written 2012-01-31: {error}") from None
            if not symbol or (last and last < first):
                why = f"it ends {last}, before it starts" if symbol else "no symbol"
                raise CandlecastError(f"{file}, row {number}: {why}: correct the row")
            spans.setdefault(symbol, []).append(Span(first, last))
    return {symbol: sorted(spans[symbol], key=lambda span: span.first) for symbol in wanted if symbol in spans}
