"""Which origins are forecast, and for which symbols."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.forecasting.origins import forward_steps, origin_sessions, origin_timestamps, select_tasks
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.settings import CalibrationSettings, DateRange, ForecastSettings, Settings, WindowSettings
from tests.forecasts.forecast_home import ENDS, ForecastHome

VALIDATION, TEST = (date(2010, 7, 1), date(2010, 12, 31)), (date(2011, 1, 3), date(2011, 12, 30))
CALENDAR = TradingCalendar("XNYS")
SESSIONS = [session.date() for session in CALENDAR.sessions(date(2010, 6, 1), date(2012, 6, 29))]


def _settings(every: int, test: DateRange = TEST, warm_up: bool = True) -> Settings:
    windows = WindowSettings(validation=VALIDATION, test=test)
    return Settings(
        windows=windows, forecasts=ForecastSettings(every=every), calibration=CalibrationSettings(warm_up=warm_up)
    )


@given(st.integers(0, len(SESSIONS) - 3), st.integers(2, 200), st.integers(1, 20))
def test_a_run_over_part_of_the_range_forecasts_the_same_origins_as_one_over_all(
    start: int, length: int, every: int
) -> None:
    part = SESSIONS[start : start + length]
    whole = origin_sessions(SESSIONS, _settings(every), CALENDAR)
    assert origin_sessions(part, _settings(every), CALENDAR) == [session for session in whole if session in part]


def test_origins_are_every_fifth_session_of_the_test_range_and_every_one_after_it() -> None:
    origins = origin_sessions(SESSIONS, _settings(5, warm_up=False), CALENDAR)
    inside = [origin for origin in origins if origin <= TEST[1]]
    assert inside == [session.date() for session in CALENDAR.sessions(*TEST)][::5]
    assert [origin for origin in origins if origin > TEST[1]] == [s for s in SESSIONS if s > TEST[1]]


def test_with_a_warm_up_the_origins_of_validation_are_forecast_and_those_of_the_test_range_stay() -> None:
    without, origins = (origin_sessions(SESSIONS, _settings(5, warm_up=one), CALENDAR) for one in (False, True))
    early = [session.date() for session in CALENDAR.sessions(*VALIDATION)][::5]
    assert origins == [*early, *without] and early[-1] < TEST[0]


@pytest.mark.parametrize("session", [date(2005, 3, 1), date(2011, 1, 4), date(2012, 2, 1)])
def test_one_session_alone_is_forecast_wherever_it_lies(session: date) -> None:
    assert origin_sessions([session], _settings(5), CALENDAR) == [session]


def test_a_test_range_may_end_after_the_calendar() -> None:
    open_end = (TEST[0], date(2100, 1, 1))
    settings = _settings(1, open_end, warm_up=False)
    assert origin_sessions(SESSIONS, settings, CALENDAR) == [session for session in SESSIONS if session >= TEST[0]]


def test_a_run_without_an_origin_is_refused_with_the_range_in_the_message(home: ForecastHome) -> None:
    with pytest.raises(CandlecastError, match=r"no origin among the .* sessions .*2011-01-01 … 2013-03-01"):
        home.origins(date(2009, 1, 1), date(2009, 12, 31))


def test_the_origin_of_an_intraday_session_is_its_last_bar(home: ForecastHome) -> None:
    hourly = TradingCalendar("XNYS", "1h")
    assert origin_timestamps([date(2011, 1, 3)], home.settings, hourly) == [np.datetime64("2011-01-03T20:30:00")]


def test_a_symbol_without_a_bar_or_enough_of_them_is_left_out_and_counted(home: ForecastHome) -> None:
    selection = select_tasks(home.histories(), home.origins(date(2012, 6, 1), ENDS), 90)
    symbols = {task.symbol for task in selection.tasks if task.origin < np.datetime64("2012-06-20")}
    assert symbols == {"AAPL", "GOOG", "IBM", "MSFT"}  # FB listed on 2012-05-18
    assert selection.skipped["fewer than 90 bars up to the origin"] > 0
    assert all(task.history.stamps[task.index] == task.origin and task.index >= 89 for task in selection.tasks)


def test_nothing_to_forecast_is_refused_with_the_counts(home: ForecastHome) -> None:
    with pytest.raises(CandlecastError, match=r"fewer than 90 bars up to the origin: 3.*no bar at the origin: 2"):
        select_tasks(home.histories(), home.origins(date(2000, 3, 2), date(2000, 3, 2)), 90)


@pytest.mark.parametrize(
    ("calendar", "origin", "made_at", "forward"),
    [
        # Friday's close; New York opens on Monday at 14:30 UTC.
        (TradingCalendar("XNYS"), "2025-11-14", "2025-11-15T02:00", [True, True, True]),
        (TradingCalendar("XNYS"), "2025-11-14", "2025-11-17T14:29", [True, True, True]),
        (TradingCalendar("XNYS"), "2025-11-14", "2025-11-17T14:30", [False, True, True]),
        (TradingCalendar("XNYS"), "2025-11-14", "2025-11-19T20:00", [False, False, False]),
        (TradingCalendar("XNYS"), "2012-11-14", "2025-11-15T02:00", [False, False, False]),
        # A market without a close: the next session has begun when the bar of this one is complete.
        (TradingCalendar("24/7"), "2025-11-14", "2025-11-15T00:05", [False, True, True]),
        (TradingCalendar("XNYS", "1h"), "2025-11-14T19:30", "2025-11-14T20:29", [True, True, True]),
        (TradingCalendar("XNYS", "1h"), "2025-11-14T19:30", "2025-11-14T20:31", [False, True, True]),
    ],
)
def test_a_forecast_is_forward_if_it_was_made_before_the_session_of_its_target(
    calendar: TradingCalendar, origin: str, made_at: str, forward: list[bool]
) -> None:
    moments = np.array([[origin], [made_at]], dtype="datetime64[us]")
    assert forward_steps(moments[0], moments[1], 3, calendar).tolist() == [forward]
