"""A frame of series with the columns that are used parsed, and the cells that cannot be used by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from assets.forecasting.series.columns import Layout, Values, column_values
from assets.forecasting.series.stamps import in_zone, parse_stamps
from resources.errors import CandlecastError

Resample: TypeAlias = Literal["mean", "sum", "last", "first"]


@dataclass(frozen=True)
class Reading:
    """How a frame is read: the columns, and what is stated about its timestamps.

    Attributes:
        frequency: as `parse_frequency` reads it; None: inferred.
        resample: how the rows of one interval become one; None: rows beside the grid and duplicates are refused.
    """

    layout: Layout
    frequency: str | None = None
    timezone: str | None = None
    date_format: str | None = None
    resample: Resample | None = None


@dataclass(frozen=True)
class Table:
    """The columns of a frame that are used, parsed.

    Attributes:
        bad: by column, the reason for each row whose cell cannot be used.
    """

    stamps: pd.Index
    ids: pd.Series | None
    values: Mapping[str, Values]
    bad: Mapping[str, Mapping[int, str]]


def parse_table(frame: pd.DataFrame, reading: Reading, names: Sequence[str], notes: list[str]) -> Table:
    """The table of a frame; what a reader must know is added to `notes`.

    Args:
        names: the columns of values.

    Raises:
        CandlecastError: a column cannot be read at all.
    """
    layout = reading.layout
    stamps, note = parse_stamps(frame[layout.timestamp], reading.date_format)
    ids = _ids(frame, layout)
    if reading.timezone is not None:
        stamps = in_zone(stamps, reading.timezone, ids)
    elif note is not None:
        notes.append(note)
    values, bad = {}, {}
    for name in names:
        values[name], bad[name] = column_values(frame[name], name in layout.categorical)
        if values[name].dtype == object and name in layout.targets:
            raise CandlecastError(
                f"column {name} is to be forecast, and holds text, such as {frame[name].iloc[0]!r}: name "
                "the columns to forecast with --target"
            )
    missing = np.flatnonzero(stamps.isna())
    bad[layout.timestamp] = {
        int(row): f"column {layout.timestamp}, row {row + 1}: {cell!r} is not a timestamp"
        + (f" of {reading.timezone} (clocks skip it, or show it twice)" if reading.timezone else "")
        for row, cell in zip(missing, frame[layout.timestamp].iloc[missing], strict=True)
    }
    return Table(stamps, ids, values, bad)


def _ids(frame: pd.DataFrame, layout: Layout) -> pd.Series | None:
    if layout.id not in frame.columns:
        return None
    ids = frame[layout.id].reset_index(drop=True)
    empty = ids.isna() | (ids.astype("string").str.strip() == "").fillna(True)
    if empty.any():
        raise CandlecastError(
            f"column {layout.id}, row {int(np.argmax(empty)) + 1}: no id of a series ({int(empty.sum()):,} rows): "
            "write one, remove the rows, or name another column with --id"
        )
    return ids
