"""Stamps of bars that are still to come."""

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
    """The next `steps` stamps after `history` (strictly increasing), in its zone, or without one if it has none.

    With `calendar` (an exchange_calendars name, "24/7" among them): the exchange's next sessions for daily
    bars, its next trading minutes at the history's spacing for intraday ones. Stamps without a zone are the
    exchange's wall clock. Bars are taken to carry their start, or their end where only that fits the history.

    Without: the weekdays of the history for daily bars (of one that has seen fewer than five: Monday to Friday,
    or all seven if it has seen a Saturday or Sunday), the next months for monthly, quarterly and yearly ones at
    the same day or at the month's end, the most frequent spacing otherwise, and of several as frequent the median;
    holidays are then not known. Bars of a day and more keep their hour when the clocks change.

    Raises InputError if the history has no spacing to continue, or the calendar cannot continue it.
    """
    if len(history) < 2:
        raise InputError("one stamp has no spacing to continue: give y_timestamp")
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
        spacing = _usual(wall)
    coming = _next_weekdays(wall, steps) if spacing == DAY else _next_periods(wall, steps, spacing)
    return _localised(coming, history.tz)


def _next_weekdays(wall: pd.DatetimeIndex, steps: int) -> pd.DatetimeIndex:
    open_days = np.isin(np.arange(7), wall.weekday)
    if open_days.sum() < 5:  # too short a history to tell a day that is always closed from one not seen yet
        open_days = np.arange(7) < (7 if open_days[5:].any() else 5)
    days: list[pd.Timestamp] = []
    day = wall[-1]
    while len(days) < steps:
        day = day + DAY
        if open_days[day.weekday()]:
            days.append(day)
    return pd.DatetimeIndex(days)


def _usual(wall: pd.DatetimeIndex) -> pd.Timedelta:
    """The spacing of bars longer than a day: the most frequent, and of several as frequent the median of all.

    Where all are multiples of the least, that one: bars are missing. Months have their own rule, and any of them will
    do. Raises InputError where the median is the mean of two different spacings.
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
            f"the bars are {pd.Timedelta(low)} and {pd.Timedelta(high)} apart, neither more often: give y_timestamp"
        )
    return pd.Timedelta(low)


def _next_periods(wall: pd.DatetimeIndex, steps: int, spacing: pd.Timedelta) -> pd.DatetimeIndex:
    """Weeks and other fixed spacings, and months, which have none."""
    last, counts = wall[-1], range(1, steps + 1)
    wall = pd.DatetimeIndex(wall.to_numpy())  # a freq of business months would change what is_month_end means
    if spacing >= SHORTEST_MONTH and (wall.is_month_end.all() or (wall.day == wall.day[0]).all()):
        months = max(1, int(_most_frequent(np.diff(12 * wall.year + wall.month))))
        if wall.is_month_end.all():
            return pd.DatetimeIndex([last + pd.offsets.MonthEnd(months * count) for count in counts])
        return pd.DatetimeIndex([last + pd.DateOffset(months=months * count) for count in counts])
    if spacing >= SHORTEST_MONTH and len(np.unique(np.diff(wall.to_numpy()))) > 1:
        raise InputError(f"the bars' spacing varies, {spacing} being the most frequent: give y_timestamp")
    return pd.DatetimeIndex(last + spacing * np.arange(1, steps + 1))


def _next_sessions(history: pd.DatetimeIndex, steps: int, name: str) -> pd.DatetimeIndex:
    """The sessions after the last stamp's, at its hour of the day."""
    exchange = _calendar(name, history[-1], steps)
    own = history[-1:]
    if own.tz is not None and own[0] != own[0].normalize():
        own = own.tz_convert(exchange.tz)  # a moment, not a date: midnight in Tokyo is the day before in UTC
    last = own.tz_localize(None)[0]
    day = last.normalize()
    sessions = _enough(exchange.sessions[exchange.sessions > day], steps, name, last)
    coming = _localised(sessions + (last - day), own.tz)
    return coming if history.tz is None else coming.tz_convert(history.tz)


def _next_minutes(history: pd.DatetimeIndex, steps: int, name: str, spacing: pd.Timedelta) -> pd.DatetimeIndex:
    exchange = _calendar(name, history[-1], steps)
    local = history if history.tz is not None else _localised(history, exchange.tz)
    moments = local.tz_convert("UTC")
    starts, ends = (
        exchange.trading_index(
            exchange.first_session, exchange.last_session, spacing, intervals=False, force=True, closed=side
        )
        for side in ("left", "right")
    )
    recent = moments[moments >= starts[0]]
    grid = ends if recent.isin(ends).all() and not recent.isin(starts).all() else starts
    coming = _enough(grid[grid > moments[-1]], steps, name, history[-1])
    return coming.tz_convert(exchange.tz).tz_localize(None) if history.tz is None else coming.tz_convert(history.tz)


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
        # Lunar holidays are known for few years ahead, others from some year on: take what there is.
        known = exchange_calendars.get_calendar(name)
        first, final = known.bound_min() or start, known.bound_max() or end
        try:
            return exchange_calendars.get_calendar(name, start=max(start, first), end=min(end, final))
        except (ValueError, CalendarError) as error:
            raise _too_short(name, steps, last) from error


def _enough(stamps: pd.DatetimeIndex, steps: int, name: str, last: pd.Timestamp) -> pd.DatetimeIndex:
    if len(stamps) < steps:
        raise _too_short(name, steps, last)
    return stamps[:steps]


def _too_short(name: str, steps: int, last: pd.Timestamp) -> InputError:
    return InputError(f"calendar {name!r} does not know the {steps} bars after {last}: give y_timestamp")


def _localised(wall: pd.DatetimeIndex, tz: tzinfo | None) -> pd.DatetimeIndex:
    """Wall-clock stamps in a zone. A time that the clocks skip moves on; of one that comes twice, the second."""
    if tz is None:
        return wall
    return wall.tz_localize(tz, ambiguous=np.zeros(len(wall), dtype=bool), nonexistent="shift_forward")


def _most_frequent(values: NDArray[Any] | pd.Index) -> Any:
    """The smallest of them where several are."""
    found, counts = np.unique(values, return_counts=True)
    return found[counts.argmax()]
