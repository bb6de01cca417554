"""The future values of covariates that are known in advance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from assets.forecasting.series.columns import Values
from assets.forecasting.series.series import Series, SeriesError
from assets.forecasting.series.tables import Table
from resources.errors import CandlecastError


def with_future(series: Series, known: Sequence[str], ahead: Table, notes: list[str]) -> Series:
    """The series with the future values of its covariates.

    Args:
        ahead: a table with them, by timestamp and id; without ids they are those of every series.

    Raises:
        SeriesError: a value is missing or cannot be used.
    """
    if not known:
        return series
    rows = np.arange(len(ahead.stamps))
    if ahead.ids is not None:
        rows = np.flatnonzero(ahead.ids.astype(str) == str(series.id))
        if not len(rows):
            raise SeriesError(
                f"the future values of {', '.join(known)} have no row of it: add its rows to the file of --future"
            )
    stamps, own = ahead.stamps[rows], set(rows)
    future: dict[str, Values] = {}
    for name in known:
        reasons = [reason for row, reason in ahead.bad[name].items() if row in own]
        if reasons:
            raise SeriesError(f"future values: {reasons[0]}")
        values = pd.Series(ahead.values[name][rows], index=stamps)
        text = ahead.values[name].dtype == object
        if text != (series.past[name].dtype == object) and values.notna().any():
            kinds = ("text", "numbers") if text else ("numbers", "text")
            raise SeriesError(
                f"future values of {name} are {kinds[0]}, and those of its history {kinds[1]}: write both alike, or "
                f"state --categorical {name}"
            )
        values = values[values.index.isin(series.ahead)]
        if values.index.has_duplicates:
            again = values.index[values.index.duplicated()][0]
            raise SeriesError(f"future values of {name}: timestamp {again} occurs twice: remove one of the rows")
        values = values.reindex(series.ahead)
        unknown = np.flatnonzero(values.isna())
        if len(unknown):
            raise SeriesError(
                f"future values of {name}: none at {series.ahead[unknown[0]]}, step {unknown[0] + 1} of "
                f"{series.horizon}: add it, shorten --horizon, or make it a covariate of the past with --past {name}"
            )
        if text and (new := sorted(set(values) - set(series.past[name]))):
            notes.append(f"{series.id}: {name} is {new[0]!r} only in the future: the model cannot know what it means")
        future[name] = values.to_numpy(dtype=object if text else np.float64)
    return replace(series, future=future)


def require_same_kind(history: pd.Index, future: pd.Index) -> None:
    """Raise a CandlecastError if only one of them has zones, or numbers."""
    kinds = [(type(one), getattr(one, "tz", None) is not None) for one in (history, future)]
    if kinds[0] != kinds[1]:
        raise CandlecastError(
            "the timestamps of the future table are of another kind than those of the history (with and without an "
            "offset from UTC, or whole numbers): write both alike, or state --timezone"
        )
