"""The sessions of an exchange as plain dates, without importing exchange_calendars where they are known already.

Loading the definitions needs the dates of a calendar alone. Not here: how they are kept (resources.kept_calendars) and
computed (resources.exchange_schedule), early closes and bar timestamps (resources.calendar).
"""

from __future__ import annotations

import importlib.util
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from resources.errors import CandlecastError
from resources.kept_calendars import AHEAD, kept_calendar
from resources.layout import Home

if TYPE_CHECKING:
    from resources.settings import MarketSettings

NEVER_CLOSED = "24/7"


def session_dates(calendar: str, until: date, home: Home | None = None) -> Sequence[date]:
    """Every session that a calendar covers, oldest first.

    Args:
        calendar: an exchange_calendars name, or "24/7".
        until: a day up to which sessions are wanted.
        home: where the schedule is kept; none: it is computed.

    Raises:
        CandlecastError: the calendar cannot be computed.
    """
    if home and (kept := kept_calendar(home, calendar, until)):
        return [date.fromisoformat(day) for day in kept["sessions"]]
    from resources.exchange_schedule import exchange_schedule

    dates: list[date] = exchange_schedule(calendar, home, until).sessions.tolist()
    return dates


def market_sessions(market: MarketSettings, home: Home | None = None) -> tuple[date, date, Sequence[date]]:
    """First and last day of `market.start` … `market.end` that the calendar covers, and the sessions in between.

    Without an end the last one is `AHEAD` of today.

    Raises:
        CandlecastError: the calendar has no session in the range.
    """
    wanted = market.end or date.today() + AHEAD
    covered = session_dates(market.calendar, wanted, home)
    first, last = max(market.start, covered[0]), min(wanted, covered[-1])
    if last < first:
        raise CandlecastError(
            f"calendar {market.calendar} has no session in {market.start} … {wanted}: set market.start and market.end "
            "to days that it covers, or another market.calendar"
        )
    return first, last, covered[bisect_left(covered, first) : bisect_right(covered, last)]


def newest_closed_session(market: MarketSettings, home: Home | None = None) -> date | None:
    """The newest session that is over in UTC, as the newest partition is; none: none is.

    Raises:
        CandlecastError: as `market_sessions`.
    """
    _, _, sessions = market_sessions(market, home)
    closed = bisect_left(sessions, datetime.now(UTC).date())
    return sessions[closed - 1] if closed else None


def is_calendar(name: str) -> bool:
    """Whether exchange_calendars has a calendar or an alias of this name, or it is "24/7"."""
    # Its own calendars are one module each: a name that has one is known without importing the package.
    package = importlib.util.find_spec("exchange_calendars")
    folder = Path(package.origin).parent if package and package.origin else Path()
    if name == NEVER_CLOSED or (name.isupper() and (folder / f"exchange_calendar_{name.lower()}.py").is_file()):
        return True
    import exchange_calendars

    return name in exchange_calendars.get_calendar_names(include_aliases=True)
