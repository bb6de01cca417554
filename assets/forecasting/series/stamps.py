"""Timestamps of a series: parsing, the frequency, and the regular grid that a model reads.

Timestamps are a DatetimeIndex (naive, or aware in one zone) or an Index of integers, such as years or steps.
"""

from __future__ import annotations

import re
import warnings
from typing import TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import BaseOffset, Day, Tick

from assets.forecasting.series.stamp_formats import (
    FORMATS,
    as_numbers,
    calendar_stamps,
    fitting_formats,
    number_stamps,
)
from resources.errors import CandlecastError

# Between two neighbours of the grid: an offset of the calendar, or a whole number.
Frequency: TypeAlias = BaseOffset | int
# Of a grid that is inferred, at most this share may be missing.
MOST_MISSING = 0.5
MOST_STAMPS = 5_000_000
_DAY = pd.Timedelta(days=1)
_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_UTC = r"(?<=:\d\d) ?(?:UTC|GMT)$"
_ZONED = re.compile(r":\d\d(\.\d+)?\s*(Z|[+-]\d\d:?(\d\d)?)$")


class StampError(ValueError):
    """Timestamps of one series that do not fit; the message names one of them and the remedy."""


def parse_stamps(cells: pd.Series, date_format: str | None = None) -> tuple[pd.Index, str | None]:
    """The timestamps of a column, NaT where a cell is none, and a note where offsets from UTC differ.

    Args:
        cells: timestamps, numbers, quarters, or text in ISO 8601. Text whose offsets differ is read in UTC.
        date_format: the format of text, as of strptime, or one of `stamp_formats.FORMATS`; None: inferred.

    Raises:
        CandlecastError: most cells are no timestamps, they can be read in two ways, or some have an offset and others
            not.
    """
    cells = cells.reset_index(drop=True)
    if pd.api.types.is_datetime64_any_dtype(cells):
        return pd.DatetimeIndex(cells), None
    numbers = as_numbers(cells)
    if numbers is not None and (date_format is None or date_format in FORMATS):
        return number_stamps(numbers, date_format)
    text = cells.astype("string").str.strip().fillna("") if numbers is None else numbers
    given = text[text != ""]
    if date_format is None:
        text = text.str.replace(_UTC, "Z", regex=True)
        given = text[text != ""]
        if (calendar := calendar_stamps(text)) is not None:
            return calendar, None
    zoned = given.map(lambda one: bool(_ZONED.search(one)))
    if date_format is None and zoned.any() and not zoned.all():
        first = given[zoned != zoned.iloc[0]].index[0]
        raise CandlecastError(
            f"column {cells.name}, row {first + 1}: {given[first]!r} has {'an' if zoned[first] else 'no'} offset from "
            "UTC, unlike the rows before it: write all timestamps alike"
        )
    parsed, note = _parse_text(text, bool(zoned.any()), date_format)
    bad = np.asarray(parsed.isna())
    if bad.mean() > MOST_MISSING or not len(given):
        first = int(np.argmax(bad)) if len(bad) else 0
        shown = repr(text.iloc[first]) if len(text) else "nothing"
        raise CandlecastError(
            f"column {cells.name}, row {first + 1}: {shown} is not "
            + (f"of the form {date_format}" if date_format else "a timestamp in ISO 8601, such as 2024-03-31 12:00")
            + f": state --date-format {fitting_formats(text)}, or name another column with --timestamp"
        )
    return parsed, note


def _parse_text(text: pd.Series, zoned: bool, date_format: str | None) -> tuple[pd.DatetimeIndex, str | None]:
    how = date_format or "ISO8601"
    try:
        pd.to_datetime(text[:1], format=how, errors="coerce")
    except ValueError as error:
        raise CandlecastError(f"--date-format {date_format}: {error}: use the directives of strptime") from None
    utc = zoned or (date_format is not None and "%z" in date_format)
    if not utc:
        return pd.DatetimeIndex(pd.to_datetime(text, format=how, errors="coerce")), None
    parsed = pd.DatetimeIndex(pd.to_datetime(text, format=how, errors="coerce", utc=True))
    try:
        # Refused where the offsets differ.
        own = pd.DatetimeIndex(pd.to_datetime(text[np.asarray(parsed.notna())], format=how))
    except ValueError:
        return parsed, (
            "the offsets of the timestamps differ, as with daylight saving time: they are read and written in UTC; "
            "--timezone NAME, such as Europe/Berlin, reads and writes them in that zone"
        )
    return parsed.tz_convert(own.tz), None


def in_zone(stamps: pd.Index, timezone: str, ids: pd.Series | None) -> pd.Index:
    """Timestamps in a zone: aware ones are converted, naive ones are its local times.

    The order within a series decides which of two equal local times is the earlier; NaT where it does not, and for
    local times that do not exist.

    Args:
        ids: the series of each timestamp; None: there is one.

    Raises:
        CandlecastError: there is no such zone, or the timestamps are whole numbers.
    """
    if not isinstance(stamps, pd.DatetimeIndex):
        raise CandlecastError(f"--timezone {timezone}: the timestamps are whole numbers, which have no zone")
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError):
        raise CandlecastError(f"--timezone {timezone}: no such zone; name one such as Europe/Berlin or UTC") from None
    if stamps.tz is not None:
        return stamps.tz_convert(zone)
    groups = [np.arange(len(stamps))] if ids is None else list(ids.groupby(ids, sort=False).indices.values())
    local = pd.Series(pd.NaT, index=range(len(stamps)), dtype=pd.DatetimeTZDtype("ns", zone))
    for rows in groups:
        local.iloc[rows] = _localised(stamps[rows], zone)
    return pd.DatetimeIndex(local)


def _localised(stamps: pd.DatetimeIndex, zone: ZoneInfo) -> pd.DatetimeIndex:
    try:
        return stamps.tz_localize(zone, ambiguous="infer", nonexistent="NaT")
    except ValueError:
        return stamps.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")


def parse_frequency(text: str, stamps: pd.Index) -> Frequency:
    """A frequency as stated: an alias of pandas ("h", "15min", "D", "B", "W-MON", "ME", "QE"), or a whole number.

    Raises:
        CandlecastError: it is none, or not of the kind of the timestamps.
    """
    wanted = text.strip()
    if not isinstance(stamps, pd.DatetimeIndex):
        if wanted.isdecimal() and int(wanted) > 0:
            return int(wanted)
        raise CandlecastError(f"--frequency {text}: the timestamps are whole numbers, and so is their step: state 1")
    for spelling in (wanted, wanted.upper(), wanted.lower()):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                offset = to_offset(spelling)
            if offset is not None and offset.n > 0:
                return offset
        except (ValueError, Warning):
            continue
    raise CandlecastError(
        f"--frequency {text}: not a frequency; such are 15min, h, D, B (weekdays), W-MON, MS and ME (start and end of "
        "a month), QE, YE"
    )


def infer_frequency(stamps: pd.Index) -> Frequency | None:
    """The frequency of timestamps, of which some may be missing; None: they are too few, or irregular.

    Of the frequencies on whose grid all timestamps lie, the one with the fewest others: weekdays rather than days.

    Args:
        stamps: increasing.
    """
    if len(stamps) < 3:
        return None
    if not isinstance(stamps, pd.DatetimeIndex):
        gaps, counts = np.unique(np.diff(stamps), return_counts=True)
        step = int(gaps[np.argmax(counts)])
        fits = not ((stamps - stamps[0]) % step).any()
        return step if fits and (stamps[-1] - stamps[0]) / step < len(stamps) / MOST_MISSING else None
    best, fewest = None, len(stamps) / MOST_MISSING
    for offset in _candidates(stamps):
        if _size(stamps[0], stamps[-1], offset) > MOST_STAMPS:
            continue
        grid = _grid(stamps, offset)
        if len(grid) < fewest and stamps.isin(grid).all():
            best, fewest = offset, len(grid)
    return best


def _candidates(stamps: pd.DatetimeIndex) -> list[BaseOffset]:
    gaps, counts = np.unique(np.diff(stamps.as_unit("ns").asi8), return_counts=True)
    gap = pd.Timedelta(int(gaps[np.argmax(counts)]))
    day, month = _WEEKDAYS[stamps[0].weekday()], _MONTHS[stamps[0].month - 1]
    calendar: list[str] = []
    # A day of a change of the clock has 23 or 25 hours.
    if gap >= _DAY - pd.Timedelta(hours=1):
        calendar = ["YS-" + month, "YE-" + month, "QS-" + month, "QE-" + month, "MS", "ME", "BME", f"W-{day}", "D", "B"]
    named = [to_offset(name) for name in calendar]
    days = gap.round("D").days
    return [*named, Day(days)] if calendar else [to_offset(gap)]


def regular_grid(stamps: pd.Index, frequency: Frequency) -> pd.Index:
    """All timestamps of the frequency from the first to the last of `stamps`.

    Raises:
        StampError: a timestamp lies beside the grid, or the grid is too long.
    """
    if len(stamps) < 2:
        return stamps
    size = _size(stamps[0], stamps[-1], frequency)
    if size > MOST_STAMPS:
        raise StampError(
            f"from {stamps[0]} to {stamps[-1]} there are {size:,} timestamps of the frequency "
            f"{frequency_text(frequency)}, for {len(stamps):,} rows: state a longer --frequency"
        )
    grid = _grid(stamps, frequency)
    beside = ~stamps.isin(grid)
    if beside.any():
        raise StampError(
            f"irregular timestamps: {stamps[beside][0]} is not on the grid of the frequency "
            f"{frequency_text(frequency)} ({int(beside.sum()):,} of {len(stamps):,} rows): --resample mean (or sum, "
            "last, first) makes one row of each interval, or state another --frequency"
        )
    return grid


def following(last: object, frequency: Frequency, steps: int) -> pd.Index:
    """The `steps` timestamps after `last`, which is on the grid."""
    if isinstance(frequency, int):
        return pd.Index(int(last) + frequency * np.arange(1, steps + 1))  # type: ignore[call-overload]
    return pd.date_range(last, periods=steps + 1, freq=frequency)[1:]  # type: ignore[call-overload, no-any-return]


def frequency_text(frequency: Frequency) -> str:
    """The frequency as `--frequency` reads it."""
    return str(frequency) if isinstance(frequency, int) else frequency.freqstr


def season_of(frequency: Frequency) -> int:
    """The usual season of a frequency, in steps: a day of hours or minutes, a week of days, a year of months."""
    if isinstance(frequency, int):
        return 1
    name = frequency.freqstr.lstrip("0123456789").split("-")[0]
    calendar = {"D": 7, "B": 5, "W": 52, "MS": 12, "ME": 12, "BMS": 12, "BME": 12, "QS": 4, "QE": 4, "BQS": 4, "BQE": 4}
    if name in calendar:
        return max(1, calendar[name] // frequency.n)
    if not isinstance(frequency, Tick):
        return 1
    seconds = pd.Timedelta(frequency).total_seconds()
    per_day = round(_DAY.total_seconds() / seconds)
    return 60 if seconds < 60 else max(1, per_day)


def _grid(stamps: pd.Index, frequency: Frequency) -> pd.Index:
    if isinstance(frequency, int):
        return pd.Index(np.arange(stamps[0], stamps[-1] + 1, frequency))
    return pd.date_range(stamps[0], stamps[-1], freq=frequency)


def _size(first: object, last: object, frequency: Frequency) -> int:
    if isinstance(frequency, int):
        return (int(last) - int(first)) // frequency + 1  # type: ignore[call-overload, no-any-return]
    span = pd.Timestamp(last) - pd.Timestamp(first)  # type: ignore[arg-type]
    return int(span / (pd.Timedelta(frequency) if isinstance(frequency, Tick) else _DAY)) + 1
