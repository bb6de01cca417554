"""The input of the models: six fields per bar and five calendar features per timestamp."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kronos.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

PRICES = ("open", "high", "low", "close")
FEATURES = (*PRICES, "volume", "amount")
"""Fields of a bar, in the order of the tokenizer's input."""
MissingVolume = Literal["zero", "median", "mask"]
"""How missing volume and amount are prepared, see `complete_volume_amount`."""
TIME_FEATURES = ("minute", "hour", "weekday", "day", "month")
"""Calendar features in the order of the model's input; weekday 0 is Monday, day and month count from 1."""


def time_features(timestamps: ArrayLike | pd.DatetimeIndex | pd.Series) -> NDArray[np.int64]:
    """Calendar features (n, 5) of n timestamps: minute, hour, weekday, day, month.

    pandas timestamps with a time zone are read in that zone, as in the authors' package: hours are those of the
    exchange if the timestamps are. NaT raises InputError.
    """
    localised = getattr(timestamps, "dt", timestamps)
    if getattr(localised, "tz", None) is not None:
        timestamps = localised.tz_localize(None)  # type: ignore[union-attr]
    stamps = np.asarray(timestamps, dtype="datetime64[s]").reshape(-1)
    if np.isnat(stamps).any():
        raise InputError(f"timestamp {int(np.flatnonzero(np.isnat(stamps))[0])} is missing (NaT)")
    days, months = stamps.astype("datetime64[D]"), stamps.astype("datetime64[M]")
    minutes = (stamps - days).astype("timedelta64[m]").astype(np.int64)
    features = np.empty((len(stamps), len(TIME_FEATURES)), dtype=np.int64)
    features[:, 0] = minutes % 60
    features[:, 1] = minutes // 60
    features[:, 2] = (days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
    features[:, 3] = (days - months.astype("datetime64[D]")).astype(np.int64) + 1
    features[:, 4] = months.astype(np.int64) % 12 + 1
    return features


def complete_volume_amount(
    values: ArrayLike, rule: MissingVolume = "zero", lookback: int | None = None
) -> NDArray[np.float64]:
    """Bars (…, time, 6) with missing volume and amount completed by `rule`. Prices are not changed.

    `values` is (…, fields) with the four prices first: 4 columns (no volume, no amount), 5 (no amount) or 6; NaN in
    volume or amount means "not supplied". A missing amount beside a known volume is volume × mean of the four prices
    under every rule. What then is missing becomes, bar by bar:

    - "zero", as for the published models: 0. Where the volume is missing, the amount is 0 even if it is known.
    - "median": the median of the field's known values in the first `lookback` rows of its window (default: all rows);
      0 if there are none.
    - "mask": NaN, which `Normalisation.apply` leaves out of mean and deviation and sets to 0, the mean, afterwards.

    Completing twice changes nothing. Another number of columns raises InputError.
    """
    bars = np.asarray(values, dtype=np.float64)
    if bars.ndim < 1 or bars.shape[-1] not in (4, 5, 6):
        raise InputError(f"bars need 4, 5 or 6 columns ({', '.join(FEATURES)}), got shape {bars.shape}")
    complete = np.full((*bars.shape[:-1], len(FEATURES)), np.nan)
    complete[..., : bars.shape[-1]] = bars
    volume, amount = complete[..., 4], complete[..., 5]
    if rule == "zero":
        no_volume = np.isnan(volume)
        volume[no_volume] = amount[no_volume] = 0.0
    no_amount = np.isnan(amount)
    amount[no_amount] = volume[no_amount] * complete[..., :4].mean(axis=-1)[no_amount]
    if rule == "median":
        _fill_with_median(volume, lookback)
        _fill_with_median(amount, lookback)
    return complete


def _fill_with_median(field: NDArray[np.float64], lookback: int | None) -> None:
    """Replace NaN in `field` (…, time) by the median of the known values of the first `lookback` rows, in place."""
    missing = np.isnan(field)
    windows = missing.any(axis=-1)
    if not windows.any():
        return
    history = field[windows][..., :lookback]
    history = np.where(np.isnan(history).all(axis=-1, keepdims=True), 0.0, history)
    medians = np.zeros(field.shape[:-1])
    medians[windows] = np.nanmedian(history, axis=-1)
    field[missing] = np.broadcast_to(medians[..., None], field.shape)[missing]
