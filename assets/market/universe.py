"""The universe: which symbols were members on which days, and whether it has survivorship bias.

Membership comes from the file `market.members` if the settings name one. Otherwise it is derived from the bars: a
symbol is a member from its first bar to its last, and an open-ended member while it still trades. A source that only
has today's symbols has no delistings; results on its history then carry survivorship bias, and `note` reports it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np

from assets.market.csv_files import utf8_text
from assets.market.selection import OWN_BARS, source_filter, stored_symbol, wanted_symbols
from resources.calendar import TradingCalendar
from resources.disclosure import shown_path
from resources.errors import CandlecastError
from resources.settings import Settings
from resources.warehouse import Warehouse

# A symbol whose last bar is this many sessions older than the newest bar counts as delisted, not as suspended.
DELISTED_AFTER = 20
_FIRST_AND_LAST = f"""
SELECT symbol, min(session) AS first, max(session) AS last FROM bars
WHERE frequency = $frequency AND {OWN_BARS} GROUP BY symbol ORDER BY symbol
"""
SURVIVORS = (
    "Survivorship bias: the source has no symbol that stopped trading, so results on this history are those of "
    "companies that survived."
)


@dataclass(frozen=True)
class Membership:
    """A period of membership, both days inclusive. `last` is None for a current member."""

    first: date
    last: date | None

    def includes(self, day: date) -> bool:
        """Whether the symbol was a member on a day."""
        return self.first <= day and (self.last is None or day <= self.last)


@dataclass(frozen=True)
class Universe:
    """The symbols and their periods of membership.

    Attributes:
        memberships: by symbol, oldest first; a symbol may leave and return.
        derived_from: "members" (the file of the settings) or "bars".
    """

    memberships: Mapping[str, Sequence[Membership]]
    derived_from: Literal["members", "bars"]

    @property
    def survivors_only(self) -> bool:
        """Whether no symbol has left the universe."""
        return all(periods[-1].last is None for periods in self.memberships.values())

    @property
    def note(self) -> str:
        """A caveat for readers of results; empty if there is none."""
        return SURVIVORS if self.survivors_only else ""

    def members(self, day: date) -> list[str]:
        """The symbols that were members on a day, in alphabetical order."""
        return sorted(s for s, periods in self.memberships.items() if any(p.includes(day) for p in periods))

    def is_member(self, symbol: str, days: np.ndarray) -> np.ndarray:
        """Whether a symbol was a member on each day: datetime64 (days,) → bool (days,)."""
        days = days.astype("datetime64[D]")
        found = np.zeros(len(days), dtype=bool)
        for period in self.memberships.get(symbol, ()):
            found |= (days >= np.datetime64(period.first)) & (days <= np.datetime64(period.last or date.max))
        return found


def read_universe(settings: Settings, warehouse: Warehouse) -> Universe:
    """The universe of a profile.

    Raises:
        CandlecastError: a symbol of `market.symbols` has no bars, or the members file is missing or invalid.
    """
    market = settings.market
    parameters = {"frequency": market.frequency, "sources": source_filter(settings, warehouse)}
    with warehouse.read() as connection:
        found = connection.execute(_FIRST_AND_LAST, parameters).fetchall()
    available = {symbol: (first, last) for symbol, first, last in found}
    configured = wanted_symbols(settings)
    wanted = list(available) if configured is None else configured
    missing = [symbol for symbol in wanted if symbol not in available]
    if missing:
        raise CandlecastError(
            f"market.symbols: no bars of {', '.join(missing)}; symbols with bars: {', '.join(available) or 'none'}"
        )
    if market.members:
        return Universe(
            _read_members(settings.root / market.members, shown_path(market.members, settings.root), wanted), "members"
        )
    newest = max((last for _, last in available.values()), default=market.start)
    active_since = _active_since(settings, newest)
    return Universe({symbol: [_membership(*available[symbol], active_since)] for symbol in wanted}, "bars")


def _membership(first: date, last: date, active_since: date) -> Membership:
    return Membership(first, None if last >= active_since else last)


def _active_since(settings: Settings, newest: date) -> date:
    """The session from which on a bar shows that its symbol still trades."""
    calendar = TradingCalendar(settings.market.calendar)
    sessions = calendar.session_days(min(settings.market.start, newest), newest).tolist()
    return sessions[-min(DELISTED_AFTER, len(sessions))] if sessions else newest


def _read_members(file: Path, name: str, wanted: Sequence[str]) -> dict[str, list[Membership]]:
    if not file.is_file():
        raise CandlecastError(f"market.members: {name} does not exist")
    memberships: dict[str, list[Membership]] = {}
    with io.StringIO(utf8_text(file, name), newline="") as stream:
        rows = csv.DictReader(stream)
        missing = sorted({"symbol", "start", "end"} - set(rows.fieldnames or []))
        if missing:
            raise CandlecastError(f"{name}: column {', '.join(missing)} is missing; the header is symbol,start,end")
        for number, row in enumerate(rows, 1):
            symbol, membership = _parse_member(row, f"{name}, row {number}")
            memberships.setdefault(symbol, []).append(membership)
    return {s: sorted(memberships[s], key=lambda period: period.first) for s in wanted if s in memberships}


def _parse_member(row: Mapping[str, str], where: str) -> tuple[str, Membership]:
    try:
        first = date.fromisoformat(row["start"].strip())
        last = date.fromisoformat(row["end"].strip()) if row["end"].strip() else None
        symbol = stored_symbol(row["symbol"])
    except (ValueError, AttributeError) as error:
        raise CandlecastError(f"{where}: invalid date ({error}): write dates as 2012-01-31") from None
    if not symbol:
        raise CandlecastError(f"{where}: the symbol is empty")
    if last and last < first:
        raise CandlecastError(f"{where}: end {last} is before start {first}")
    return symbol, Membership(first, last)
