"""The trading calendar: sessions, their hours, and the stamps of the bars that are still to come.

A thin face of exchange_calendars, with days that never close ("24/7") behind the same face. Stamps are UTC without a
zone. A daily bar's stamp is its session at 00:00; an intraday bar's is its start.
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
    """One exchange's calendar, for bars of one frequency.

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
    def timezone(self) -> str:
        """The exchange's zone, for stamps that carry none."""
        return str(self._exchange.tz)

    @cached_property
    def _exchange(self) -> ExchangeCalendar:
        return _exchange(self.name)

    def sessions(self, first: date, last: date) -> pd.DatetimeIndex:
        """Every session from `first` to `last`, both inside, as midnights without a zone.

        Raises:
            CandlecastError: the range is not covered by the calendar.
        """
        exchange = self._exchange
        low, high = exchange.first_session.date(), exchange.last_session.date()
        if first < low or last > high:
            raise CandlecastError(f"calendar {self.name} covers {low} … {high}, not {first} … {last}")
        return exchange.sessions[exchange.sessions.slice_indexer(pd.Timestamp(first), pd.Timestamp(last))]

    def all_sessions(self) -> pd.DatetimeIndex:
        """Every session that the calendar knows, as midnights without a zone."""
        return self._exchange.sessions

    def within(self, first: date, last: date) -> tuple[date, date]:
        """The part of a range of days that the calendar covers."""
        sessions = self._exchange.sessions
        return max(first, sessions[0].date()), min(last, sessions[-1].date())

    def grid(self, first: date | None, last: date | None) -> pd.DataFrame:
        """Every bar that the calendar expects from a day before `first` to a day after `last`.

        Returns:
            ts: the bar's stamp; session; closes_at: when it is over, in UTC; half_day: the session closes early;
            position: a running number, the same for the same bar in every call.
        """
        exchange = self._exchange
        sessions = exchange.sessions
        if not self.is_daily:
            # A session of another zone may be a UTC day earlier or later.
            # A day that pandas' nanoseconds cannot hold is taken for the nearest session that there is.
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

    @cached_property
    def _bars_before(self) -> np.ndarray:
        """How many bars of this frequency the calendar expects before each of its sessions: (sessions,) int64."""
        schedule, period = self._exchange.schedule, pd.Timedelta(self.frequency)
        paused = schedule["break_start"].notna()
        morning = schedule["close"].where(~paused, schedule["break_start"]) - schedule["open"]
        afternoon = (schedule["close"] - schedule["break_end"]).where(paused, pd.Timedelta(0))
        bars = np.ceil(morning / period) + np.ceil(afternoon / period)
        return np.r_[0, np.cumsum(bars.to_numpy())[:-1]].astype(np.int64)

    def closed_by(self, now: datetime) -> date:
        """The newest session whose close is not after `now` (UTC without a zone)."""
        closes = self._exchange.closes.dt.tz_localize(None)
        return closes.index[closes.searchsorted(pd.Timestamp(now), side="right") - 1].date()

    def following(self, stamp: np.datetime64, count: int) -> np.ndarray:
        """The stamps of the next `count` bars after the bar stamped `stamp`: datetime64[s], shape (count,)."""
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
        return found.to_numpy().astype("datetime64[s]")

    def stamps(self, first: date, last: date) -> pd.DatetimeIndex:
        """The stamp of every bar that the calendar expects in the sessions from `first` to `last`."""
        if self.is_daily:
            return self.sessions(first, last)
        # closed="left", force_close=False: a bar carries its start, and the last one of a session may be short.
        index = self._exchange.trading_index(
            pd.Timestamp(first), pd.Timestamp(last), period=self.frequency, intervals=False, closed="left"
        )
        return index.tz_localize(None)


@lru_cache(maxsize=8)
def _exchange(name: str) -> ExchangeCalendar:
    import exchange_calendars

    _mend_offsets()
    today = date.today()
    # Some calendars begin later, or know holidays for few years ahead (the lunar ones): take what there is.
    starts = [FIRST_DAY, *(date(year, 1, 1) for year in range(FIRST_DAY.year + 1, today.year))]
    ends = [today + timedelta(days=365), date(today.year, 12, 31), None]
    refused = ""
    for start in starts:
        for end in ends:
            try:
                return exchange_calendars.get_calendar(name, start=str(start), end=str(end) if end else None)
            except ValueError as error:
                refused = str(error)
    raise CandlecastError(f"calendar {name}: {refused[:300]}")


def _mend_offsets() -> None:
    """exchange_calendars 4.13 defines `_apply` where pandas 3.1 asks for `_add_datetime`: without it the calendars with
    an Orthodox Easter (Athens, Belgrade, Bucharest, Nicosia) cannot be made, nor Tel Aviv's, whose week changed."""
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
