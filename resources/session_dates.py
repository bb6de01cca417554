"""The sessions of an exchange as plain dates, without importing exchange_calendars where they are known already.

exchange_calendars imports pandas and takes seconds to compute a calendar; loading the definitions needs its dates
alone. They are computed once per calendar and version, and kept in the home folder. Not here: hours, early closes and
bar timestamps (resources.calendar).
"""

from __future__ import annotations

import importlib.util
import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resources.errors import CandlecastError
from resources.layout import Home
from resources.publish import publish_bytes

if TYPE_CHECKING:
    from resources.settings import MarketSettings

NEVER_CLOSED = "24/7"
# The distributions that decide which days are sessions.
COMPUTED_BY = ("exchange_calendars", "pandas")
# How far ahead sessions are known: longer than a server goes without a restart.
AHEAD = timedelta(days=180)


def session_dates(calendar: str, until: date, home: Home | None = None) -> Sequence[date]:
    """Every session that a calendar covers, oldest first.

    Args:
        calendar: an exchange_calendars name, or "24/7".
        until: a day up to which sessions are wanted. Dates kept on an earlier day that end before it are computed
            again: most calendars end a year from today, some with the year.
        home: where the dates are kept; none: they are computed.

    Raises:
        CandlecastError: the calendar cannot be computed.
    """
    file = home.calendars / f"{calendar.replace('/', '-')}.json" if home else None
    key = {"calendar": calendar, **{name: version(name) for name in COMPUTED_BY}}
    kept = _read(file, key) if file else None
    if kept and (kept[1][-1] >= until or kept[0] == date.today()):
        return kept[1]
    from resources.calendar import TradingCalendar

    dates = [day.date() for day in TradingCalendar(calendar).all_sessions()]
    if file:
        _write(file, {**key, "computed_on": str(date.today()), "sessions": [str(day) for day in dates]})
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


def _read(file: Path, key: dict[str, str]) -> tuple[date, Sequence[date]] | None:
    """The day on which dates were computed and the dates; none: no file, of other versions, or damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if any(content[name] != value for name, value in key.items()):
            return None
        sessions = [date.fromisoformat(day) for day in content["sessions"]]
        return (date.fromisoformat(content["computed_on"]), sessions) if sessions else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(file: Path, content: dict[str, Any]) -> None:
    try:
        publish_bytes(file, json.dumps(content).encode())
    except OSError:
        # A home that cannot be written, as of a read-only web server: computed again next time.
        return
