"""What the models read: six fields a bar and five calendar features a stamp."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kronos.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

PRICES = ("open", "high", "low", "close")
FEATURES = (*PRICES, "volume", "amount")
"""The order in which a bar's fields enter the tokenizer."""
TIME_FEATURES = ("minute", "hour", "weekday", "day", "month")
"""The order of the calendar features; weekday 0 is Monday, day and month count from 1."""


def time_features(timestamps: ArrayLike | pd.DatetimeIndex | pd.Series) -> NDArray[np.int64]:
    """(n, 5) calendar features of n stamps: minute, hour, weekday, day, month.

    Zoned pandas stamps are read on their own clock, as the authors do: hours are those of the exchange
    if the caller's stamps are. NaT raises InputError.
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


def complete_volume_amount(values: ArrayLike) -> NDArray[np.float64]:
    """Fill what a source does not have, by the rule of the published models.

    `values` is (…, fields) with the four prices first: 4 columns (no volume, no amount → both 0), 5 (no
    amount → volume × mean of the four prices) or 6. In six columns, NaN in volume or amount means
    "not supplied" and the same rule fills it bar by bar. Prices are left as they are.
    """
    bars = np.asarray(values, dtype=np.float64)
    if bars.ndim < 1 or bars.shape[-1] not in (4, 5, 6):
        raise InputError(f"bars need 4, 5 or 6 columns ({', '.join(FEATURES)}), got shape {bars.shape}")
    complete = np.full((*bars.shape[:-1], len(FEATURES)), np.nan)
    complete[..., : bars.shape[-1]] = bars
    volume, amount = complete[..., 4], complete[..., 5]
    no_volume = np.isnan(volume)
    volume[no_volume] = amount[no_volume] = 0.0
    no_amount = np.isnan(amount)
    amount[no_amount] = volume[no_amount] * complete[..., :4].mean(axis=-1)[no_amount]
    return complete
