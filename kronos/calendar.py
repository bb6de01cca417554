"""Timestamps of the bars after a history."""

from __future__ import annotations

from datetime import tzinfo
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kronos.errors import InputError

if TYPE_CHECKING:
    from exchange_calendars import ExchangeCalendar

DAY = pd.Timedelta(days=1)
SHORTEST_MONTH = pd.Timedelta(days=28)


def future_timestamps(history: pd.DatetimeIndex, steps: int, *, calendar: str | None = None) -> pd.DatetimeIndex:
    """The next `steps` timestamps after `history` (strictly increasing), in its time zone, or without one.

    With `calendar` (an exchange_calendars name, also "24/7"): the exchange's next sessions for daily bars, its next
    trading minutes at the history's spacing for intraday bars. Timestamps without a time zone are the exchange's
    wall clock. Bars are assumed to be labelled by their start, or by their end where only that fits the history.

    Without `calendar`:

    - daily bars: the weekdays that occur in the history (if these are fewer than five: Monday to Friday, or all seven
      if a Saturday or Sunday is among them);
    - monthly, quarterly and yearly bars: the next months, at the same day or at the month's end;
    - all others: the most frequent spacing; of several equally frequent ones the median.

    Holidays are not known then. Bars of a day or more keep their time of day when the clocks change.

    Raises InputError if the history has no regular spacing, or the calendar cannot continue it.
    """
    if len(history) < 2:
        raise InputError("one timestamp has no spacing to continue: give y_timestamp")
    wall = history.tz_localize(None)
    spacing = pd.Timedelta(_most_frequent(np.diff(wall.to_numpy())))
    if spacing < DAY:
        spacing = pd.Timedelta(_most_frequent(np.diff(history.asi8)), unit=history.unit)
        if calendar is not None:
            return _next_minutes(history, steps, calendar, spacing)
        return pd.DatetimeIndex(history[-1] + spacing * np.arange(1, steps + 1))
    if calendar is not None:
        if spacing > DAY:
            raise InputError(
                f"calendar {calendar!r} continues daily and intraday bars, but most of these are {spacing} apart: "
                "give y_timestamp, or leave calendar out"
            )
        return _next_sessions(history, steps, calendar)
    if spacing > DAY:
        spacing = _long_spacing(wall)
    future = _next_weekdays(wall, steps) if spacing == DAY else _next_periods(wall, steps, spacing)
    return _localise(future, history.tz)


def _next_weekdays(wall: pd.DatetimeIndex, steps: int) -> pd.DatetimeIndex:
    open_days = np.isin(np.arange(7), wall.day_of_week)
    if open_days.sum() < 5:  # the history is too short to know which weekdays are always closed
        open_days = np.arange(7) < (7 if open_days[5:].any() else 5)
    days: list[pd.Timestamp] = []
    day = wall[-1]
    while len(days) < steps:
        day = day + DAY
        if open_days[day.weekday()]:
            days.append(day)
    return pd.DatetimeIndex(days)


def _long_spacing(wall: pd.DatetimeIndex) -> pd.Timedelta:
    """Spacing of bars longer than a day: the most frequent one; of several equally frequent ones the median of all.

    If all are multiples of the smallest, the smallest: bars are missing. For months, which `_next_periods` treats
    separately, any of them. Raises InputError where the median is the mean of two different spacings.
    """
    spacings = np.sort(np.diff(wall.to_numpy()))
    found, counts = np.unique(spacings, return_counts=True)
    least = found[counts.argmax()]
    tied = (counts == counts.max()).sum() > 1
    if not tied or least >= SHORTEST_MONTH.to_timedelta64() or not (found % least).any():
        return pd.Timedelta(least)
    low, high = spacings[(len(spacings) - 1) // 2], spacings[len(spacings) // 2]
    if low != high:
        raise InputError(
            f"the bars are {pd.Timedelta(low)} and {pd.Timedelta(high)} apart, equally often: give y_timestamp"
        )
    return pd.Timedelta(low)


def _next_periods(wall: pd.DatetimeIndex, steps: int, spacing: pd.Timedelta) -> pd.DatetimeIndex:
    """Weeks and other constant spacings, and months, whose length varies."""
    last, counts = wall[-1], range(1, steps + 1)
    wall = pd.DatetimeIndex(wall.to_numpy())  # drops freq: with business months is_month_end has another meaning
    if spacing >= SHORTEST_MONTH and (wall.is_month_end.all() or (wall.day == wall.day[0]).all()):
        months = max(1, int(_most_frequent(np.diff(12 * wall.year + wall.month))))
        if wall.is_month_end.all():
            return pd.DatetimeIndex([last + pd.offsets.MonthEnd(months * count) for count in counts])
        return pd.DatetimeIndex([last + pd.DateOffset(months=months * count) for count in counts])
    if spacing >= SHORTEST_MONTH and len(np.unique(np.diff(wall.to_numpy()))) > 1:
        raise InputError(f"the spacing of the bars varies, {spacing} is the most frequent: give y_timestamp")
    return pd.DatetimeIndex(last + spacing * np.arange(1, steps + 1))


def _next_sessions(history: pd.DatetimeIndex, steps: int, name: str) -> pd.DatetimeIndex:
    """The sessions after that of the last timestamp, at its time of day."""
    exchange = _calendar(name, history[-1], steps)
    newest = history[-1:]
    if newest.tz is not None and newest[0] != newest[0].normalize():
        newest = newest.tz_convert(exchange.tz)  # an instant, not a date: midnight in Tokyo is the day before in UTC
    last = newest.tz_localize(None)[0]
    day = last.normalize()
    sessions = _first(exchange.sessions[exchange.sessions > day], steps, name, last)
    future = _localise(sessions + (last - day), newest.tz)
    return future if history.tz is None else future.tz_convert(history.tz)


def _next_minutes(history: pd.DatetimeIndex, steps: int, name: str, spacing: pd.Timedelta) -> pd.DatetimeIndex:
    """The exchange's trading minutes after the last timestamp, labelled by start or end as the history is."""
    exchange = _calendar(name, history[-1], steps)
    local = history if history.tz is not None else _localise(history, exchange.tz)
    instants = local.tz_convert("UTC")
    starts, ends = (
        exchange.trading_index(
            exchange.first_session, exchange.last_session, spacing, intervals=False, force=True, closed=side
        )
        for side in ("left", "right")
    )
    recent = instants[instants >= starts[0]]
    grid = ends if recent.isin(ends).all() and not recent.isin(starts).all() else starts
    future = _first(grid[grid > instants[-1]], steps, name, history[-1])
    return future.tz_convert(exchange.tz).tz_localize(None) if history.tz is None else future.tz_convert(history.tz)


def _calendar(name: str, last: pd.Timestamp, steps: int) -> ExchangeCalendar:
    """The exchange's calendar from shortly before `last` to beyond the `steps` bars after it."""
    import exchange_calendars
    from exchange_calendars.errors import CalendarError, InvalidCalendarName

    day = last.tz_localize(None).normalize()
    start, end = day - 10 * DAY, day + (2 * steps + 30) * DAY
    try:
        return exchange_calendars.get_calendar(name, start=start, end=end)
    except InvalidCalendarName as error:
        raise InputError(f"calendar {name!r} is not known to exchange_calendars") from error
    except (ValueError, CalendarError):
        # Lunar holidays are known for a few years ahead only, others from some year on: use the known range.
        known = exchange_calendars.get_calendar(name)
        first, final = known.bound_min() or start, known.bound_max() or end
        try:
            return exchange_calendars.get_calendar(name, start=max(start, first), end=min(end, final))
        except (ValueError, CalendarError) as error:
            raise _unknown_range(name, steps, last) from error


def _first(timestamps: pd.DatetimeIndex, steps: int, name: str, last: pd.Timestamp) -> pd.DatetimeIndex:
    if len(timestamps) < steps:
        raise _unknown_range(name, steps, last)
    return timestamps[:steps]


def _unknown_range(name: str, steps: int, last: pd.Timestamp) -> InputError:
    return InputError(f"calendar {name!r} does not know the {steps} bars after {last}: give y_timestamp")


def _localise(wall: pd.DatetimeIndex, tz: tzinfo | None) -> pd.DatetimeIndex:
    """Wall-clock timestamps in a time zone. Skipped times are shifted forward; of repeated ones the second is meant."""
    if tz is None:
        return wall
    return wall.tz_localize(tz, ambiguous=np.zeros(len(wall), dtype=bool), nonexistent="shift_forward")


def _most_frequent(values: NDArray[Any] | pd.Index) -> Any:
    """The most frequent value, the smallest of several."""
    found, counts = np.unique(values, return_counts=True)
    return found[counts.argmax()]
