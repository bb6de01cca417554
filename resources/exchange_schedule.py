"""The sessions and trading hours of an exchange as arrays: as they were kept, or computed by exchange_calendars.

Not here: how they are kept (resources.kept_calendars), what is asked of a calendar (resources.calendar), sessions as
plain dates (resources.session_dates).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from resources.errors import CandlecastError
from resources.kept_calendars import AHEAD, keep_calendar, kept_calendar
from resources.layout import Home

if TYPE_CHECKING:
    import pandas as pd
    from exchange_calendars import ExchangeCalendar

# Sessions are computed from here; exchange_calendars' own default is the last twenty years.
FIRST_DAY = date(1990, 1, 1)


@dataclass(frozen=True, eq=False)
class ExchangeSchedule:
    """All sessions of an exchange, oldest first, with their hours in UTC.

    Attributes:
        sessions: (n,) datetime64[D].
        opens, closes: (n,) datetime64[s].
        break_starts, break_ends: (n,) datetime64[s], NaT for a session without a break.
        half_days: (n,) bool, sessions that close early.
        irregular: (m,) datetime64[D], closures that no rule predicts, unordered, some before the first session.
        has_rules: whether rules predict the other closures.
        timezone: of the exchange.
    """

    sessions: np.ndarray
    opens: np.ndarray
    closes: np.ndarray
    break_starts: np.ndarray
    break_ends: np.ndarray
    half_days: np.ndarray
    irregular: np.ndarray
    has_rules: bool
    timezone: str

    def reaches(self, day: date) -> bool:
        """Whether the last session is on that day or after it."""
        return bool(self.sessions[-1] >= np.datetime64(day, "D"))


# The newest schedule of each calendar that this process read or computed for a home.
_in_use: dict[str, ExchangeSchedule] = {}


def exchange_schedule(name: str, home: Home | None = None, until: date | None = None) -> ExchangeSchedule:
    """The schedule of a calendar.

    Args:
        name: an exchange_calendars name, or "24/7".
        home: where it is kept; none: the one that this process has, or it is computed.
        until: a day up to which sessions are wanted; none: `AHEAD` of today. What was kept on an earlier day and ends
            before it, or is older than `LONGEST_KEPT`, is computed again: most calendars end a year from today, some
            with the year.

    Raises:
        CandlecastError: the calendar cannot be computed.
    """
    if home is None:
        return _in_use.get(name) or computed_schedule(name)
    kept = kept_calendar(home, name, until or date.today() + AHEAD)
    found = _schedule_of(kept) if kept else computed_schedule(name)
    if not kept:
        keep_calendar(home, name, _content_of(found))
    if until is None:
        _in_use[name] = found
    return found


def computed_schedule(name: str) -> ExchangeSchedule:
    """The schedule as exchange_calendars computes it today, once per process.

    Raises:
        CandlecastError: the calendar cannot be computed.
    """
    return _computed(name, date.today())


def computed_exchange(name: str) -> ExchangeCalendar:
    """The calendar of exchange_calendars, computed today, once per process.

    Raises:
        CandlecastError: it cannot be computed.
    """
    return _exchange(name, date.today())


@lru_cache(maxsize=8)
def _computed(name: str, today: date) -> ExchangeSchedule:
    import pandas as pd

    exchange = _exchange(name, today)
    hours = exchange.schedule

    def utc(column: str) -> np.ndarray:
        found: np.ndarray = hours[column].dt.tz_localize(None).to_numpy().astype("datetime64[s]")
        return found

    sessions = exchange.sessions
    return ExchangeSchedule(
        sessions.to_numpy().astype("datetime64[D]"),
        utc("open"),
        utc("close"),
        utc("break_start"),
        utc("break_end"),
        sessions.isin(exchange.early_closes),
        pd.DatetimeIndex(exchange.adhoc_holidays).to_numpy().astype("datetime64[D]"),
        exchange.regular_holidays is not None,
        str(exchange.tz),
    )


@lru_cache(maxsize=8)
def _exchange(name: str, today: date) -> ExchangeCalendar:
    import exchange_calendars

    _patch_offsets()
    # Some calendars begin later, or have holidays for few years ahead (lunar calendars): use the widest range.
    starts = [FIRST_DAY, *(date(year, 1, 1) for year in range(FIRST_DAY.year + 1, today.year))]
    ends = [today + timedelta(days=365), date(today.year, 12, 31), None]
    last_error = ""
    for start in starts:
        for end in ends:
            try:
                return exchange_calendars.get_calendar(name, start=str(start), end=str(end) if end else None)
            except ValueError as error:
                last_error = str(error)
    raise CandlecastError(f"calendar {name}: {last_error[:300]}")


def _schedule_of(content: Mapping[str, Any]) -> ExchangeSchedule:
    sessions = np.array(content["sessions"], dtype="datetime64[D]")
    count, unbroken = len(sessions), [None] * len(sessions)
    return ExchangeSchedule(
        sessions,
        np.array(content["opens"], dtype="datetime64[s]"),
        np.array(content["closes"], dtype="datetime64[s]"),
        np.array(content["break_starts"] or unbroken, dtype="datetime64[s]"),
        np.array(content["break_ends"] or unbroken, dtype="datetime64[s]"),
        np.isin(np.arange(count), content["half_days"]),
        np.array(content["irregular"], dtype="datetime64[D]"),
        content["has_rules"],
        content["timezone"],
    )


def _content_of(schedule: ExchangeSchedule) -> dict[str, Any]:
    return {
        "timezone": schedule.timezone,
        "has_rules": schedule.has_rules,
        "sessions": schedule.sessions.astype(str).tolist(),
        "opens": _seconds(schedule.opens),
        "closes": _seconds(schedule.closes),
        "break_starts": _seconds(schedule.break_starts),
        "break_ends": _seconds(schedule.break_ends),
        "half_days": np.flatnonzero(schedule.half_days).tolist(),
        "irregular": schedule.irregular.astype(str).tolist(),
    }


def _seconds(moments: np.ndarray) -> list[int | None]:
    """Seconds since 1970, none for NaT; empty if all are NaT."""
    missing = np.isnat(moments)
    if missing.all():
        return []
    pairs = zip(missing.tolist(), moments.astype(np.int64).tolist(), strict=True)
    return [None if gone else value for gone, value in pairs]


def _patch_offsets() -> None:
    """exchange_calendars 4.13 defines `_apply` where pandas 3.1 calls `_add_datetime`: without this patch the calendars
    with an Orthodox Easter (Athens, Belgrade, Bucharest, Nicosia) and Tel Aviv's, whose week changed, raise errors."""
    from exchange_calendars.pandas_extensions import offsets

    easter, composite = offsets.OrthodoxEaster, offsets.CompositeCustomBusinessDay
    if not hasattr(composite, "_supports_daily_offset_mask"):
        return
    easter._add_datetime = easter._apply
    composite._supports_daily_offset_mask = False
    composite._add_datetime = _next_on_offset


def _next_on_offset(offset: Any, day: pd.Timestamp) -> pd.Timestamp:
    import pandas as pd

    step = pd.Timedelta(days=1 if offset.n > 0 else -1)
    for _ in range(abs(offset.n)):
        day += step
        while not offset.is_on_offset(day):
            day += step
    return day
