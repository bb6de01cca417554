"""Series of a DataFrame, long or wide, on regular timestamps: what `assets.forecasting.series_forecast` forecasts.

A series that cannot be read is rejected with its reason, and the others are not affected. Not here: how a file becomes
a frame (files), timestamps (stamps), the models (models).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from assets.forecasting.series.columns import Layout, Values, column_values
from assets.forecasting.series.stamps import (
    Frequency,
    StampError,
    following,
    frequency_text,
    in_zone,
    infer_frequency,
    parse_frequency,
    parse_stamps,
    regular_grid,
)
from resources.errors import CandlecastError

Resample: TypeAlias = Literal["mean", "sum", "last", "first"]
FEWEST_VALUES = 3


class SeriesError(ValueError):
    """Why one series cannot be forecast, with the remedy."""


@dataclass(frozen=True)
class Series:
    """One series up to its last value, and what is known of the steps to forecast.

    Attributes:
        stamps: (n,) timestamps, regular and increasing.
        targets: (targets, n) float64, NaN where unknown.
        past: (n,) values of each covariate, float64 or text; those that are known in advance are among them.
        ahead: (horizon,) timestamps to forecast.
        future: (horizon,) values of each covariate that is known in advance.
    """

    id: Hashable
    names: tuple[str, ...]
    stamps: pd.Index
    targets: np.ndarray
    past: Mapping[str, Values]
    ahead: pd.Index
    future: Mapping[str, Values] = field(default_factory=dict)

    @property
    def horizon(self) -> int:
        return len(self.ahead)


@dataclass
class SeriesSet:
    """The series of a frame, those that were rejected with their reasons, and notes on how the frame was read."""

    frequency: Frequency
    series: list[Series] = field(default_factory=list)
    rejected: dict[Hashable, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


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
class _Table:
    """The columns of a frame that are used, parsed.

    Attributes:
        bad: by column, the reason for each row whose cell cannot be used.
    """

    stamps: pd.Index
    ids: pd.Series | None
    values: Mapping[str, Values]
    bad: Mapping[str, Mapping[int, str]]


@dataclass(frozen=True)
class _Part:
    """One series of a table: its rows and its columns."""

    id: Hashable
    rows: np.ndarray
    targets: tuple[str, ...]


def read_series(
    frame: pd.DataFrame, reading: Reading, horizon: int, holdout: int = 0, future: pd.DataFrame | None = None
) -> SeriesSet:
    """All series of a frame.

    Args:
        horizon: steps to forecast after the last value.
        holdout: > 0: rows at the end that are `actuals_of` a series cut by `without_end`, so that no future is needed.
        future: values of the covariates known in advance; None: rows of `frame` after the last value of the target.

    Raises:
        CandlecastError: no series can be read at all, with the reason.
    """
    layout = reading.layout
    if frame.empty:
        raise CandlecastError("the table has no rows: nothing can be forecast")
    notes = list(layout.notes)
    table = _table(frame, reading, (*layout.targets, *layout.covariates), notes)
    parts = list(_parts(table, layout))
    frequency = _frequency(table, parts, reading)
    found = SeriesSet(frequency, notes=notes)
    ahead = None
    if layout.known and not holdout and future is not None:
        ahead = _table(future, reading, layout.known, notes)
        _check_zones(table.stamps, ahead.stamps)
    for part in parts:
        try:
            series = _series(table, part, layout, frequency, reading, found.notes)
            if holdout:
                found.series.append(series)
                continue
            ends = replace(series, ahead=following(series.stamps[-1], frequency, horizon))
            found.series.append(_with_future(ends, layout.known, ahead or table, part, found.notes))
        except (SeriesError, StampError) as error:
            found.rejected[part.id] = str(error)
    if ahead is not None and ahead.ids is not None:
        extra = sorted(set(map(str, ahead.ids)) - {str(part.id) for part in parts})
        if extra:
            found.notes.append(f"the future table has values of {extra[0]!r}, of which there is no history: not used")
    return found


def without_end(series: Series, steps: int) -> tuple[Series, np.ndarray]:
    """A series without its last `steps` timestamps, which are to be forecast, and the actuals: (targets, steps).

    Raises:
        SeriesError: too little is left.
    """
    if len(series.stamps) < steps + FEWEST_VALUES:
        raise SeriesError(
            f"{len(series.stamps)} timestamps are too few for a holdout of {steps}: at least {FEWEST_VALUES} must be "
            "left"
        )
    cut = replace(
        series,
        stamps=series.stamps[:-steps],
        targets=series.targets[:, :-steps],
        past={name: values[:-steps] for name, values in series.past.items()},
        ahead=series.stamps[-steps:],
        future={name: series.past[name][-steps:] for name in series.future},
    )
    _require_values(cut)
    return cut, series.targets[:, -steps:]


def _table(frame: pd.DataFrame, reading: Reading, names: Sequence[str], notes: list[str]) -> _Table:
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
            raise CandlecastError(f"column {name} is to be forecast, and holds text, such as {frame[name].iloc[0]!r}")
    missing = np.flatnonzero(stamps.isna())
    bad[layout.timestamp] = {
        int(row): f"column {layout.timestamp}, row {row + 1}: {cell!r} is not a timestamp"
        + (f" of {reading.timezone} (clocks skip it, or show it twice)" if reading.timezone else "")
        for row, cell in zip(missing, frame[layout.timestamp].iloc[missing], strict=True)
    }
    return _Table(stamps, ids, values, bad)


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


def _parts(table: _Table, layout: Layout) -> Iterator[_Part]:
    if layout.wide:
        every = np.arange(len(table.stamps))
        yield from (_Part(name, every, (name,)) for name in layout.targets)
    elif table.ids is None:
        yield _Part(
            "all" if len(layout.targets) > 1 else layout.targets[0], np.arange(len(table.stamps)), layout.targets
        )
    else:
        for one, rows in table.ids.groupby(table.ids, sort=False).indices.items():
            yield _Part(one, np.asarray(rows), layout.targets)


def _frequency(table: _Table, parts: Sequence[_Part], reading: Reading) -> Frequency:
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
    steps = np.diff(first)
    seen = f"they are {steps.min()} to {steps.max()} apart" if len(steps) else "there is one"
    raise CandlecastError(
        f"no frequency fits the {len(first)} timestamps of {parts[0].id!r} ({seen}): state --frequency, such as h, D, "
        "B or ME, and where timestamps are irregular also --resample mean (or sum, last, first)"
    )


def _series(
    table: _Table, part: _Part, layout: Layout, frequency: Frequency, reading: Reading, notes: list[str]
) -> Series:
    """One series up to its last value, without a future."""
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
    _require_values(series)
    return series


def _require_values(series: Series) -> None:
    counts = np.isfinite(series.targets).sum(axis=1)
    if counts.min() < FEWEST_VALUES:
        name = series.names[int(np.argmin(counts))]
        raise SeriesError(
            f"column {name} has {counts.min()} values, at least {FEWEST_VALUES} are needed: give a longer history"
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
    made = pd.DataFrame(
        {
            name: (
                groups[name].sum(min_count=1)
                if rule == "sum" and data[name].dtype != object
                else groups[name].agg(rule if data[name].dtype != object or rule == "first" else "last")
            )
            for name in data.columns
        }
    )
    if len(made) != len(data) or not made.index.equals(data.index):
        notes.append(
            f"{part.id}: {len(data):,} rows became {len(made):,} by --resample {rule}; the last interval, "
            f"{made.index[-1]}, may be incomplete"
        )
    return made


def _with_future(series: Series, known: Sequence[str], ahead: _Table, part: _Part, notes: list[str]) -> Series:
    """The series with the future values of its covariates."""
    if not known:
        return series
    rows = np.arange(len(ahead.stamps))
    if ahead.ids is not None:
        rows = np.flatnonzero(ahead.ids.astype(str) == str(part.id))
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
        if values.dtype == object and (new := sorted(set(values) - set(series.past[name]))):
            notes.append(f"{part.id}: {name} is {new[0]!r} only in the future: the model cannot know what it means")
        future[name] = values.to_numpy()
    return replace(series, future=future)


def _check_zones(history: pd.Index, future: pd.Index) -> None:
    kinds = [(type(one), getattr(one, "tz", None) is not None) for one in (history, future)]
    if kinds[0] != kinds[1]:
        raise CandlecastError(
            "the timestamps of the future table are of another kind than those of the history (with and without an "
            "offset from UTC, or whole numbers): write both alike, or state --timezone"
        )


def _sorted_unique(stamps: pd.Index) -> pd.Index:
    return stamps[stamps.notna()].unique().sort_values()
