"""The input of the models: six fields per bar and five calendar features per timestamp."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kronos.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

PRICES = ("open", "high", "low", "close")
FEATURES = (*PRICES, "volume", "amount")
"""Fields of a bar, in the order of the tokenizer's input."""
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


def complete_volume_amount(values: ArrayLike) -> NDArray[np.float64]:
    """Bars (…, 6) with missing volume and amount filled by the rule of the published models.

    `values` is (…, fields) with the four prices first: 4 columns (no volume, no amount → both 0), 5 (no amount →
    volume × mean of the four prices) or 6. In six columns NaN in volume or amount means "not supplied", and the same
    rule fills it bar by bar. Prices are not changed. Another number of columns raises InputError.
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
