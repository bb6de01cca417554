"""Tables of series from CSV (also .csv.gz) and Parquet files. Cells of a CSV are text until their role is known."""

from __future__ import annotations

import csv
import gzip
import warnings
from pathlib import Path

import pandas as pd

from resources.errors import CandlecastError

_SEPARATORS = ",;\t|"
_PARQUET = (".parquet", ".pq")


def read_table(file: Path) -> pd.DataFrame:
    """The rows of a file; a CSV's cells as text, empty where they are.

    Raises:
        CandlecastError: the file is missing, empty, or cannot be parsed.
    """
    if file.is_dir():
        raise CandlecastError(f"{file} is a folder: name a CSV or Parquet file in it")
    if not file.is_file():
        raise CandlecastError(f"{file} does not exist")
    try:
        return pd.read_parquet(file) if file.suffix.lower() in _PARQUET else _csv(file)
    except UnicodeDecodeError as error:
        raise CandlecastError(f"{file}: not valid UTF-8 at byte {error.start}: save it as UTF-8") from None
    except (ValueError, OSError, EOFError) as error:  # pandas' and Arrow's errors are ValueErrors
        raise CandlecastError(f"{file}: cannot be read as a table ({str(error).splitlines()[0][:200]})") from None


def _csv(file: Path) -> pd.DataFrame:
    packed = file.suffix.lower() == ".gz"
    with gzip.open(file, "rt", encoding="utf-8-sig") if packed else file.open(encoding="utf-8-sig") as stream:
        first = stream.readline()
    if not first.strip():
        raise CandlecastError(f"{file}: the file is empty, or its first line is: a header is needed")
    separator = max(_SEPARATORS, key=first.count)
    header = next(csv.reader([first], delimiter=separator))
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise CandlecastError(f"{file}: column {twice[0]!r} occurs more than once in the header: rename one of them")
    _require_no_surplus(file, packed, separator, len(header))
    with warnings.catch_warnings():
        # Surplus cells that are empty.
        warnings.simplefilter("ignore", pd.errors.ParserWarning)
        table = pd.read_csv(
            file,
            sep=separator,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            index_col=False,
            on_bad_lines="error",
        )
    if separator != ",":
        table = table.apply(_decimal_points)
    return table


def _require_no_surplus(file: Path, packed: bool, separator: str, columns: int) -> None:
    """Refuse a row with more cells than the header has, which pandas would drop."""
    with (
        gzip.open(file, "rt", encoding="utf-8-sig", newline="")
        if packed
        else file.open(encoding="utf-8-sig", newline="") as stream
    ):
        rows = csv.reader(stream, delimiter=separator)
        for cells in rows:
            if len(cells) > columns and any(cell.strip() for cell in cells[columns:]):
                raise CandlecastError(
                    f"{file}, line {rows.line_num}: {len(cells)} cells, and the header has {columns} columns: quote "
                    f"cells that hold {separator!r}, or name all columns"
                )


def _decimal_points(cells: pd.Series) -> pd.Series:
    """Decimal commas become points, in a column all of whose numbers have none or a comma."""
    given = cells[cells.str.strip() != ""]
    commas = given.str.fullmatch(r"\s*[+-]?\d+(,\d+)?([eE][+-]?\d+)?\s*")
    return cells.str.replace(",", ".", regex=False) if len(given) and commas.all() else cells
