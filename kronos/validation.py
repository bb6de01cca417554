"""Validation of arrays and arguments before any work is done. Errors name the series, the field and the row."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kronos.config import TRAINED_CONTEXT, KronosConfig
from kronos.errors import InputError, InputWarning, ScaleWarning
from kronos.features import FEATURES, PRICES, TIME_FEATURES, MissingVolume, complete_volume_amount

CALENDAR_BOUNDS = {"minute": (0, 59), "hour": (0, 23), "weekday": (0, 6), "day": (1, 31), "month": (1, 12)}


@dataclass(frozen=True)
class SeriesInput:
    """One validated series: bars (length, 6), and calendar features of history (length, 5) and horizon (horizon, 5).

    `values` are complete, except that volume and amount are NaN where the rule for missing ones is "mask".
    """

    name: str
    values: NDArray[np.float32]
    x_stamps: NDArray[np.int64]
    y_stamps: NDArray[np.int64]


def check_series(
    name: str,
    values: ArrayLike,
    x_stamps: ArrayLike,
    y_stamps: ArrayLike,
    horizon: int,
    *,
    valid_bars: bool,
    missing_volume: MissingVolume,
) -> SeriesInput:
    """Validate one series given as arrays. Raises InputError naming series, field and row.

    NaN in volume or amount is completed by the rule `missing_volume`; every other value must be finite. With
    `valid_bars` prices must be above 0, high not below low, and volume and amount 0 or more.
    """
    bars = np.asarray(values, dtype=np.float64)
    if bars.ndim != 2 or bars.shape[1] != len(FEATURES):
        raise InputError(f"series {name}: bars must be (rows, {len(FEATURES)}), got shape {bars.shape}")
    if len(bars) < 1:
        raise InputError(f"series {name}: no rows; at least 1 bar of history is needed")
    _check_finite(name, bars)
    bars = complete_volume_amount(bars, missing_volume)
    _check_size(name, bars)
    if valid_bars:
        _check_valid_bars(name, bars)
    history = _check_stamps(name, "x_stamps", x_stamps, len(bars))
    future = _check_stamps(name, "y_stamps", y_stamps, horizon)
    return SeriesInput(name, np.ascontiguousarray(bars, dtype=np.float32), history, future)


def _check_finite(name: str, bars: NDArray[np.float64]) -> None:
    """Prices must be finite; volume and amount may be NaN, which means "not supplied"."""
    valid = np.isfinite(bars)
    valid[:, len(PRICES) :] |= np.isnan(bars[:, len(PRICES) :])
    bad = np.argwhere(~valid)
    if len(bad):
        row, column = bad[0]
        raise InputError(
            f"series {name}: {FEATURES[column]} in row {row} is {bars[row, column]}; every bar must be finite "
            f"({len(bad)} values are not)"
        )


def _check_size(name: str, bars: NDArray[np.float64]) -> None:
    """The sum of the squares of a column must be a float32."""
    largest = (np.finfo(np.float32).max / (2 * len(bars))) ** 0.5
    size = np.nan_to_num(np.abs(bars))  # what is masked has no size
    if size.max() > largest:
        row, column = np.unravel_index(size.argmax(), bars.shape)
        raise InputError(
            f"series {name}: {FEATURES[column]} in row {row} is {bars[row, column]}, too large for float32 "
            f"statistics of {len(bars)} rows; rescale it to below {largest:.2e}"
        )


def _check_valid_bars(name: str, bars: NDArray[np.float64]) -> None:
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
                "bar, or pass project=False to forecast from it as it is"
            )


def _check_stamps(name: str, label: str, stamps: ArrayLike, rows: int) -> NDArray[np.int64]:
    features = np.asarray(stamps)
    if features.shape != (rows, len(TIME_FEATURES)):
        raise InputError(f"series {name}: {label} must be ({rows}, {len(TIME_FEATURES)}), got shape {features.shape}")
    features = features.astype(np.int64)
    for column, (field, (low, high)) in enumerate(CALENDAR_BOUNDS.items()):
        outside = (features[:, column] < low) | (features[:, column] > high)
        if outside.any():
            row = int(np.flatnonzero(outside)[0])
            raise InputError(
                f"series {name}: {label} {field} in row {row} is {features[row, column]}, not in {low}…{high}"
            )
    return features


def check_integer(label: str, value: object) -> int:
    """`value` as a Python integer. Raises InputError for any other type, 5.0 included."""
    if not isinstance(value, (int, np.integer)):
        raise InputError(f"{label}={value!r} must be an integer")
    return int(value)


def check_number(label: str, value: object) -> None:
    """Raise InputError unless `value` is a real number."""
    if not isinstance(value, Real):
        raise InputError(f"{label}={value!r} must be a number")


def check_clip(clip: object) -> float:
    """`clip`, in standard deviations, as a Python float. Raises InputError unless it is finite and above 0."""
    if not isinstance(clip, Real) or not 0 < float(clip) < math.inf:
        raise InputError(
            f"clip={clip!r} must be a finite number above 0: bars are clipped to ±clip standard deviations"
        )
    return float(clip)


def check_horizon(horizon: object, max_context: int) -> int:
    """`horizon` as a Python integer. Raises InputError unless it lies in 1…max_context - 1."""
    steps = check_integer("pred_len", horizon)
    if steps < 1:
        raise InputError(f"pred_len={steps} must be 1 or more")
    if steps >= max_context:
        raise InputError(f"pred_len={steps} must be below max_context={max_context}: no history would be left")
    return steps


def check_path_count(paths: object) -> int:
    """`paths` as a Python integer, 1 or more: sizes in bytes overflow numpy's small integers."""
    count = check_integer("sample_count", paths)
    if count < 1:
        raise InputError(f"sample_count={count} must be 1 or more: it is the number of sample paths")
    return count


def check_seeds(names: Sequence[str], seeds: Sequence[object]) -> list[int]:
    """One seed per series, as Python integers. Raises InputError for a seed that is not an integer of 0 or more."""
    checked = [check_integer(f"series {name}: seed", seed) for name, seed in zip(names, seeds, strict=True)]
    for name, seed in zip(names, checked, strict=True):
        if seed < 0:
            raise InputError(f"series {name}: seed={seed} must be 0 or more")
    return checked


def check_same_length(what: str, expected: int, **lists: Sequence[object]) -> None:
    """Raise InputError if one of the named lists does not have `expected` entries."""
    for label, values in lists.items():
        if len(values) != expected:
            raise InputError(f"{label} has {len(values)} entries for {expected} {what}")


def warn_about_scale(inputs: Sequence[SeriesInput], epsilon: float) -> None:
    """Warn, once for all series, where prices move by less than the epsilon that the normalisation adds to σ.

    Such prices are normalised to nearly 0, and their forecasts have the scale of epsilon instead of theirs.
    """
    names, least = [], math.inf
    for one in inputs:
        prices = one.values[:, :4]
        moves = np.ptp(prices, axis=0) > 0  # σ of a constant price may be above 0 by rounding
        small = moves & (prices.std(axis=0) < epsilon)
        if small.any():
            names.append(one.name)
            least = min(least, float(prices.std(axis=0)[small].min()))
    if names:
        listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        power = math.ceil(-math.log10(max(least, float(np.finfo(np.float32).tiny))))
        warnings.warn(
            f"series {listed}: the standard deviation of prices is about {least:.1e}, below the {epsilon:g} that the "
            f"models' normalisation adds to it, so that the forecast is meaningless: rescale the prices, e.g. multiply "
            f"them by 1e{power} and divide the forecast by it",
            ScaleWarning,
            stacklevel=2,
        )


def warn_about_length(inputs: Sequence[SeriesInput], max_context: int) -> None:
    """Warn, once for all series, where the history is longer than the window that the predictor reads."""
    long = [one for one in inputs if len(one.values) > max_context]
    if long:
        listed = ", ".join(one.name for one in long[:5]) + (f" and {len(long) - 5} more" if len(long) > 5 else "")
        warnings.warn(
            f"series {listed}: the history has {max(len(one.values) for one in long)} bars and max_context is "
            f"{max_context}: the predictor reads the last {max_context}, and normalisation and tokenizer all of them; "
            f"pass the last {max_context} bars, or a larger max_context if the weights were trained for it",
            InputWarning,
            stacklevel=2,
        )


def warn_about_context(config: KronosConfig, max_context: int) -> None:
    """Warn where `max_context` exceeds the windows that published weights of this shape were trained with."""
    trained = TRAINED_CONTEXT.get((config.n_layers, config.d_model))
    if trained is not None and max_context > trained:
        warnings.warn(
            f"max_context={max_context}, but the published weights of this shape ({config.n_layers} layers of width "
            f"{config.d_model}) were trained with windows of {trained} bars: what they do beyond is not known; pass "
            f"max_context={trained}",
            InputWarning,
            stacklevel=2,
        )
