"""What is refused before any work is done, with the series and the field in the message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kronos.errors import InputError
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


def check_history(name: str, values: ArrayLike, x_stamps: ArrayLike, y_stamps: ArrayLike, horizon: int) -> History:
    """Check one series given as arrays. Raises InputError naming series, field and row."""
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
    if np.abs(bars).max() > np.finfo(np.float32).max ** 0.5:
        column = int(np.abs(bars).max(axis=0).argmax())
        raise InputError(f"series {name}: {FEATURES[column]} is too large for float32 statistics; rescale it")
    history = _check_stamps(name, "x_stamps", x_stamps, len(bars))
    future = _check_stamps(name, "y_stamps", y_stamps, horizon)
    return History(name, np.ascontiguousarray(bars, dtype=np.float32), history, future)


def check_horizon(horizon: int, max_context: int) -> None:
    """Raise InputError for a horizon that is no forecast or that no window can hold."""
    if horizon < 1:
        raise InputError(f"pred_len={horizon} must be 1 or more")
    if horizon >= max_context:
        raise InputError(f"pred_len={horizon} must be below max_context={max_context}: no history would be left")


def check_paths(paths: int) -> None:
    if paths < 1:
        raise InputError(f"the number of sample paths must be 1 or more, got {paths}")


def frame_values(df: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """A frame's six fields (rows, 6), by the rule for missing volume and amount. Other columns are ignored.

    A column that is absent is "not supplied"; a NaN in a column that is there is an error.
    """
    import pandas as pd

    if not isinstance(df, pd.DataFrame):
        raise InputError(f"series {name}: expected a pandas DataFrame, got {type(df).__name__}")
    missing = [column for column in PRICES if column not in df.columns]
    if missing:
        raise InputError(f"series {name}: columns {', '.join(missing)} are missing; found {list(df.columns)}")
    present = [column for column in FEATURES if column in df.columns]
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


def frame_stamps(timestamps: ArrayLike | pd.Series | pd.DatetimeIndex, name: str, label: str) -> pd.DatetimeIndex:
    """Stamps as a DatetimeIndex, strictly increasing. Raises InputError naming the first that is not."""
    import pandas as pd

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
