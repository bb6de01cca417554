"""The trading calendar: sessions, trading hours and bar timestamps, past and future.

A thin interface to exchange_calendars, including its calendar "24/7". Timestamps are UTC without a time zone. A daily
bar has its session at 00:00 as timestamp, an intraday bar its start.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from resources.errors import CandlecastError

if TYPE_CHECKING:
    from exchange_calendars import ExchangeCalendar

DAILY = "1d"
# Sessions are computed from here; exchange_calendars' own default is the last twenty years.
FIRST_DAY = date(1990, 1, 1)


@dataclass(frozen=True)
class TradingCalendar:
    """The calendar of one exchange, for bars of one frequency.

    Args:
        name: an exchange_calendars name, or "24/7".
        frequency: "1d", or minutes or hours such as "5min", "1h".
    """

    name: str
    frequency: str = DAILY

    @property
    def is_daily(self) -> bool:
        return self.frequency == DAILY

    @property
    def period(self) -> pd.Timedelta:
        """The length of a bar."""
        return pd.Timedelta(self.frequency)

    @property
    def timezone(self) -> str:
        """Time zone of the exchange, for timestamps that carry none."""
        return str(self._exchange.tz)

    @cached_property
    def _exchange(self) -> ExchangeCalendar:
        return _exchange(self.name)

    def sessions(self, first: date, last: date) -> pd.DatetimeIndex:
        """All sessions from `first` to `last`, both inclusive, at midnight without a time zone.

        Raises:
            CandlecastError: the range is not covered by the calendar.
        """
        exchange = self._exchange
        low, high = exchange.first_session.date(), exchange.last_session.date()
        if first < low or last > high:
            raise CandlecastError(f"calendar {self.name} covers {low} … {high}, not {first} … {last}")
        sessions: pd.DatetimeIndex = exchange.sessions
        return sessions[sessions.slice_indexer(pd.Timestamp(first), pd.Timestamp(last))]

    def all_sessions(self) -> pd.DatetimeIndex:
        """All sessions of the calendar, at midnight without a time zone."""
        sessions: pd.DatetimeIndex = self._exchange.sessions
        return sessions

    def irregular_closures(self, first: date, last: date) -> tuple[date, ...]:
        """Weekdays from `first` to `last` on which the exchange was closed and that no rule predicts.

        Some were announced long before (lunar holidays), some on the day (2001-09-11): the calendar does not say which.
        """
        exchange = self._exchange
        adhoc = pd.DatetimeIndex(exchange.adhoc_holidays)
        days = adhoc[(adhoc >= pd.Timestamp(first)) & (adhoc <= pd.Timestamp(last)) & (adhoc.dayofweek < 5)]
        return tuple(day.date() for day in days.sort_values().unique())

    def holidays(self) -> pd.DatetimeIndex:
        """Days without a session, of a weekday that has sessions in that year, from the first session to the last.

        Irregular closures are left out, as they may not have been known before; except for calendars that have no
        rules, whose holidays are all of that kind.
        """
        exchange = self._exchange
        sessions = exchange.sessions
        days = pd.date_range(sessions[0], sessions[-1])
        # A few special sessions on weekends (Diwali in Bombay) make no weekend a holiday.
        counts = sessions.to_series().groupby([sessions.year, sessions.dayofweek]).size()
        usual = pd.MultiIndex.from_arrays([days.year, days.dayofweek]).isin(counts[counts > 9].index)
        closed = days[usual & ~days.isin(sessions)]
        irregular = exchange.adhoc_holidays if exchange.regular_holidays is not None else []
        found: pd.DatetimeIndex = closed[~closed.isin(pd.DatetimeIndex(irregular))]
        return found

    def sessions_of(self, stamps: np.ndarray) -> np.ndarray:
        """The session of each bar: (n,) datetime64[s], UTC, timestamps of bars → datetime64[D]."""
        if self.is_daily:
            return stamps.astype("datetime64[D]")
        opens = self._exchange.opens.dt.tz_localize(None)
        sessions = opens.index.to_numpy().astype("datetime64[D]")
        place = np.searchsorted(opens.to_numpy().astype("datetime64[s]"), stamps.astype("datetime64[s]"), side="right")
        found: np.ndarray = sessions[np.maximum(place - 1, 0)]
        return found

    def within(self, first: date, last: date) -> tuple[date, date]:
        """The part of a date range that the calendar covers."""
        sessions = self._exchange.sessions
        return max(first, sessions[0].date()), min(last, sessions[-1].date())

    def grid(self, first: date | None, last: date | None) -> pd.DataFrame:
        """All bars that the calendar expects, from a day before `first` to a day after `last`.

        Returns:
            Columns ts (timestamp), session, closes_at (end of the bar, UTC), half_day (the session closes early),
            position (running number of the bar, the same in every call).
        """
        exchange = self._exchange
        sessions = exchange.sessions
        if not self.is_daily:
            # A session may begin on the UTC day before, or end on the day after. Days out of range of pandas'
            # nanoseconds are replaced by the nearest session.
            start, end = sessions[0].date(), sessions[-1].date()
            low = pd.Timestamp(min(max(first, start), end)) - pd.Timedelta(days=2) if first else sessions[0]
            high = pd.Timestamp(min(max(last, start), end)) + pd.Timedelta(days=2) if last else sessions[0]
            sessions = sessions[sessions.slice_indexer(low, high)]
        closes = exchange.closes.dt.tz_localize(None).reindex(sessions)
        half_days = sessions.isin(exchange.early_closes)
        if self.is_daily:
            position = np.arange(len(sessions))
            return pd.DataFrame(
                {
                    "ts": sessions,
                    "session": sessions,
                    "closes_at": closes.to_numpy(),
                    "half_day": half_days,
                    "position": position,
                }
            )
        if not len(sessions):
            return pd.DataFrame(columns=["ts", "session", "closes_at", "half_day", "position"])
        ts = self.stamps(sessions[0].date(), sessions[-1].date())
        opens = exchange.opens.dt.tz_localize(None).reindex(sessions).to_numpy()
        inside = np.searchsorted(opens, ts.to_numpy(), side="right") - 1
        over = np.minimum((ts + pd.Timedelta(self.frequency)).to_numpy(), closes.to_numpy()[inside])
        place = np.arange(len(ts)) - np.searchsorted(inside, inside)
        position = self._bars_before[exchange.sessions.searchsorted(sessions)][inside] + place
        return pd.DataFrame(
            {
                "ts": ts,
                "session": sessions[inside],
                "closes_at": over,
                "half_day": half_days[inside],
                "position": position,
            }
        )

    def hours(self) -> pd.DataFrame:
        """The trading hours of all sessions: one row per part of a session, two where it has a break.

        Returns:
            Columns session, opens_at, closes_at (UTC), in the order of time.
        """
        schedule = self._exchange.schedule
        broken = schedule["break_start"].notna()
        closes = schedule["close"].where(~broken, schedule["break_start"])
        first = pd.DataFrame({"opens_at": schedule["open"], "closes_at": closes})
        second = pd.DataFrame({"opens_at": schedule["break_end"], "closes_at": schedule["close"]})[broken]
        parts: pd.DataFrame = pd.concat([first, second]).rename_axis("session").reset_index().sort_values("opens_at")
        for name in ("opens_at", "closes_at"):
            parts[name] = parts[name].dt.tz_localize(None)
        in_order: pd.DataFrame = parts.reset_index(drop=True)
        return in_order

    @cached_property
    def _bars_before(self) -> np.ndarray:
        """Number of bars that the calendar expects before each session: (sessions,) int64."""
        schedule, period = self._exchange.schedule, pd.Timedelta(self.frequency)
        paused = schedule["break_start"].notna()
        morning = schedule["close"].where(~paused, schedule["break_start"]) - schedule["open"]
        afternoon = (schedule["close"] - schedule["break_end"]).where(paused, pd.Timedelta(0))
        bars = np.ceil(morning / period) + np.ceil(afternoon / period)
        before: np.ndarray = np.r_[0, np.cumsum(bars.to_numpy())[:-1]].astype(np.int64)
        return before

    def begins(self, stamps: np.ndarray) -> np.ndarray:
        """When the session (daily) or the bar (intraday) of each timestamp begins, UTC: (n,) datetime64[s]."""
        if not self.is_daily:
            return stamps.astype("datetime64[s]")
        opens = self._exchange.opens.dt.tz_localize(None)
        found: np.ndarray = opens.reindex(pd.DatetimeIndex(stamps)).to_numpy().astype("datetime64[s]")
        return found

    def closed_by(self, now: datetime) -> date:
        """The newest session that has closed by `now` (UTC without a time zone)."""
        closes = self._exchange.closes.dt.tz_localize(None)
        newest: date = closes.index[closes.searchsorted(pd.Timestamp(now), side="right") - 1].date()
        return newest

    def following(self, stamp: np.datetime64, count: int) -> np.ndarray:
        """Timestamps of the `count` bars after the bar at `stamp`: (count,) datetime64[s]."""
        after = pd.Timestamp(stamp)
        if self.is_daily:
            sessions = self._exchange.sessions
            first = sessions.searchsorted(after, side="right")
            found = sessions[first : first + count]
        else:
            days = 5 + count // max(1, len(self.stamps(*[self._exchange.sessions[-1].date()] * 2))) * 2
            found = self.stamps(after.date() - timedelta(days=1), (after + pd.Timedelta(days=days + 10)).date())
            found = found[found > after][:count]
        if len(found) < count:
            raise CandlecastError(f"calendar {self.name} ends before {count} bars after {after}")
        timestamps: np.ndarray = found.to_numpy().astype("datetime64[s]")
        return timestamps

    def stamps(self, first: date, last: date) -> pd.DatetimeIndex:
        """Timestamps of all bars that the calendar expects in the sessions from `first` to `last`."""
        if self.is_daily:
            return self.sessions(first, last)
        # closed="left", force_close=False: a bar is stamped with its start; the last one of a session may be shorter.
        index = self._exchange.trading_index(
            pd.Timestamp(first), pd.Timestamp(last), period=self.frequency, intervals=False, closed="left"
        )
        naive: pd.DatetimeIndex = index.tz_localize(None)
        return naive


@lru_cache(maxsize=8)
def _exchange(name: str) -> ExchangeCalendar:
    import exchange_calendars

    _patch_offsets()
    today = date.today()
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
    step = pd.Timedelta(days=1 if offset.n > 0 else -1)
    for _ in range(abs(offset.n)):
        day += step
        while not offset.is_on_offset(day):
            day += step
    return day
