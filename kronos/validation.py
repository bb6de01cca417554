"""What is refused before any work is done, with the series and the field in the message."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kronos.errors import InputError, ScaleWarning
from kronos.features import FEATURES, PRICES, TIME_FEATURES, complete_volume_amount, time_features

if TYPE_CHECKING:
    import pandas as pd

STAMP_BOUNDS = {"minute": (0, 59), "hour": (0, 23), "weekday": (0, 6), "day": (1, 31), "month": (1, 12)}


@dataclass(frozen=True)
class History:
    """One series, checked: bars (length, 6) and calendar features of history (length, 5) and horizon."""

    name: str
    values: NDArray[np.float32]
    x_stamps: NDArray[np.int64]
    y_stamps: NDArray[np.int64]


def check_history(
    name: str, values: ArrayLike, x_stamps: ArrayLike, y_stamps: ArrayLike, horizon: int, *, physical: bool
) -> History:
    """Check one series given as arrays. Raises InputError naming series, field and row.

    With `physical`, bars that no market can print are refused too.
    """
    bars = np.asarray(values, dtype=np.float64)
    if bars.ndim != 2 or bars.shape[1] != len(FEATURES):
        raise InputError(f"series {name}: bars must be (rows, {len(FEATURES)}), got shape {bars.shape}")
    if len(bars) < 1:
        raise InputError(f"series {name}: no rows; at least 1 bar of history is needed")
    bad = np.argwhere(~np.isfinite(bars))
    if len(bad):
        row, column = bad[0]
        raise InputError(
            f"series {name}: {FEATURES[column]} in row {row} is {bars[row, column]}; every bar must be finite "
            f"({len(bad)} values are not)"
        )
    largest = (np.finfo(np.float32).max / (2 * len(bars))) ** 0.5  # the sum of their squares must be a float32
    if np.abs(bars).max() > largest:
        row, column = np.unravel_index(np.abs(bars).argmax(), bars.shape)
        raise InputError(
            f"series {name}: {FEATURES[column]} in row {row} is {bars[row, column]}, too large for float32 "
            f"statistics of {len(bars)} rows; rescale it to below {largest:.2e}"
        )
    if physical:
        _check_physical(name, bars)
    history = _check_stamps(name, "x_stamps", x_stamps, len(bars))
    future = _check_stamps(name, "y_stamps", y_stamps, horizon)
    return History(name, np.ascontiguousarray(bars, dtype=np.float32), history, future)


def _check_physical(name: str, bars: NDArray[np.float64]) -> None:
    for fields, wrong, rule in (
        (FEATURES[:4], bars[:, :4] <= 0, "prices must be above 0"),
        (FEATURES[4:], bars[:, 4:] < 0, "volume and amount must be 0 or more"),
        (FEATURES[1:2], bars[:, 1:2] < bars[:, 2:3], "high must not be below low"),
    ):
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            field = fields[column]
            raise InputError(
                f"series {name}: {field} in row {row} is {bars[row, FEATURES.index(field)]}; {rule}: correct the "
                "bar, or forecast from it as it is with project=False"
            )


def check_whole(label: str, value: object) -> int:
    """`value` as a Python integer. Raises InputError where it is none; 5.0 is none."""
    if not isinstance(value, (int, np.integer)):
        raise InputError(f"{label}={value!r} must be a whole number (int)")
    return int(value)


def check_number(label: str, value: object) -> None:
    if not isinstance(value, Real):
        raise InputError(f"{label}={value!r} must be a number")


def check_clip(clip: object) -> float:
    """`clip`, in standard deviations, as a Python float. Raises InputError unless it is finite and above 0."""
    if not isinstance(clip, Real) or not 0 < float(clip) < math.inf:
        raise InputError(f"clip={clip!r} must be a finite number above 0: bars are cut at ±clip standard deviations")
    return float(clip)


def check_horizon(horizon: int, max_context: int) -> int:
    """`horizon` as a Python integer. Raises InputError where it is no forecast or no window can hold it."""
    horizon = check_whole("pred_len", horizon)
    if horizon < 1:
        raise InputError(f"pred_len={horizon} must be 1 or more")
    if horizon >= max_context:
        raise InputError(f"pred_len={horizon} must be below max_context={max_context}: no history would be left")
    return horizon


def check_paths(paths: int) -> int:
    """`paths` as a Python integer: sizes in bytes do not fit numpy's small ones."""
    paths = check_whole("the number of sample paths, sample_count", paths)
    if paths < 1:
        raise InputError(f"the number of sample paths must be 1 or more, got {paths}")
    return paths


def check_seeds(names: Sequence[str], seeds: Sequence[int]) -> list[int]:
    """One seed a series, as Python integers."""
    streams = [check_whole(f"series {name}: seed", seed) for name, seed in zip(names, seeds, strict=True)]
    for name, seed in zip(names, streams, strict=True):
        if seed < 0:
            raise InputError(f"series {name}: seed={seed} must be 0 or more")
    return streams


def frame_values(df: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """A frame's six fields (rows, 6), by the rule for missing volume and amount. Other columns are ignored.

    A column that is absent is "not supplied"; a NaN in a column that is there is an error.
    """
    import pandas as pd

    if not isinstance(df, pd.DataFrame):
        raise InputError(f"series {name}: expected a pandas DataFrame, got {type(df).__name__}")
    if isinstance(df.columns, pd.MultiIndex):
        raise InputError(f"series {name}: {_several_levels(df.columns)}")
    missing = [column for column in PRICES if column not in df.columns]
    if missing:
        raise InputError(f"series {name}: columns {', '.join(missing)} are missing; found {list(df.columns)}")
    present = [column for column in FEATURES if column in df.columns]
    twice = [column for column in present if list(df.columns).count(column) > 1]
    if twice:
        raise InputError(f"series {name}: several columns are called {', '.join(twice)}; keep one of each")
    if "volume" not in present:
        present = list(PRICES)  # an amount without a volume is set to 0 by the published rule
    for column in present:
        if not pd.api.types.is_numeric_dtype(df[column]):
            raise InputError(f"series {name}: column {column} is {df[column].dtype}, not numbers")
    values = df[present].to_numpy(dtype=np.float64)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column_index = bad[0]
        raise InputError(
            f"series {name}: {present[column_index]} in row {row} is {values[row, column_index]}; every bar "
            "must be finite"
        )
    return complete_volume_amount(values)


def _several_levels(columns: pd.MultiIndex) -> str:
    """What to do about columns such as yfinance's ("Close", "AAPL"): which levels there are, how to take one symbol."""
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


def warn_of_scale(histories: Sequence[History], epsilon: float) -> None:
    """Warn, once for all series, where prices move by less than the epsilon that the published arithmetic adds to σ.

    Such prices are normalised to nearly 0 and their forecasts are of the scale of epsilon, not of theirs.
    """
    names, least = [], math.inf
    for history in histories:
        prices = history.values[:, :4]
        moves = np.ptp(prices, axis=0) > 0  # of a price that stands still σ may come out a rounding above 0
        small = moves & (prices.std(axis=0) < epsilon)
        if small.any():
            names.append(history.name)
            least = min(least, float(prices.std(axis=0)[small].min()))
    if names:
        listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        power = math.ceil(-math.log10(max(least, float(np.finfo(np.float32).tiny))))
        warnings.warn(
            f"series {listed}: prices vary by a standard deviation of {least:.1e} or so, below the {epsilon:g} that "
            f"the models' normalisation adds to it, and the forecast means nothing: rescale the prices, e.g. multiply "
            f"them by 1e{power} and divide the forecast by it",
            ScaleWarning,
            stacklevel=2,
        )


def frame_stamps(timestamps: ArrayLike | pd.Series | pd.DatetimeIndex, name: str, label: str) -> pd.DatetimeIndex:
    """Stamps as a DatetimeIndex, strictly increasing. Raises InputError naming the first that is not."""
    import pandas as pd

    if not pd.api.types.is_list_like(timestamps, allow_sets=False) or getattr(timestamps, "ndim", 1) != 1:
        raise InputError(
            f"series {name}: {label} must be a Series, a DatetimeIndex or a list of stamps, got "
            f"{type(timestamps).__name__}: pass a frame's column, and a single stamp in a list"
        )
    if pd.api.types.is_numeric_dtype(pd.Index(timestamps)):  # type: ignore[arg-type]
        raise InputError(f"series {name}: {label} are numbers, not timestamps")
    try:
        index = pd.DatetimeIndex(timestamps)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(f"series {name}: {label} are no timestamps: {error}") from error
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


def stamp_features(index: pd.DatetimeIndex) -> NDArray[np.int64]:
    return time_features(index)


def check_same_length(what: str, expected: int, **lists: Sequence[object]) -> None:
    """Raise InputError if one of the named lists does not have `expected` entries."""
    for label, values in lists.items():
        if len(values) != expected:
            raise InputError(f"{label} has {len(values)} entries for {expected} {what}")


def _check_stamps(name: str, label: str, stamps: ArrayLike, rows: int) -> NDArray[np.int64]:
    features = np.asarray(stamps)
    if features.shape != (rows, len(TIME_FEATURES)):
        raise InputError(f"series {name}: {label} must be ({rows}, {len(TIME_FEATURES)}), got shape {features.shape}")
    features = features.astype(np.int64)
    for column, (field, (low, high)) in enumerate(STAMP_BOUNDS.items()):
        outside = (features[:, column] < low) | (features[:, column] > high)
        if outside.any():
            row = int(np.flatnonzero(outside)[0])
            raise InputError(
                f"series {name}: {label} {field} in row {row} is {features[row, column]}, not in {low}…{high}"
            )
    return features
