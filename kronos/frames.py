"""pandas frames and timestamps as the arrays that the models read."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kronos.calendar import future_timestamps
from kronos.errors import InputError, InputWarning
from kronos.features import FEATURES, PRICES, MissingVolume, time_features
from kronos.validation import SeriesInput, check_same_length, check_series

Timestamps = pd.Series | pd.DatetimeIndex | Sequence[Any]

ALIASES = {
    "volume": ("vol", "vol.", "volumes", "tickvol", "tick_volume", "trade_volume", "成交量"),
    "amount": ("amt", "amounts", "turnover_value", "trade_value", "成交额", "成交金额"),
}
"""Names of the columns that are used where volume or amount is absent, in any case of letters."""
STAMP_COLUMNS = ("timestamps", "timestamp", "datetime", "date")
TIME_COLUMNS = ("time", "hour", "minute")
"""Columns beside a date without which it is no timestamp."""
_RESEMBLING = ("vol", "amount", "turnover", "成交", "量", "额")


def series_from_frame(
    name: str,
    df: pd.DataFrame,
    x_timestamp: Timestamps | None,
    y_timestamp: Timestamps | None,
    horizon: int,
    calendar: str | None,
    *,
    valid_bars: bool,
    missing_volume: MissingVolume,
) -> tuple[SeriesInput, pd.DatetimeIndex]:
    """One validated series and the timestamps of its horizon, in the history's time zone.

    `x_timestamp` None means the frame's index, `y_timestamp` None the next `horizon` bars of `calendar`.
    Raises InputError naming the series.
    """
    values, past = history_from_frame(name, df, x_timestamp)
    if y_timestamp is None:
        future = _next_timestamps(past, horizon, calendar, name)
    else:
        future = frame_timestamps(y_timestamp, name, "y_timestamp")
    if (past.tz is None) != (future.tz is None):
        with_zone, without = ("x", "y") if future.tz is None else ("y", "x")
        raise InputError(
            f"series {name}: {with_zone}_timestamp has a time zone, {without}_timestamp has none: "
            "give both the same one (tz_localize), or neither"
        )
    if past.tz is not None:
        future = future.tz_convert(past.tz)  # calendar features of both must refer to one clock
    if len(future) != horizon:
        raise InputError(f"series {name}: y_timestamp has {len(future)} entries for pred_len={horizon}")
    if len(past) and future[0] <= past[-1]:
        raise InputError(f"series {name}: y_timestamp starts at {future[0]}, not after {past[-1]}")
    stamps = time_features(past), time_features(future)
    series = check_series(name, values, *stamps, horizon, valid_bars=valid_bars, missing_volume=missing_volume)
    return series, future


def history_from_frame(
    name: str, df: pd.DataFrame, x_timestamp: Timestamps | None
) -> tuple[NDArray[np.float64], pd.DatetimeIndex]:
    """A frame's six fields (rows, 6) and the timestamps of its rows; `x_timestamp` None means its own ones."""
    values = frame_values(df, name)
    past = frame_timestamps(_own_timestamps(df, name) if x_timestamp is None else x_timestamp, name, "x_timestamp")
    if len(past) != len(values):
        raise InputError(f"series {name}: {len(values)} rows but {len(past)} entries in x_timestamp")
    return values, past


def frame_values(df: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """A frame's six fields (rows, 6), NaN where volume or amount is not supplied. See `ALIASES`."""
    if not isinstance(df, pd.DataFrame):
        raise InputError(f"series {name}: expected a pandas DataFrame, got {type(df).__name__}")
    if isinstance(df.columns, pd.MultiIndex):
        raise InputError(f"series {name}: {_multi_index_message(df.columns)}")
    missing = [column for column in PRICES if column not in df.columns]
    if missing:
        raise InputError(f"series {name}: columns {', '.join(missing)} are missing; found {list(df.columns)}")
    present = [column for column in FEATURES if column in df.columns]
    duplicates = [column for column in present if list(df.columns).count(column) > 1]
    if duplicates:
        raise InputError(f"series {name}: duplicate columns {', '.join(duplicates)}: keep one of each")
    values = np.full((len(df), len(FEATURES)), np.nan)
    for field in FEATURES:
        column = _column_of(field, df, name)
        if column is None:
            continue
        if not pd.api.types.is_numeric_dtype(df[column]):
            raise InputError(f"series {name}: column {column} is {df[column].dtype}, not numeric")
        values[:, FEATURES.index(field)] = df[column].to_numpy(dtype=np.float64, na_value=np.nan)
    return values


def _column_of(field: str, df: pd.DataFrame, name: str) -> Any:
    """The column of one field: of its own name, else the one of its aliases; None if there is none.

    Raises InputError where several could be meant. Warns of columns with a similar name, which are not used.
    """
    if field in df.columns or field in PRICES:
        return field
    lower = {column: str(column).strip().lower() for column in df.columns}
    found = [c for c in df.columns if (low := str(c).strip().lower()) == field or low in ALIASES[field]]
    if len(found) > 1:
        listed = ", ".join(map(str, found))
        raise InputError(f"series {name}: {field} could be any of the columns {listed}: rename one of them to {field}")
    if found:
        return found[0]
    used = {*FEATURES, *(alias for names in ALIASES.values() for alias in names)}
    similar = [str(c) for c, low in lower.items() if low not in used and any(part in low for part in _RESEMBLING)]
    if similar and field == "volume":
        warnings.warn(
            f"series {name}: the frame has no column volume, and {', '.join(similar)} is not used: rename it to volume "
            "or amount if it is that, or drop it",
            InputWarning,
            stacklevel=2,
        )
    return None


def _own_timestamps(df: pd.DataFrame, name: str) -> Timestamps | pd.Index[Any]:
    """The index of a frame, or its stamp column where the index is a row number."""
    lower = {str(column).strip().lower(): column for column in df.columns}
    column = next((lower[known] for known in STAMP_COLUMNS if known in lower), None)
    if column is None or not pd.api.types.is_numeric_dtype(df.index):
        return df.index
    beside = [lower[part] for part in TIME_COLUMNS if part in lower]
    if beside and str(column).strip().lower() == "date":
        raise InputError(
            f"series {name}: the columns {column} and {', '.join(map(str, beside))} are one timestamp together: "
            "combine them and pass the result as x_timestamp"
        )
    stamps: pd.Series = df[column]
    return stamps


def _multi_index_message(columns: pd.MultiIndex) -> str:
    """The levels of columns such as yfinance's ("Close", "AAPL"), and how to select one symbol."""
    names = [place if name is None else name for place, name in enumerate(columns.names)]
    values = [list(dict.fromkeys(columns.get_level_values(place))) for place in range(columns.nlevels)]
    listed = (
        f"{level!r} ({', '.join(map(str, found[:6]))}{', …' if len(found) > 6 else ''})"
        for level, found in zip(names, values, strict=True)
    )
    symbols = [place for place, found in enumerate(values) if not {str(v).lower() for v in found} & set(PRICES)]
    place = symbols[0] if symbols else columns.nlevels - 1
    first = values[place][0] if values[place] else "symbol"
    return (
        f"the columns have {columns.nlevels} levels, {' and '.join(listed)}: select one symbol, e.g. "
        f"df.xs({first!r}, axis=1, level={names[place]!r}), so that they are {', '.join(PRICES)}"
    )


def frame_timestamps(timestamps: Timestamps | pd.Index[Any], name: str, label: str) -> pd.DatetimeIndex:
    """Timestamps as a DatetimeIndex, strictly increasing. Raises InputError naming the first that is not."""
    if not pd.api.types.is_list_like(timestamps, allow_sets=False) or getattr(timestamps, "ndim", 1) != 1:
        raise InputError(
            f"series {name}: {label} must be a Series, a DatetimeIndex or a list of timestamps, got "
            f"{type(timestamps).__name__}: pass a frame's column, and a single timestamp in a list"
        )
    if pd.api.types.is_numeric_dtype(pd.Index(timestamps)):
        raise InputError(f"series {name}: {label} contains numbers, not timestamps")
    try:
        index = pd.DatetimeIndex(timestamps)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(f"series {name}: {label} cannot be read as timestamps: {error}") from error
    if index.hasnans:
        raise InputError(f"series {name}: {label} {int(np.flatnonzero(index.isna())[0])} is missing (NaT)")
    steps = np.diff(index.asi8)
    if (steps <= 0).any():
        row = int(np.flatnonzero(steps <= 0)[0]) + 1
        problem = "repeats" if steps[row - 1] == 0 else "comes before"
        raise InputError(
            f"series {name}: {label} must increase strictly; {index[row]} in row {row} {problem} {index[row - 1]}"
        )
    return index


def _next_timestamps(past: pd.DatetimeIndex, steps: int, calendar: str | None, name: str) -> pd.DatetimeIndex:
    try:
        return future_timestamps(past, steps, calendar=calendar)
    except InputError as error:
        raise InputError(f"series {name}: {error}") from error


def listed(df_list: pd.DataFrame | Sequence[pd.DataFrame], *timestamps: Any) -> list[Any]:
    """The frames as a list, and the timestamps of each; those of a single frame are given as they are."""
    if isinstance(df_list, pd.DataFrame):
        return [[df_list], *(None if one is None else [one] for one in timestamps)]
    return [list(df_list), *timestamps]


def horizon_of(pred_len: int | None, y_timestamps: Sequence[Timestamps | None]) -> int:
    """The number of bars to forecast: `pred_len`, or the length of the first timestamps."""
    if pred_len is not None:
        return pred_len
    if not y_timestamps or y_timestamps[0] is None:
        raise InputError("give pred_len or y_timestamp: the number of bars to forecast is not known")
    return len(frame_timestamps(y_timestamps[0], "0", "y_timestamp"))


def per_series(label: str, timestamps: Any, series: int) -> list[Timestamps | None]:
    """The timestamps of each series; None where none are given."""
    if timestamps is None:
        return [None] * series
    if not pd.api.types.is_list_like(timestamps):
        raise InputError(f"{label} must be a list with the timestamps of each series, got {type(timestamps).__name__}")
    entries = list(timestamps)
    check_same_length("series", series, **{label: entries})
    return entries
