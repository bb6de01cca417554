"""The first lines of a text table: title lines, the header, headers of several lines, and files without one.

Recognised by content: a line of numbers is no header, and a line of far fewer cells than those that follow is a title.
Not here: which column is which (assets.market.parsing), and the rest of the file (text).
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from resources.errors import CandlecastError

SEPARATORS = (",", ";", "\t", "|")
# Enough for titles and a header of several lines, and for the usual number of cells.
FIRST_LINES = 40
# Excel's line before the header that declares the separator.
_SEPARATOR_LINE = re.compile(r'"?sep=([^\w\s"]|\t)"?[ ,;|\t]*$', re.IGNORECASE)
_BARS = ("open", "high", "low", "close", "volume")
_STAMP = re.compile(r"(19|20)\d{2}([-/.]?)\d{1,2}\2\d{1,2}([ T].*)?|\d{1,2}[-/.]\d{1,2}[-/.](19|20)\d{2}([ T].*)?")
# First cells of the lines of a header that pandas writes for columns of several levels, as yfinance makes them.
_LEVELS = {"price", "attributes", "ticker", "tickers", "symbol", "symbols"}


@dataclass(frozen=True)
class _Vendor:
    """A vendor's files without a header: the pattern of a line, and the names of its columns."""

    name: str
    pattern: re.Pattern[str]
    columns: tuple[str, ...]


# The date column of vendors whose files are in different zones; the file's name may tell which.
UNKNOWN_ZONE = "Date (?)"
_NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
_VENDORS = (
    _Vendor(
        "Binance",
        re.compile(rf"\d{{13,16}}(?:,{_NUMBER}){{5}},\d{{13,16}}(?:,{_NUMBER}){{5}}", re.IGNORECASE),
        (
            *("open_time", *_BARS, "close_time", "quote_volume", "count"),
            *("taker_buy_volume", "taker_buy_quote_volume", "ignore"),
        ),
    ),
    _Vendor("Kraken", re.compile(rf"\d{{10}}(?:,{_NUMBER}){{5}},\d+"), ("timestamp", *_BARS, "trades")),
    _Vendor("HistData or NinjaTrader", re.compile(rf"\d{{8}} \d{{6}}(?:;{_NUMBER}){{5}}"), (UNKNOWN_ZONE, *_BARS)),
    _Vendor("Lean", re.compile(rf"\d{{8}} \d{{2}}:\d{{2}}(?:,{_NUMBER}){{5}}"), ("date", *_BARS)),
    _Vendor(
        "MetaTrader",
        re.compile(rf"\d{{4}}\.\d{{2}}\.\d{{2}},\d{{2}}:\d{{2}}(?::\d{{2}})?(?:,{_NUMBER}){{5}}"),
        (UNKNOWN_ZONE, "time", *_BARS),
    ),
    _Vendor(
        "Stooq",
        re.compile(rf"[^,]+,\w{{1,3}},\d{{8}},\d{{6}}(?:,{_NUMBER}){{6}}"),
        ("ticker", "per", "date", "time", *_BARS, "openint"),
    ),
)


@dataclass(frozen=True)
class TextHeader:
    """The columns of a text table.

    Attributes:
        columns: names in the order of the cells.
        skipped: lines before the first row.
        separator: between cells.
        constants: columns that the header holds one value of, such as the symbol of all rows.
    """

    columns: list[str]
    skipped: int
    separator: str
    constants: Mapping[str, str] = field(default_factory=dict)


def find_header(lines: Sequence[str], name: str, configured: Sequence[str] | None) -> TextHeader:
    """The columns of a file, from its first lines.

    Args:
        configured: `market.header`: the names of the columns; they replace the file's header, if it has one.

    Raises:
        CandlecastError: the file has no header, or one that cannot be used. The message names the setting.
    """
    start, declared = 0, ""
    while start < len(lines) and (not lines[start].strip() or _SEPARATOR_LINE.match(lines[start])):
        found = _SEPARATOR_LINE.match(lines[start])
        declared = declared or (found[1] if found else "")
        start += 1
    if start == len(lines):
        raise CandlecastError(
            f"{name}: the file is empty, or holds a separator line and no header: remove it, or copy it again"
        )
    if configured:
        return _configured(lines, start, declared, name, configured)
    while _is_title(lines[start], lines[start + 1 :], declared):
        start += 1
    separator = declared or _separator(lines[start], lines[start + 1 :])
    cells = _cells(lines[start], separator)
    if _is_data(cells):
        return _of_vendor(lines[start], start, separator, len(cells), name)
    levels = _levels(lines[start:], separator)
    if len(levels) > 1:
        return _of_levels(levels, start, separator, name)
    if cells.count("") > 1:
        raise CandlecastError(f"{name}: more than one column has no name: add names to the header")
    # The name that pandas gives a column without one.
    named = [cell or f"Unnamed: {place}" for place, cell in enumerate(cells)]
    return TextHeader(named, start + 1, separator)


def _configured(lines: Sequence[str], start: int, declared: str, name: str, configured: Sequence[str]) -> TextHeader:
    """The configured names, and the first line of data below whatever titles and header the file has."""
    width = len(configured)
    for separator in (declared,) if declared else SEPARATORS:
        for place in range(start, len(lines)):
            cells = _cells(lines[place], separator)
            if len(cells) == width and _is_data(cells):
                return TextHeader(list(configured), place, separator)
    counts = sorted({len(_cells(lines[-1], separator)) for separator in SEPARATORS}, reverse=True)
    raise CandlecastError(
        f"{name}: market.header names {width} columns, and no line of numbers has {width} cells (the last of the first "
        f"lines has {counts[0]}): name all columns in order, or unset market.header"
    )


def _is_title(line: str, following: Sequence[str], declared: str) -> bool:
    filled = [other for other in following if other.strip()]
    if not filled:
        return False
    if not line.strip():
        return True
    separator, width = _usual_width(filled, declared)
    return width >= 4 and 2 * len(_cells(line, separator)) <= width


def _separator(line: str, following: Sequence[str]) -> str:
    """The separator of the header; of a line of numbers, which may have decimal commas, that of most lines."""
    best = max(SEPARATORS, key=line.count)
    return _usual_width([line, *following], "")[0] if _is_data(_cells(line, best)) else best


def _usual_width(lines: Sequence[str], declared: str) -> tuple[str, int]:
    """The separator with which most lines have the same number of cells, above one, and that number."""
    best, most = (declared or SEPARATORS[0], 1), (0, 0)
    for separator in (declared,) if declared else SEPARATORS:
        width, count = Counter(len(_cells(line, separator)) for line in lines if line.strip()).most_common(1)[0]
        if width > 1 and (count, width) > most:
            best, most = (separator, width), (count, width)
    return best


def _cells(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error:
        return [line]


def _is_data(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell]
    return sum(_is_number(cell) or bool(_STAMP.fullmatch(cell)) for cell in filled) > len(filled) / 2


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", ""))
    except ValueError:
        return False
    return True


def _of_vendor(line: str, skipped: int, separator: str, width: int, name: str) -> TextHeader:
    for vendor in _VENDORS:
        if vendor.pattern.fullmatch(line.strip()):
            return TextHeader(list(vendor.columns), skipped, separator)
    raise CandlecastError(
        f"{name}: the first line contains numbers, not column names: add a header line, or name its {width} columns in "
        'order in the settings, such as [profiles.NAME.market] header = ["date", "open", "high", "low", "close", '
        '"volume"]'
    )


def _levels(lines: Sequence[str], separator: str) -> list[list[str]]:
    """The lines of a header of several levels, down to the line that names the index; else the first line alone."""
    rows = [_cells(line, separator) for line in lines[:4]]
    # "symbol" alone is the first column of many files; two such lines are levels.
    if len(rows) < 2 or not {rows[0][0].lower(), rows[1][0].lower()} <= _LEVELS:
        return rows[:1]
    for count, row in enumerate(rows[1:], 1):
        if len(row) != len(rows[0]) or _is_data(row):
            return rows[:count]
        if not any(row[1:]):
            return rows[: count + 1]
    return rows[:1]


def _of_levels(levels: Sequence[list[str]], start: int, separator: str, name: str) -> TextHeader:
    index = next((row[0] for row in levels if not any(row[1:])), "Date")
    named = [row for row in levels if any(row[1:])]
    fields = next((row for row in named if "close" in (cell.lower() for cell in row[1:])), named[0])
    constants = {}
    for row in named:
        values = set(row[1:])
        if row is fields:
            continue
        if len(values) > 1:
            raise CandlecastError(
                f"{name}: the header has {len(levels)} lines, with several symbols side by side "
                f"({', '.join(sorted(values)[:3])}): write one row per symbol and date, such as "
                "DataFrame.stack(level='Ticker').reset_index(), or one file per symbol"
            )
        constants[row[0]] = values.pop()
    return TextHeader([index, *fields[1:]], start + len(levels), separator, constants)
