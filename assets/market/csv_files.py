"""CSV files that the settings name: members of the universe, known events, groups of symbols. Not here: bars."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from resources.errors import CandlecastError

# The place of a row, such as "row 3", and its values by column.
Row = tuple[str, Mapping[str, object]]


def utf8_text(file: Path, name: str) -> str:
    """The text of a file, without a byte order mark.

    Raises:
        CandlecastError: it is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeError as error:
        raise CandlecastError(f"{name}: not UTF-8 ({error}): save the file as UTF-8") from None


def csv_rows(file: Path, name: str) -> tuple[list[str], list[Row]]:
    """The header of a CSV file, and its rows with their places.

    Raises:
        CandlecastError: the file does not exist, is not UTF-8, or a row has too few or too many cells.
    """
    if not file.is_file():
        raise CandlecastError(f"{name}: the file does not exist")
    with io.StringIO(utf8_text(file, name), newline="") as stream:
        reader = csv.DictReader(stream)
        header = [str(column).strip() for column in reader.fieldnames or []]
        reader.fieldnames = header
        rows: list[Row] = [(f"row {number}", row) for number, row in enumerate(reader, 1)]
    for where, row in rows:
        if None in row or None in row.values():
            raise CandlecastError(f"{name}, {where}: not as many cells as the header has columns ({len(header)})")
    return header, rows
