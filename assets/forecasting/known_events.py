"""The table of known events that `chronos2.events` names: its values by symbol and session.

A CSV file, or a table of the warehouse, with the columns date, optionally symbol, and one per covariate. A day without
a row has no value in a column of numbers, and the category "" in a column of text.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from pathlib import Path

import numpy as np

from assets.forecasting.chronos2.sources import IN_WAREHOUSE
from assets.market.csv_files import Row, csv_rows
from assets.market.selection import stored_symbol
from resources.disclosure import shown_path
from resources.errors import CandlecastError
from resources.publish import digest_of
from resources.settings import Settings
from resources.warehouse import Warehouse

EVERY_SYMBOL = ""
# A part of the digest: weights that were fitted to other numbers of the same categories are not used.
CATEGORY_ORDER = "by first day"


@dataclass(frozen=True)
class EventTable:
    """The events of a table.

    Attributes:
        name: how messages name it.
        numeric: the columns of numbers; the others are of text.
        categories: the values of each column of text: "", then by the day of the first row and by name. A later row
            changes the place of no earlier category.
        rows: by symbol (or EVERY_SYMBOL) and day, the value of each column.
    """

    name: str
    numeric: frozenset[str]
    categories: Mapping[str, tuple[str, ...]]
    rows: Mapping[tuple[str, date], Mapping[str, float | str]]

    def values(self, column: str, symbol: str, days: np.ndarray) -> np.ndarray:
        """A column on some days, (n,): float64 with NaN, or the number of the category as intp.

        A symbol's own row counts before one of every symbol.
        """
        if (column, symbol) not in self._columns:
            self._columns[column, symbol] = self._column(column, symbol)
        known, values = self._columns[column, symbol]
        place = np.minimum(np.searchsorted(known, days), len(known) - 1)
        absent = np.nan if column in self.numeric else self.categories[column].index("")
        found: np.ndarray = np.where(known[place] == days, values[place], absent)
        return found

    def last_day(self, symbol: str) -> date:
        """The last day that the table covers for a symbol; `date.min`: it has no row of it."""
        return max(self._last_days.get(owner, date.min) for owner in (symbol, EVERY_SYMBOL))

    def digest(self, last: date = date.max) -> str:
        """A digest of the rows up to a day, and of the order of their categories; default: of all rows."""
        rows = [[*key, dict(row)] for key, row in sorted(self.rows.items()) if key[1] <= last]
        # A table of numbers alone keeps the digest that it had before categories were in order of their first day.
        return digest_of([*rows, CATEGORY_ORDER] if self.categories else rows)

    @cached_property
    def _last_days(self) -> dict[str, date]:
        # In the order of days, so that the last one of each symbol remains.
        return dict(sorted(self.rows, key=lambda key: key[1]))

    @cached_property
    def _columns(self) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
        return {}

    def _column(self, column: str, symbol: str) -> tuple[np.ndarray, np.ndarray]:
        """The days that have a value, and the values; at least one day, as places are looked up in them."""
        merged: dict[date, float | str] = {}
        for wanted in dict.fromkeys((EVERY_SYMBOL, symbol)):
            merged |= {day: row[column] for (owner, day), row in self.rows.items() if owner == wanted and column in row}
        days = np.array([date.min, *sorted(merged)], dtype="datetime64[D]")
        if column in self.numeric:
            return days, np.array([np.nan, *(merged[day] for day in sorted(merged))], dtype=np.float64)
        number = {category: place for place, category in enumerate(self.categories[column])}
        return days, np.array([number[""], *(number[str(merged[day])] for day in sorted(merged))], dtype=np.intp)


def read_events(settings: Settings, columns: Sequence[str]) -> EventTable:
    """Some columns of the table that `chronos2.events` names.

    Raises:
        CandlecastError: the table or a column does not exist; a day is invalid or has two rows; a value is infinite, or
            no number in a column of numbers.
    """
    named = str(settings.chronos2.events)
    name = f"chronos2.events = {shown_path(named, settings.root)}"
    if named.startswith(IN_WAREHOUSE):
        header, rows = _warehouse_rows(Warehouse.of(settings), named.removeprefix(IN_WAREHOUSE), name)
    else:
        header, rows = csv_rows(settings.root / named, name)
    missing = sorted({"date", *columns} - set(header))
    if missing:
        raise CandlecastError(f"{name}: column {', '.join(missing)} is missing; it has {', '.join(header)}")
    numbers = {column: _as_numbers(rows, column, name) for column in columns}
    table: dict[tuple[str, date], dict[str, float | str]] = {}
    for place, (where, row) in enumerate(rows):
        key = stored_symbol(_text(row.get("symbol"))), _day(row["date"], f"{name}, {where}")
        if key in table:
            raise CandlecastError(
                f"{name}, {where}: a second row of {key[1]}{f' and {key[0]}' if key[0] else ''}; write one row, with a "
                "category for both events, or two columns"
            )
        values = {c: numbers[c][place] if numbers[c] else _text(row[c]) for c in columns}
        # An empty cell is no value: a symbol's own row does not hide that of every symbol.
        table[key] = {c: v for c, v in values.items() if v not in ("", None)}
    texts = {column: _categories(column, table) for column in columns if not numbers[column]}
    return EventTable(name, frozenset(columns) - set(texts), texts, table)


def export_events(settings: Settings, folder: Path) -> Settings:
    """The settings, with a table of the warehouse as a file in a folder: a training process opens no warehouse."""
    named = str(settings.chronos2.events)
    if not named.startswith(IN_WAREHOUSE):
        return settings
    table = named.removeprefix(IN_WAREHOUSE)
    header, rows = _warehouse_rows(Warehouse.of(settings), table, f"chronos2.events = {named}")
    file = folder / "events.csv"
    folder.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows([_text(row[column]) for column in header] for _, row in rows)
    return settings.model_copy(update={"chronos2": settings.chronos2.model_copy(update={"events": str(file)})})


def _warehouse_rows(warehouse: Warehouse, table: str, name: str) -> tuple[list[str], list[Row]]:
    with warehouse.read() as connection:
        tables = [str(found) for (found,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        if table not in tables:
            raise CandlecastError(f"{name}: the warehouse has no such table; it has {', '.join(sorted(tables))}")
        found = connection.execute('SELECT * FROM "{}"'.format(table.replace('"', '""')))
        header = [str(column[0]) for column in found.description or []]
        values = found.fetchall()
    return header, [(f"row {n}", dict(zip(header, row, strict=True))) for n, row in enumerate(values, 1)]


def _as_numbers(rows: Sequence[Row], column: str, name: str) -> list[float | None]:
    """The numbers of a column, None where it has none; empty: a column of text.

    Raises:
        CandlecastError: some values are numbers and some are not, or one is infinite.
    """
    parsed = list(_parsed(rows, column))
    known = [value for _, text, value in parsed if text and value is not None]
    if not known:
        return []
    for where, text, value in parsed:
        if text and value is None:
            raise CandlecastError(
                f"{name}, {where}: {column} = {text!r} is not a number, as other values of the column are: correct it, "
                "leave it empty, or make all of them text"
            )
        if value is not None and math.isinf(value):
            raise CandlecastError(f"{name}, {where}: {column} = {text} is infinite: correct it, or leave it empty")
    return [None if value is None or math.isnan(value) else value for _, _, value in parsed]


def _categories(column: str, table: Mapping[tuple[str, date], Mapping[str, float | str]]) -> tuple[str, ...]:
    """The values of a column of text, see `EventTable.categories`."""
    by_day = sorted((day, str(row[column])) for (_, day), row in table.items() if column in row)
    return tuple(dict.fromkeys(["", *(category for _, category in by_day)]))


def _parsed(rows: Sequence[Row], column: str) -> Iterator[tuple[str, str, float | None]]:
    for where, row in rows:
        text = _text(row[column])
        try:
            yield where, text, float(text)
        except ValueError:
            yield where, text, None


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _day(value: object, where: str) -> date:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(_text(value))
    except ValueError:
        raise CandlecastError(f"{where}: date = {value!r} is no date: write it as 2012-01-31") from None
