"""Series of a DataFrame, long or wide, on regular timestamps: what `assets.forecasting.series_forecast` forecasts.

A series that cannot be read is rejected with its reason, and the others are not affected. Not here: how a file becomes
a frame (files), timestamps (stamps), the models (models).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from assets.forecasting.series.columns import Layout
from assets.forecasting.series.future import require_same_kind, with_future
from assets.forecasting.series.series import EVERY, Series, SeriesError, require_values
from assets.forecasting.series.stamps import (
    MOST_MISSING,
    Frequency,
    StampError,
    following,
    frequency_text,
    infer_frequency,
    parse_frequency,
    regular_grid,
)
from assets.forecasting.series.tables import Reading, Resample, Table, parse_table
from resources.errors import CandlecastError


@dataclass
class SeriesSet:
    """The series of a frame.

    Attributes:
        histories: up to their last values, without a future.
        series: those of them that have all that is needed to forecast a horizon.
        rejected: the reasons for the others.
        notes: how the frame was read.
    """

    frequency: Frequency
    histories: list[Series] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    rejected: dict[Hashable, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Part:
    """One series of a table: its rows and its columns."""

    id: Hashable
    rows: np.ndarray
    targets: tuple[str, ...]


def read_series(
    frame: pd.DataFrame, reading: Reading, horizon: int = 0, future: pd.DataFrame | None = None
) -> SeriesSet:
    """All series of a frame.

    Args:
        horizon: steps to forecast after the last value; 0: none.
        future: values of the covariates known in advance; None: rows of `frame` after the last value of the target.

    Raises:
        CandlecastError: no series can be read at all, with the reason.
    """
    layout = reading.layout
    if frame.empty:
        raise CandlecastError("the table has no rows: nothing can be forecast")
    notes = list(layout.notes)
    table = parse_table(frame, reading, (*layout.targets, *layout.covariates), notes)
    parts = list(_parts(table, layout))
    ahead = table
    if layout.known and horizon and future is not None:
        ahead = parse_table(future, reading, layout.known, notes)
        require_same_kind(table.stamps, ahead.stamps)
        notes += _surplus(ahead, parts)
    found = SeriesSet(_frequency(table, parts, reading), notes=notes)
    for part in parts:
        try:
            series = _history(table, part, reading, found)
            found.histories.append(series)
            if horizon:
                series = replace(series, ahead=following(series.stamps[-1], found.frequency, horizon))
                found.series.append(with_future(series, layout.known, ahead, found.notes))
        except (SeriesError, StampError) as error:
            found.rejected[part.id] = str(error)
    return found


def _parts(table: Table, layout: Layout) -> Iterator[_Part]:
    if layout.wide:
        every = np.arange(len(table.stamps))
        yield from (_Part(name, every, (name,)) for name in layout.targets)
    elif table.ids is None:
        name = EVERY if len(layout.targets) > 1 else layout.targets[0]
        yield _Part(name, np.arange(len(table.stamps)), layout.targets)
    else:
        for one, rows in table.ids.groupby(table.ids, sort=False).indices.items():
            yield _Part(one, np.asarray(rows), layout.targets)


def _frequency(table: Table, parts: Sequence[_Part], reading: Reading) -> Frequency:
    """The stated frequency, or the one that most series have."""
    if reading.frequency is not None:
        return parse_frequency(reading.frequency, table.stamps)
    if reading.resample is not None:
        raise CandlecastError("--resample makes one row of each interval: state its length with --frequency, such as h")
    inferred: Counter[str] = Counter()
    offsets: dict[str, Frequency] = {}
    # One series' timestamps are those of all where the table is wide.
    for part in parts[:1] if reading.layout.wide else parts:
        stamps = _sorted_unique(table.stamps[part.rows])
        offset = infer_frequency(stamps)
        if offset is not None:
            inferred[frequency_text(offset)] += 1
            offsets[frequency_text(offset)] = offset
    if inferred:
        return offsets[inferred.most_common(1)[0][0]]
    first = _sorted_unique(table.stamps[parts[0].rows])
    steps = first[1:] - first[:-1]
    seen = f"they are {steps.min()} to {steps.max()} apart" if len(steps) else "there is one"
    raise CandlecastError(
        f"no frequency fits the {len(first)} timestamps of {parts[0].id!r} ({seen}): state --frequency, such as h, D, "
        "B or ME, and where timestamps are irregular also --resample mean (or sum, last, first)"
    )


def _history(table: Table, part: _Part, reading: Reading, found: SeriesSet) -> Series:
    """One series up to its last value, without a future."""
    layout, frequency, notes = reading.layout, found.frequency, found.notes
    used = (layout.timestamp, *part.targets, *layout.covariates)
    own = set(part.rows)
    reasons = [reason for name in used for row, reason in table.bad[name].items() if row in own]
    if reasons:
        more = f" ({len(reasons)} such cells)" if len(reasons) > 1 else ""
        raise SeriesError(reasons[0] + more)
    rows = part.rows[np.argsort(table.stamps[part.rows], kind="stable")]
    data = pd.DataFrame({name: table.values[name][rows] for name in used[1:]}, index=table.stamps[rows])
    if reading.resample is not None:
        data = _resampled(data, frequency, reading.resample, part, notes)
    twice = data.index.duplicated(keep=False)
    if twice.any():
        raise SeriesError(
            f"timestamp {data.index[twice][0]} occurs {int((data.index == data.index[twice][0]).sum())} times "
            f"({int(twice.sum()):,} rows are affected): remove the others, name the column of ids with --id, or state "
            "--frequency and --resample; local times that a clock shows twice need --timezone"
        )
    observed = np.flatnonzero(data[list(part.targets)].notna().any(axis=1))
    if not len(observed):
        raise SeriesError(f"column {part.targets[0]} has no value at all: there is nothing to forecast from")
    _note_ends(data.index, observed, part, notes)
    data = data.iloc[observed[0] : observed[-1] + 1]
    grid = regular_grid(data.index, frequency)
    missing = 1 - len(data) / len(grid)
    if reading.frequency is None and missing > MOST_MISSING:
        raise SeriesError(
            f"{missing:.0%} of the timestamps of the frequency {frequency_text(frequency)}, which most series have, "
            "are missing: forecast it in a file of its own, or state --frequency if it has this one"
        )
    if len(grid) > len(data):
        notes.append(f"{part.id}: {len(grid) - len(data):,} of {len(grid):,} timestamps have no row: kept as gaps")
        data = data.reindex(grid)
    series = Series(
        part.id,
        part.targets,
        grid,
        data[list(part.targets)].to_numpy(dtype=np.float64).T,
        {name: data[name].to_numpy() for name in layout.covariates},
        grid[:0],
        {name: data[name].to_numpy()[:0] for name in layout.known},
    )
    require_values(series)
    _require_covariates(series, notes)
    return series


def _require_covariates(series: Series, notes: list[str]) -> None:
    """Refuse a covariate without any value; note one whose values end before those of the targets."""
    for name, values in series.past.items():
        known = np.flatnonzero(pd.notna(values))
        if not len(known):
            raise SeriesError(f"covariate {name} has no value in its history: add its values, or leave {name} out")
        if missing := len(values) - 1 - known[-1]:
            notes.append(
                f"{series.id}: the last {missing:,} values of covariate {name} are missing, it ends "
                f"{series.stamps[known[-1]]}"
            )


def _note_ends(stamps: pd.Index, observed: np.ndarray, part: _Part, notes: list[str]) -> None:
    first, last = observed[0], observed[-1]
    if first:
        notes.append(f"{part.id}: the first {first:,} rows have no value and are left out: it begins {stamps[first]}")
    if last < len(stamps) - 1:
        notes.append(
            f"{part.id}: the last {len(stamps) - 1 - last:,} rows have no value: it ends {stamps[last]}, and the "
            "forecast begins there"
        )


def _resampled(data: pd.DataFrame, frequency: Frequency, rule: Resample, part: _Part, notes: list[str]) -> pd.DataFrame:
    if isinstance(frequency, int):
        raise SeriesError("--resample needs timestamps, these are whole numbers: remove duplicates and gaps yourself")
    groups = data.resample(frequency)
    resampled = pd.DataFrame(
        {
            name: (
                groups[name].sum(min_count=1)
                if rule == "sum" and data[name].dtype != object
                else groups[name].agg(rule if data[name].dtype != object or rule == "first" else "last")
            )
            for name in data.columns
        }
    )
    if len(resampled) != len(data) or not resampled.index.equals(data.index):
        notes.append(
            f"{part.id}: {len(data):,} rows became {len(resampled):,} by --resample {rule}; the last interval, "
            f"{resampled.index[-1]}, may be incomplete"
        )
    return resampled


def _sorted_unique(stamps: pd.Index) -> pd.Index:
    return stamps[stamps.notna()].unique().sort_values()


def _surplus(ahead: Table, parts: Sequence[_Part]) -> list[str]:
    """A note on series of the future table that have no history."""
    extra = sorted(set() if ahead.ids is None else set(map(str, ahead.ids)) - {str(part.id) for part in parts})
    return [f"the future table has values of {extra[0]!r}, of which there is no history: not used"] if extra else []
