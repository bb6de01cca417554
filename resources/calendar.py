"""The trading calendar: sessions, trading hours and bar timestamps, past and future.

A thin interface to exchange_calendars, including its calendar "24/7". Timestamps are UTC without a time zone. A daily
bar has its session at 00:00 as timestamp, an intraday bar its start. Not here: how a calendar is computed and kept
(resources.exchange_schedule).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from resources.errors import CandlecastError
from resources.exchange_schedule import ExchangeSchedule, computed_exchange, computed_schedule, exchange_schedule
from resources.layout import Home

if TYPE_CHECKING:
    import pandas as pd

DAILY = "1d"


@dataclass(frozen=True)
class TradingCalendar:
    """The calendar of one exchange, for bars of one frequency.

    Args:
        name: an exchange_calendars name, or "24/7".
        frequency: "1d", or minutes or hours such as "5min", "1h".
        home: where the schedule is kept between processes; none: it is computed, unless this process has it.
    """

    name: str
    frequency: str = DAILY
    home: Home | None = field(default=None, compare=False)

    @property
    def is_daily(self) -> bool:
        return self.frequency == DAILY

    @property
    def period(self) -> pd.Timedelta:
        """The length of a bar."""
        import pandas as pd

        return pd.Timedelta(self.frequency)

    @property
    def timezone(self) -> str:
        """Time zone of the exchange, for timestamps that carry none."""
        return self._schedule.timezone

    @cached_property
    def _schedule(self) -> ExchangeSchedule:
        # The timestamps of intraday bars need exchange_calendars itself, which has the same sessions then.
        return exchange_schedule(self.name, self.home) if self.is_daily else computed_schedule(self.name)

    def sessions(self, first: date, last: date) -> pd.DatetimeIndex:
        """All sessions from `first` to `last`, both inclusive, at midnight without a time zone.

        Raises:
            CandlecastError: the range is not covered by the calendar.
        """
        return _index(self.session_days(first, last))

    def session_days(self, first: date, last: date) -> np.ndarray:
        """`sessions` as an array: (n,) datetime64[D]."""
        schedule = self._schedule
        if not schedule.reaches(last):  # it may have been kept on an earlier day
            schedule = computed_schedule(self.name)
        low, high = schedule.sessions[[0, -1]].tolist()
        if first < low or last > high:
            raise CandlecastError(f"calendar {self.name} covers {low} … {high}, not {first} … {last}")
        found: np.ndarray = schedule.sessions[_between(schedule.sessions, first, last)]
        return found

    def all_sessions(self) -> pd.DatetimeIndex:
        """All sessions of the calendar, at midnight without a time zone."""
        return _index(self._schedule.sessions)

    def covered_sessions(self, first: date, last: date) -> list[date]:
        """The sessions from `first` to `last`, both inclusive, as far as the calendar covers the range."""
        sessions = self._schedule.sessions
        found: list[date] = sessions[_between(sessions, first, last)].tolist()
        return found

    def irregular_closures(self, first: date, last: date) -> tuple[date, ...]:
        """Weekdays from `first` to `last` on which the exchange was closed and that no rule predicts.

        Some were announced long before (lunar holidays), some on the day (2001-09-11): the calendar does not say which.
        """
        days = np.unique(self._schedule.irregular)
        days = days[_between(days, first, last)]
        return tuple(days[np.is_busday(days)].tolist())

    def holidays(self) -> pd.DatetimeIndex:
        """Days without a session, of a weekday that has sessions in that year, from the first session to the last.

        Irregular closures are left out, as they may not have been known before; except for calendars that have no
        rules, whose holidays are all of that kind.
        """
        import pandas as pd

        sessions = self.all_sessions()
        days = pd.date_range(sessions[0], sessions[-1])
        # A few special sessions on weekends (Diwali in Bombay) make no weekend a holiday.
        counts = sessions.to_series().groupby([sessions.year, sessions.dayofweek]).size()
        usual = pd.MultiIndex.from_arrays([days.year, days.dayofweek]).isin(counts[counts > 9].index)
        closed = days[usual & ~days.isin(sessions)]
        if not self._schedule.has_rules:
            return closed
        found: pd.DatetimeIndex = closed[~closed.isin(pd.DatetimeIndex(self._schedule.irregular))]
        return found

    def sessions_of(self, stamps: np.ndarray) -> np.ndarray:
        """The session of each bar: (n,) datetime64[s], UTC, timestamps of bars → datetime64[D]."""
        if self.is_daily:
            return stamps.astype("datetime64[D]")
        place = np.searchsorted(self._schedule.opens, stamps.astype("datetime64[s]"), side="right")
        found: np.ndarray = self._schedule.sessions[np.maximum(place - 1, 0)]
        return found

    def within(self, first: date, last: date) -> tuple[date, date]:
        """The part of a date range that the calendar covers."""
        low, high = self._schedule.sessions[[0, -1]].tolist()
        return max(first, low), min(last, high)

    def grid(self, first: date | None, last: date | None) -> pd.DataFrame:
        """All bars that the calendar expects, from a day before `first` to a day after `last`.

        Returns:
            Columns ts (timestamp), session, closes_at (end of the bar, UTC), half_day (the session closes early),
            position (running number of the bar, the same in every call).
        """
        import pandas as pd

        schedule = self._schedule
        if self.is_daily:
            sessions = self.all_sessions()
            return pd.DataFrame(
                {
                    "ts": sessions,
                    "session": sessions,
                    "closes_at": schedule.closes.astype("datetime64[ns]"),
                    "half_day": schedule.half_days,
                    "position": np.arange(len(sessions)),
                }
            )
        # A session may begin on the UTC day before, or end on the day after. Days that the calendar does not cover are
        # replaced by the nearest session.
        start, end = schedule.sessions[0], schedule.sessions[-1]
        low = min(max(np.datetime64(first, "D"), start), end) - 2 if first else start
        high = min(max(np.datetime64(last, "D"), start), end) + 2 if last else start
        place = np.flatnonzero((schedule.sessions >= low) & (schedule.sessions <= high))
        if not len(place):
            return pd.DataFrame(columns=["ts", "session", "closes_at", "half_day", "position"])
        opens, closes = (part[place].astype("datetime64[ns]") for part in (schedule.opens, schedule.closes))
        ts = self.stamps(*schedule.sessions[place[[0, -1]]].tolist())
        inside = np.searchsorted(opens, ts.to_numpy(), side="right") - 1
        number = np.arange(len(ts)) - np.searchsorted(inside, inside)
        return pd.DataFrame(
            {
                "ts": ts,
                "session": _index(schedule.sessions[place[inside]]),
                "closes_at": np.minimum((ts + pd.Timedelta(self.frequency)).to_numpy(), closes[inside]),
                "half_day": schedule.half_days[place[inside]],
                "position": self._bars_before[place[inside]] + number,
            }
        )

    def hours(self) -> pd.DataFrame:
        """The trading hours of all sessions: one row per part of a session, two where it has a break.

        Returns:
            Columns session, opens_at, closes_at (UTC), in the order of time.
        """
        import pandas as pd

        schedule = self._schedule
        broken = ~np.isnat(schedule.break_starts)
        opens = np.r_[schedule.opens, schedule.break_ends[broken]]
        closes = np.r_[np.where(broken, schedule.break_starts, schedule.closes), schedule.closes[broken]]
        order = np.argsort(opens, kind="stable")
        return pd.DataFrame(
            {
                "session": _index(np.r_[schedule.sessions, schedule.sessions[broken]][order]),
                "opens_at": opens[order].astype("datetime64[ns]"),
                "closes_at": closes[order].astype("datetime64[ns]"),
            }
        )

    @cached_property
    def _bars_before(self) -> np.ndarray:
        """Number of bars that the calendar expects before each session: (sessions,) int64."""
        schedule, period = self._schedule, self.period.to_timedelta64()
        broken = ~np.isnat(schedule.break_starts)
        morning = np.where(broken, schedule.break_starts, schedule.closes) - schedule.opens
        afternoon = np.where(broken, schedule.closes - schedule.break_ends, np.timedelta64(0, "s"))
        bars = np.ceil(morning / period) + np.ceil(afternoon / period)
        before: np.ndarray = np.r_[0, np.cumsum(bars)[:-1]].astype(np.int64)
        return before

    def begins(self, stamps: np.ndarray) -> np.ndarray:
        """When the session (daily) or the bar (intraday) of each timestamp begins, UTC: (n,) datetime64[s].

        Daily timestamps that are no session: NaT.
        """
        if not self.is_daily:
            return stamps.astype("datetime64[s]")
        schedule, days = self._schedule, stamps.astype("datetime64[D]")
        if len(days) and not schedule.reaches(days.max().astype(object)):
            schedule = computed_schedule(self.name)
        place = np.minimum(np.searchsorted(schedule.sessions, days), len(schedule.sessions) - 1)
        found: np.ndarray = np.where(schedule.sessions[place] == stamps, schedule.opens[place], np.datetime64("NaT"))
        return found

    def closed_by(self, now: datetime) -> date:
        """The newest session that has closed by `now` (UTC without a time zone)."""
        schedule = self._schedule
        place = np.searchsorted(schedule.closes, np.datetime64(now), side="right") - 1
        newest: date = schedule.sessions[place].astype(object)
        return newest

    def following(self, stamp: np.datetime64, count: int) -> np.ndarray:
        """Timestamps of the `count` bars after the bar at `stamp`: (count,) datetime64[s]."""
        if self.is_daily:
            found = _after(self._schedule.sessions, stamp, count)
            if len(found) < count:  # it may have been kept on an earlier day
                found = _after(computed_schedule(self.name).sessions, stamp, count)
        else:
            after: date = np.datetime64(stamp).astype("datetime64[D]").astype(object)
            newest: date = self._schedule.sessions[-1].astype(object)
            days = 15 + count // max(1, len(self.stamps(newest, newest))) * 2
            stamps = self.stamps(after - timedelta(days=1), after + timedelta(days=days)).to_numpy()
            found = _after(stamps, stamp, count)
        if len(found) < count:
            raise CandlecastError(f"calendar {self.name} ends before {count} bars after {stamp}")
        return found.astype("datetime64[s]")

    def stamps(self, first: date, last: date) -> pd.DatetimeIndex:
        """Timestamps of all bars that the calendar expects in the sessions from `first` to `last`."""
        if self.is_daily:
            return self.sessions(first, last)
        import pandas as pd

        # closed="left", force_close=False: a bar is stamped with its start; the last one of a session may be shorter.
        index = computed_exchange(self.name).trading_index(
            pd.Timestamp(first), pd.Timestamp(last), period=self.frequency, intervals=False, closed="left"
        )
        naive: pd.DatetimeIndex = index.tz_localize(None)
        return naive


def _index(sessions: np.ndarray) -> pd.DatetimeIndex:
    """Sessions, datetime64[D], as pandas' index."""
    import pandas as pd

    return pd.DatetimeIndex(sessions.astype("datetime64[ns]"))


def _between(days: np.ndarray, first: date, last: date) -> slice:
    """The part of sorted days, datetime64[D], from `first` to `last`, both inclusive."""
    low, high = np.datetime64(first, "D"), np.datetime64(last, "D")
    return slice(int(np.searchsorted(days, low)), int(np.searchsorted(days, high, side="right")))


def _after(stamps: np.ndarray, stamp: np.datetime64, count: int) -> np.ndarray:
    """The first `count` of sorted timestamps that are after one."""
    first = np.searchsorted(stamps, np.datetime64(stamp), side="right")
    found: np.ndarray = stamps[first : first + count]
    return found
