"""Covariates of the exchange's calendar, known over any horizon: numbers per session, looked up by timestamp."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from resources.calendar import TradingCalendar
from resources.errors import CandlecastError


def calendar_covariate(name: str, calendar: TradingCalendar, stamps: np.ndarray) -> np.ndarray:
    """One covariate at some bars: (n,) float64.

    Args:
        name: weekday (0: Monday), month (1 … 12), days_to_holiday and days_since_holiday (calendar days; NaN where the
            calendar has none in that direction), session_length (hours), expiry (1: the last session up to the third
            Friday of its month, when monthly options expire; else 0).
        stamps: (n,) datetime64[s], UTC, timestamps of bars.

    Raises:
        CandlecastError: the calendar has no holidays.
    """
    sessions, columns = _session_table(calendar.name)
    if name.endswith("_holiday") and not np.isfinite(columns[name]).any():
        raise CandlecastError(
            f"chronos2.future_covariates: {name} is not defined, as the calendar {calendar.name} has no holidays: "
            "remove it"
        )
    days = calendar.sessions_of(stamps)
    place = np.minimum(np.searchsorted(sessions, days), len(sessions) - 1)
    found: np.ndarray = np.where(sessions[place] == days, columns[name][place], np.nan)
    return found


@lru_cache(maxsize=4)
def _session_table(name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """All sessions, datetime64[D], and their covariates by name."""
    calendar = TradingCalendar(name)
    hours = calendar.hours()
    lengths = (hours["closes_at"] - hours["opens_at"]).dt.total_seconds().groupby(hours["session"]).sum() / 3600
    sessions = calendar.all_sessions()
    days = sessions.to_numpy().astype("datetime64[D]").astype(np.int64)
    # NaN at both ends: the holidays before the calendar's first one, and after its last one, are not known.
    holidays = np.r_[np.nan, calendar.holidays().to_numpy().astype("datetime64[D]").astype(np.float64), np.nan]
    following = np.searchsorted(holidays[1:-1], days)
    columns = {
        "weekday": sessions.dayofweek.to_numpy().astype(np.float64),
        "month": sessions.month.to_numpy().astype(np.float64),
        "days_to_holiday": holidays[following + 1] - days,
        "days_since_holiday": days - holidays[following],
        "session_length": lengths.reindex(sessions).to_numpy().astype(np.float64),
        "expiry": _is_expiry(sessions),
    }
    return sessions.to_numpy().astype("datetime64[D]"), columns


def _is_expiry(sessions: pd.DatetimeIndex) -> np.ndarray:
    """1 at the last session up to each third Friday, else 0."""
    fridays = pd.date_range(sessions[0], sessions[-1], freq="WOM-3FRI")
    expiry = np.zeros(len(sessions))
    expiry[sessions.searchsorted(fridays, side="right") - 1] = 1
    return expiry
