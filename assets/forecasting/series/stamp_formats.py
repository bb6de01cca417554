"""Timestamps that are numbers (dates without marks, seconds since 1970, Excel's days), quarters and weeks.

What can be read in two ways is refused with the `--date-format` of each. Not here: ISO 8601 and zones (stamps).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from resources.errors import CandlecastError

# Values of --date-format beside formats of strptime.
NUMBER, EPOCH, EXCEL = "number", "epoch", "excel"
FORMATS = (NUMBER, EPOCH, EXCEL)
_JOINED = {8: "%Y%m%d", 6: "%Y%m", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_YEARS = range(1900, 2101)
# Of numbers of these lengths, at least this share must be dates: the others are mistakes.
_MOSTLY = 0.9
_Unit: TypeAlias = Literal["s", "ms", "us", "ns"]
_UNITS: Mapping[int, _Unit] = {9: "s", 10: "s", 12: "ms", 13: "ms", 15: "us", 16: "us", 18: "ns", 19: "ns"}
_UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_EXCEL_FIRST, _EXCEL_LAST = pd.Timestamp("1899-12-30"), 100_000
# The days of 1970 to 2099.
_EXCEL_DAYS = (25_569, 73_050)
_QUARTER = r"(?P<year>\d{4})[ -]?Q(?P<quarter>[1-4])|Q(?P<first>[1-4])[ -/]?(?P<last>\d{4})"
_WEEK = r"\d{4}-?W\d{2}"
_GUESSES = tuple(
    f"{day}{clock}"
    for day in ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y", "%d-%b-%Y",
                "%d %b %Y", "%b %d, %Y", "%b-%y", "%b %Y", "%Y-%m-%d")
    for clock in ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
)  # fmt: skip


def as_numbers(cells: pd.Series) -> pd.Series | None:
    """The cells as text of numbers, 2020.0 as 2020, empty where they are; None: one of them is no number."""
    if pd.api.types.is_bool_dtype(cells):
        return None
    if pd.api.types.is_numeric_dtype(cells):
        values = ["" if pd.isna(one) else str(int(one)) if one == one // 1 else repr(float(one)) for one in cells]
        return pd.Series(values, name=cells.name, dtype="string")
    text = cells.astype("string").str.strip().fillna("")
    given = text[text != ""]
    if not len(given) or not given.str.fullmatch(r"[+-]?\d+(\.\d+)?").all():
        return None
    return text.str.replace(r"\.0+$", "", regex=True)


def number_stamps(numbers: pd.Series, stated: str | None) -> tuple[pd.Index, str | None]:
    """The timestamps of `as_numbers`, and a note on how they were read.

    Args:
        stated: one of `FORMATS`; None: inferred.

    Raises:
        CandlecastError: they can be read in two ways, or not at all.
    """
    given = numbers[numbers != ""]
    whole = given.str.fullmatch(r"[+-]?\d+")
    if stated is None and whole.all():
        for digits, form in _JOINED.items():
            dates = pd.to_datetime(numbers.where(numbers.str.len() == digits), format=form, errors="coerce")
            if dates[given.index].dt.year.isin(_YEARS).mean() >= _MOSTLY:
                return pd.DatetimeIndex(dates), None
    if stated == EPOCH or (stated is None and _unit(given) is not None):
        return _epoch(numbers, given)
    values = pd.to_numeric(numbers, errors="coerce").astype(np.float64)
    if stated == EXCEL:
        seconds = pd.to_timedelta((values.where(values.between(1, _EXCEL_LAST)) * 86_400).round(), unit="s")
        return pd.DatetimeIndex(_EXCEL_FIRST + seconds), None
    low, high = _EXCEL_DAYS
    if stated is None and values[given.index].between(low, high).all():
        raise CandlecastError(
            f"column {numbers.name}, row {given.index[0] + 1}: {given.iloc[0]} is a day of Excel, or a number: state "
            f"--date-format {EXCEL}, or --date-format {NUMBER}"
        )
    wrong = numbers.index[(numbers == "") | ~numbers.str.fullmatch(r"[+-]?\d{1,18}")]
    if len(wrong):
        shown = repr(numbers[wrong[0]]) if numbers[wrong[0]] else "an empty cell"
        raise CandlecastError(
            f"column {numbers.name}, row {wrong[0] + 1}: {shown} is no whole number: correct or remove the row, name "
            f"another column with --timestamp, or state --date-format {EPOCH} (seconds since 1970) or {EXCEL}"
        )
    return pd.Index(numbers.astype(np.int64).to_numpy()), None


def _unit(given: pd.Series) -> _Unit | None:
    """The unit of times since 1970, by their digits; None: they are no such times."""
    units = given.str.extract(r"^(\d+)(?:\.\d+)?$")[0].str.len().map(_UNITS)
    found: _Unit = units.iloc[0]
    return found if units.notna().all() and units.nunique() == 1 else None


def _epoch(numbers: pd.Series, given: pd.Series) -> tuple[pd.Index, str]:
    unit = _unit(given)
    if unit is None:
        raise CandlecastError(
            f"column {numbers.name}, row {given.index[0] + 1}: {given.iloc[0]}: times since 1970 have the digits of "
            f"one unit, seconds to nanoseconds: state --date-format {NUMBER}, or write all alike"
        )
    seconds, fraction = given.str.partition(".")[0].astype(np.uint64), given.str.contains(".", regex=False)
    read = pd.to_datetime(seconds.where(seconds < 2**63, 0).astype(np.int64), unit=unit, utc=True)
    read = read.where(seconds < 2**63)
    if fraction.any():
        rest = pd.to_numeric("0." + given.str.partition(".")[2].where(fraction, "0")).astype(np.float64)
        read = read + pd.to_timedelta(rest, unit=unit).dt.round("us")
    return pd.DatetimeIndex(read.reindex(numbers.index)), (
        f"column {numbers.name} is read as {_UNIT_NAMES[unit]} since 1970-01-01, in UTC; --date-format {NUMBER} reads "
        "whole numbers"
    )


def calendar_stamps(text: pd.Series) -> pd.DatetimeIndex | None:
    """The first days of quarters such as 2020Q1, or of weeks such as 2020-W07, NaT where a cell is none; None: they are
    no such."""
    given = text[text != ""]
    if not len(given):
        return None
    if given.str.fullmatch(_WEEK).mean() >= _MOSTLY:
        days = text.str.replace("-", "", regex=False) + "1"
        return pd.DatetimeIndex(pd.to_datetime(days, format="%GW%V%u", errors="coerce"))
    parts = text.str.extract(f"^(?:{_QUARTER})$")
    year, quarter = parts["year"].fillna(parts["last"]), parts["quarter"].fillna(parts["first"])
    if year[given.index].notna().mean() < _MOSTLY:
        return None
    month = (pd.to_numeric(quarter, errors="coerce") * 3 - 2).astype("Int64").astype("string")
    return pd.DatetimeIndex(pd.to_datetime(year + "-" + month, format="%Y-%m", errors="coerce"))


def fitting_formats(text: pd.Series) -> str:
    """The formats of strptime that read all cells, as the values of an option; an example where there is none."""
    given = text[text != ""].head(10_000)
    fits = [one for one in _GUESSES if len(given) and pd.to_datetime(given, format=one, errors="coerce").notna().all()]
    return " or ".join(f"'{one}'" for one in fits[:2]) or "such as '%d/%m/%Y %H:%M'"
