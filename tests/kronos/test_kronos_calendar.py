"""Timestamps of future bars: exchange calendars, daylight saving time, weeks and months."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kronos import InputError, KronosPredictor
from kronos.calendar import future_timestamps
from tests.kronos.kronos_pairs import random_bars

NEW_YORK = "America/New_York"


def timestamps(*texts: str, tz: str | None = None) -> list[pd.Timestamp]:
    return [pd.Timestamp(text, tz=tz) for text in texts]


def test_future_timestamps_follow_the_exchange_calendar() -> None:
    history = pd.DatetimeIndex(["2024-06-28", "2024-07-01", "2024-07-02"])
    future = future_timestamps(history, 3, calendar="XNYS")
    assert list(future) == list(pd.DatetimeIndex(["2024-07-03", "2024-07-05", "2024-07-08"]))  # no 4 July
    weekdays = future_timestamps(pd.bdate_range("2024-06-03", "2024-07-03"), 2)
    assert list(weekdays) == list(pd.DatetimeIndex(["2024-07-04", "2024-07-05"]))
    hours = pd.date_range("2024-07-03 15:00", periods=5, freq="h", tz="UTC")
    assert future_timestamps(hours, 2)[-1] == pd.Timestamp("2024-07-03 21:00", tz="UTC")
    session = pd.date_range("2024-07-02 15:00", "2024-07-02 15:55", freq="5min", tz="America/New_York")
    future = future_timestamps(session, 1, calendar="XNYS")
    assert future[0] == pd.Timestamp("2024-07-03 09:30", tz="America/New_York")
    with pytest.raises(InputError, match="XMARS"):
        future_timestamps(history, 1, calendar="XMARS")
    with pytest.raises(InputError, match="spacing"):
        future_timestamps(history[:1], 1)


@pytest.mark.parametrize("last", ["2024-01-03 15:55", "2024-07-01 15:55"])
def test_timestamps_without_a_time_zone_are_the_exchanges_wall_clock(last: str) -> None:
    end = pd.Timestamp(last)
    day = pd.date_range(end.normalize() + pd.Timedelta("9h30min"), end, freq="5min")
    future = future_timestamps(day, 80, calendar="XNYS")
    assert future.tz is None
    assert future[0] == end.normalize() + pd.Timedelta("1D9h30min")
    zoned = future_timestamps(day.tz_localize(NEW_YORK), 80, calendar="XNYS")
    assert list(future) == list(zoned.tz_localize(None))
    utc = future_timestamps(day.tz_localize(NEW_YORK).tz_convert("UTC"), 80, calendar="XNYS")
    assert list(utc) == list(zoned)
    assert str(utc.tz) == "UTC"
    hours = pd.date_range("2024-01-01", periods=10, freq="h")
    assert list(future_timestamps(hours, 2, calendar="24/7")) == timestamps("2024-01-01 10:00", "2024-01-01 11:00")


def test_bars_labelled_by_their_end_are_continued_by_ends() -> None:
    morning = pd.date_range("2024-06-18 09:35", "2024-06-18 11:30", freq="5min")
    assert future_timestamps(morning, 1, calendar="XSHG")[0] == pd.Timestamp("2024-06-18 13:05")
    whole = pd.DatetimeIndex(morning.append(pd.date_range("2024-06-18 13:05", "2024-06-18 15:00", freq="5min")))
    assert future_timestamps(whole, 1, calendar="XSHG")[0] == pd.Timestamp("2024-06-19 09:35")
    starts = pd.DatetimeIndex(whole - pd.Timedelta("5min"))
    assert future_timestamps(starts, 1, calendar="XSHG")[0] == pd.Timestamp("2024-06-19 09:30")


@pytest.mark.parametrize("calendar", [None, "XNYS"])
@pytest.mark.parametrize("hour", ["0h", "16h"])
@pytest.mark.parametrize("last", ["2024-03-08", "2024-11-01"])
def test_daily_bars_keep_their_hour_when_the_clocks_change(last: str, hour: str, calendar: str | None) -> None:
    days = pd.bdate_range(end=last, periods=10) + pd.Timedelta(hour)
    future = future_timestamps(days.tz_localize(NEW_YORK), 3, calendar=calendar)
    expected = pd.bdate_range(pd.Timestamp(last) + pd.Timedelta(days=1), periods=3) + pd.Timedelta(hour)
    assert list(future) == list(expected.tz_localize(NEW_YORK))
    assert str(future.tz) == NEW_YORK


def test_longer_bars_keep_their_hour_when_the_clocks_change() -> None:
    weeks = pd.date_range("2024-10-04", periods=5, freq="7D", tz=NEW_YORK)
    assert list(future_timestamps(weeks, 2)) == timestamps("2024-11-08", "2024-11-15", tz=NEW_YORK)
    pair = pd.DatetimeIndex(timestamps("2024-11-02", "2024-11-03", "2024-11-04", tz=NEW_YORK))[[0, 2]]
    assert list(future_timestamps(pair, 1)) == timestamps("2024-11-06", tz=NEW_YORK)
    skipped = pd.date_range("2024-04-19", periods=7, freq="D", tz="Africa/Cairo")  # no 2024-04-26 00:00 there
    assert list(future_timestamps(skipped, 2)) == timestamps("2024-04-26 01:00", "2024-04-27", tz="Africa/Cairo")


def test_daily_instants_are_dated_in_the_exchanges_time_zone() -> None:
    thursday = pd.DatetimeIndex(timestamps("2024-06-05", "2024-06-06", "2024-06-07", tz="Asia/Tokyo"))
    monday, tuesday = timestamps("2024-06-10", "2024-06-11", tz="Asia/Tokyo")
    assert list(future_timestamps(thursday, 2, calendar="XTKS")) == [monday, tuesday]
    assert list(future_timestamps(thursday.tz_convert("UTC"), 2, calendar="XTKS")) == [monday, tuesday]
    dates = thursday.tz_localize(None).tz_localize("UTC")
    assert list(future_timestamps(dates, 1, calendar="XNYS")) == timestamps("2024-06-10", tz="UTC")


@pytest.mark.parametrize("freq", ["2D", "W-FRI", "ME", "MS", "YE"])
@pytest.mark.parametrize("calendar", ["XNYS", "24/7"])
def test_a_calendar_does_not_continue_longer_bars(freq: str, calendar: str) -> None:
    with pytest.raises(InputError, match="give y_timestamp"):
        future_timestamps(pd.date_range("2022-01-07", periods=8, freq=freq), 3, calendar=calendar)


def test_a_short_history_does_not_exclude_weekdays_that_it_lacks() -> None:
    week = pd.bdate_range("2024-01-02", "2024-01-05")
    assert list(future_timestamps(week, 3)) == timestamps("2024-01-08", "2024-01-09", "2024-01-10")
    days = pd.date_range("2024-01-04", "2024-01-06")
    assert list(future_timestamps(days, 3)) == timestamps("2024-01-07", "2024-01-08", "2024-01-09")
    gapped = pd.DatetimeIndex(["2024-01-04", "2024-01-05", "2024-01-08"])
    assert list(future_timestamps(gapped, 2)) == timestamps("2024-01-09", "2024-01-10")
    sundays = pd.DatetimeIndex([day for day in pd.date_range("2024-01-07", periods=12) if day.weekday() not in (4, 5)])
    assert list(future_timestamps(sundays, 3)) == timestamps("2024-01-21", "2024-01-22", "2024-01-23")


@pytest.mark.parametrize(
    ("gaps", "step"),
    [([7, 6, 8], 7), ([6, 7, 8, 7, 6], 7), ([14, 7], 7), ([7, 7, 6], 7), ([6, 8], None), ([7, 6], None)],
)
def test_of_equally_frequent_spacings_the_median_continues(gaps: list[int], step: int | None) -> None:
    days = pd.Timestamp("2024-01-05") + pd.to_timedelta(np.cumsum([0, *gaps]), unit="D")
    if step is None:
        with pytest.raises(InputError, match=r"7 days.*give y_timestamp|8 days.*give y_timestamp"):
            future_timestamps(days, 1)
    else:
        assert list(future_timestamps(days, 2) - days[-1]) == [pd.Timedelta(days=step), pd.Timedelta(days=2 * step)]


@pytest.mark.parametrize("freq", ["W-FRI", "ME", "MS", "QE", "QS", "YE", "YS", "2D", "3W-MON", "2ME"])
@pytest.mark.parametrize("tz", [None, NEW_YORK])
def test_weeks_months_quarters_and_years_are_continued(freq: str, tz: str | None) -> None:
    whole = pd.date_range("2019-01-10", periods=20, freq=freq, tz=tz)
    for known in (2, 8, 15):
        future = future_timestamps(whole[:known], 20 - known)
        assert list(future) == list(whole[known:])


def test_irregular_months_are_refused() -> None:
    on_the_20th = pd.date_range("2023-01-01", periods=8, freq="MS") + pd.Timedelta(days=19)
    assert list(future_timestamps(on_the_20th, 2)) == timestamps("2023-09-20", "2023-10-20")
    with pytest.raises(InputError, match=r"31 days.*y_timestamp"):
        future_timestamps(pd.date_range("2023-01-01", periods=12, freq="BME"), 1)


def test_a_calendar_is_used_within_its_known_range() -> None:
    import exchange_calendars

    known = exchange_calendars.get_calendar("XSHG").bound_max()
    days = pd.bdate_range(end=known - pd.Timedelta(days=60), periods=30)
    future = future_timestamps(days, 20, calendar="XSHG")
    sessions = exchange_calendars.get_calendar("XSHG", start=days[0], end=known).sessions
    assert list(future) == list(sessions[sessions > days[-1]][:20])
    minutes = pd.date_range(future[-1] + pd.Timedelta("10h"), periods=5, freq="5min")
    assert future_timestamps(minutes, 3, calendar="XSHG")[0] == minutes[-1] + pd.Timedelta("5min")
    for history, steps in ((days, 60), (days + pd.Timedelta(days=900), 1), (minutes, 5000)):
        with pytest.raises(InputError, match=rf"'XSHG' .*{steps} bars.*y_timestamp"):
            future_timestamps(history, steps, calendar="XSHG")


def test_timestamps_in_another_time_zone_are_converted(tiny_predictor: KronosPredictor) -> None:
    frame = random_bars(20)
    frame.index = pd.date_range("2024-07-01 09:30", periods=20, freq="h", tz=NEW_YORK)
    future = pd.date_range(frame.index[-1], periods=4, freq="h")[1:]
    expected = tiny_predictor.predict(frame, None, future, seed=1)
    for zone in ("UTC", "Asia/Tokyo"):
        forecast = tiny_predictor.predict(frame, None, future.tz_convert(zone), seed=1)
        pd.testing.assert_frame_equal(forecast, expected, check_freq=False)
        assert str(pd.DatetimeIndex(forecast.index).tz) == NEW_YORK


def test_a_series_that_cannot_be_continued_is_named(tiny_predictor: KronosPredictor) -> None:
    good, weekly = random_bars(9), random_bars(9)
    weekly.index = pd.date_range("2024-01-05", periods=9, freq="W-FRI")
    with pytest.raises(InputError, match="series 1: calendar 'XNYS'"):
        tiny_predictor.predict_batch([good, weekly], pred_len=2, calendar="XNYS")
    forecast = tiny_predictor.predict(weekly, pred_len=2, seed=1)
    assert list(forecast.index) == timestamps("2024-03-08", "2024-03-15")
    assert np.isfinite(forecast.to_numpy()).all()
