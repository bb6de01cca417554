"""Ranges of sessions for runs: which partitions exist, which are closed, where the newest bar is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from assets.forecasting.origins import first_origin
from assets.market.selection import OWN_BARS, source_filter, wanted_symbols
from assets.market.summary import sessions_without_bars
from assets.sessions import KEY_FORMAT, RANGE_END, RANGE_START, session_partitions
from orchestration.catch_up import merge_spans
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.layout import Home
from resources.settings import Settings
from resources.sql import load_sql
from resources.vintages import has_vintages
from resources.warehouse import Warehouse

SHOWN_RANGES = 3


@dataclass(frozen=True)
class SessionRange:
    """A range of sessions, both ends included."""

    first: date
    last: date

    @property
    def tags(self) -> dict[str, str]:
        """The tags that select this range of partitions for a run."""
        return {RANGE_START: self.first.strftime(KEY_FORMAT), RANGE_END: self.last.strftime(KEY_FORMAT)}


@dataclass(frozen=True)
class LeftOut:
    """The sessions of a range that a command leaves out, because neither the home nor the source has bars for them.

    Attributes:
        ranges: the first and the last session of each stretch, and their number.
    """

    ranges: tuple[tuple[date, date, int], ...] = ()

    @property
    def text(self) -> str:
        """In one line; empty: none."""
        if not self.ranges:
            return ""
        named = [f"{first} … {last}" for first, last, _ in self.ranges[:SHOWN_RANGES]]
        more = f", {len(self.ranges) - SHOWN_RANGES} more" * (len(self.ranges) > SHOWN_RANGES)
        total = sum(count for *_, count in self.ranges)
        return f"left out: {total:,} sessions without bars, {', '.join(named)}{more}"

    def as_json(self) -> list[dict[str, object]]:
        """As JSON values."""
        return [{"first": first, "last": last, "sessions": count} for first, last, count in self.ranges]


class SessionPlanner:
    """The session ranges of one set of settings and one warehouse."""

    def __init__(self, settings: Settings, calendar: TradingCalendar, warehouse: Warehouse) -> None:
        self.settings = settings
        self.calendar = calendar
        self.warehouse = warehouse
        self.partitions = session_partitions(settings, Home(settings.home))

    def between(self, first: date, last: date) -> SessionRange:
        """The sessions from `first` to `last` within market.start and market.end.

        Raises:
            CandlecastError: there are none, or the last one is not closed yet.
        """
        market = self.settings.market
        found = self.calendar.covered_sessions(max(first, market.start), min(last, market.end or last))
        if not found:
            raise CandlecastError(
                f"no session of {self.calendar.name} in {first} … {last} "
                f"(market.start {market.start}, market.end {market.end})"
            )
        closed = self.last_closed()
        if found[-1] > closed:
            raise CandlecastError(
                f"session {found[-1]} is not closed yet; the newest available session is {closed} (the partition of "
                "a session opens at 00:00 UTC after it)"
            )
        return SessionRange(found[0], found[-1])

    def with_bars(self, covered: SessionRange, pending: Iterable[date]) -> list[date]:
        """The sessions of a range that have stored bars, or that are `pending`: the source has bars for them."""
        sessions = self._sessions(covered)
        absent = set(sessions_without_bars(self.warehouse, self.settings.market.frequency, sessions)) - set(pending)
        return [session for session in sessions if session not in absent]

    def parts(self, sessions: Iterable[date]) -> list[SessionRange]:
        """The ranges of the runs that cover some sessions: one, or several where there are long gaps between them."""
        wanted = sorted(set(sessions))
        if not wanted:
            return []
        known = self._sessions(SessionRange(wanted[0], wanted[-1]))
        places = {session: place for place, session in enumerate(known)}
        spans = merge_spans((places[session], places[session]) for session in wanted)
        return [SessionRange(known[first], known[last]) for first, last in spans]

    def left_out(self, covered: SessionRange, parts: Sequence[SessionRange]) -> LeftOut:
        """The sessions of a range that are in none of its parts."""
        stretches: list[list[date]] = [[]]
        for session in self._sessions(covered):
            if any(part.first <= session <= part.last for part in parts):
                stretches.append([])
            else:
                stretches[-1].append(session)
        return LeftOut(tuple((one[0], one[-1], len(one)) for one in stretches if one))

    def _sessions(self, covered: SessionRange) -> list[date]:
        return self.calendar.covered_sessions(covered.first, covered.last)

    def test_range(self) -> SessionRange:
        """The sessions from the start of windows.test to the newest bar.

        Raises:
            CandlecastError: the newest bar is older than windows.test, or there are no bars.
        """
        first, newest = self.settings.windows.test[0], self.newest_with_bars()
        if newest < first:
            raise CandlecastError(
                f"no origin in range: the newest bar is from {newest}, and windows.test starts on {first}. "
                "Ingest newer bars, or set windows.test earlier"
            )
        return self._from_first_bar(self.between(first, newest))

    def forecast_range(self) -> SessionRange:
        """As `test_range`, from the first origin of the warm-up on, if there is one."""
        tested = self.test_range()
        first = max(first_origin(self.settings), self.settings.market.start)
        return self._from_first_bar(self.between(first, tested.last)) if first < tested.first else tested

    def _from_first_bar(self, covered: SessionRange) -> SessionRange:
        """The range without the sessions before its first bar; with vintages unchanged, each has to have bars."""
        known = [] if has_vintages(self.settings.windows) else self.with_bars(covered, [])
        return SessionRange(known[0], covered.last) if known else covered

    def newest_with_bars(self) -> date:
        """The newest closed session with bars of market.symbols.

        Raises:
            CandlecastError: there are no bars.
        """
        parameters: dict[str, Any] = {
            "frequency": self.settings.market.frequency,
            "first": self.settings.market.start,
            "last": self.last_closed(),
            "symbols": wanted_symbols(self.settings),
            "sources": source_filter(self.settings, self.warehouse),
        }
        row = self.warehouse.frame(
            load_sql(__package__, "newest_session.sql").format(own_bars=OWN_BARS), parameters
        ).iloc[0]
        if not row["bars"]:
            wanted, stored = parameters["symbols"] or ["all"], row["stored"]
            remedy = (
                f"symbols with bars: {', '.join(stored)}. Correct market.symbols"
                if len(stored)
                else f'the source "{self.settings.market.source}" has none there. Correct market.start, market.end, '
                "market.symbols or the keys of the source"
            )
            raise CandlecastError(
                f"no bars of market.symbols = {', '.join(wanted)} in {parameters['first']} … {parameters['last']}; "
                f"{remedy}"
            )
        newest: date = row["newest"].date()
        return newest

    def last_closed(self) -> date:
        """The newest session that has a partition.

        Raises:
            CandlecastError: no session since market.start is closed.
        """
        key = self.partitions.get_last_partition_key()
        if key is None:
            raise CandlecastError(
                f"no session of {self.calendar.name} since market.start {self.settings.market.start} is closed yet"
            )
        return date.fromisoformat(key)
