"""Stamps of bars that are still to come."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kronos.errors import InputError


def future_timestamps(history: pd.DatetimeIndex, steps: int, *, calendar: str | None = None) -> pd.DatetimeIndex:
    """The next `steps` stamps after `history` (strictly increasing).

    With `calendar` (an exchange_calendars name, "24/7" among them): the exchange's next sessions for daily
    bars, its next trading minutes at the history's spacing for intraday ones. Without: the weekdays of the
    history for daily bars, its most frequent spacing otherwise; holidays are then not known.
    Raises InputError if the history has no spacing to continue.
    """
    if len(history) < 2:
        raise InputError("one stamp has no spacing to continue: give y_timestamp")
    gaps = np.diff(history.as_unit("ns").asi8)
    values, counts = np.unique(gaps, return_counts=True)
    spacing = pd.Timedelta(int(values[counts.argmax()]), unit="ns")
    daily = spacing >= pd.Timedelta(days=1)
    if calendar is not None:
        return _exchange(history, steps, calendar, spacing, daily)
    if not daily or spacing > pd.Timedelta(days=1):
        return pd.DatetimeIndex(history[-1] + spacing * np.arange(1, steps + 1))
    open_days = np.isin(np.arange(7), history.weekday)
    days: list[pd.Timestamp] = []
    day = history[-1]
    while len(days) < steps:
        day = day + pd.Timedelta(days=1)
        if open_days[day.weekday()]:
            days.append(day)
    return pd.DatetimeIndex(days)


def _exchange(history: pd.DatetimeIndex, steps: int, name: str, spacing: pd.Timedelta, daily: bool) -> pd.DatetimeIndex:
    import exchange_calendars
    from exchange_calendars.errors import InvalidCalendarName

    last = history[-1]
    zoned = last.tz_localize("UTC") if last.tzinfo is None else last.tz_convert("UTC")
    reach = zoned + (spacing if daily else pd.Timedelta(days=1)) * (2 * steps) + pd.Timedelta(days=30)
    try:
        exchange = exchange_calendars.get_calendar(name, start=(zoned - pd.Timedelta(days=10)).date(), end=reach.date())
    except InvalidCalendarName as error:
        raise InputError(f"calendar {name!r} is not known to exchange_calendars") from error
    if daily:
        clock = last - last.normalize()
        sessions = exchange.sessions[exchange.sessions > last.tz_localize(None).normalize()][:steps] + clock
        return sessions if last.tzinfo is None else sessions.tz_localize(last.tzinfo)
    first, last_session = exchange.sessions[exchange.sessions >= zoned.tz_localize(None).normalize()][[0, -1]]
    minutes = exchange.trading_index(first, last_session, spacing, intervals=False, force=True, closed="left")
    coming = minutes[minutes > zoned][:steps]
    return coming.tz_localize(None) if last.tzinfo is None else coming.tz_convert(last.tzinfo)
