"""Bars in your own files: CSV, compressed CSV or Parquet, one file or many.

A file is identified by its path relative to the settings file: the same path with other content is a revision. A file
elsewhere is named by its path below the folders that the glob spells out, which say where somebody keeps data.
"""

from __future__ import annotations

import glob
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from resources.disclosure import shown_path
from resources.errors import CandlecastError
from resources.publish import copy_file
from resources.sources.file_symbols import symbol_of
from resources.sources.protocol import ROW, UNPARSED, Reading, Request, Wanted

if TYPE_CHECKING:
    import pyarrow.parquet

TEXT_ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")
PARQUET_ENDINGS = (".parquet", ".pq")
ENDINGS = (*TEXT_ENDINGS, *PARQUET_ENDINGS)
KEY = "files:"
# Bars take a byte per row at the very least; equal rows compress to next to nothing and would fill the memory.
MAX_ROWS_PER_BYTE = 2
MAX_ROWS_UNCHECKED = 1_000_000
MAX_COLUMNS = 1_000


@dataclass(frozen=True)
class FilesSource:
    """Files that match a glob.

    Args:
        path: the glob; a relative one is relative to `root`.
    """

    path: str
    root: Path
    reading: Reading
    name: str = "files"
    by_range: bool = False

    def plan(self, wanted: Wanted) -> list[Request]:
        """One request per file, in the order of their paths.

        Raises:
            CandlecastError: no file matches.
        """
        # Brackets in the root's name are not part of the pattern; those of an absolute path are.
        pattern = str(Path(glob.escape(str(self.root))) / self.path)
        found = sorted(Path(match) for match in glob.glob(pattern, recursive=True) if Path(match).is_file())  # noqa: PTH207
        files = [file for file in found if ending_of(file) and not file.name.startswith((".", "~"))]
        if not files:
            others = f" ({len(found)} files with other endings match)" if found else ""
            where = "" if Path(self.path).is_absolute() else ", relative to the settings file"
            shown, endings = shown_path(self.path, self.root), ", ".join(ENDINGS)
            raise CandlecastError(f"market.path = {shown!r}: no {endings} file matches{where}{others}")
        return [self.request_of(file) for file in files]

    def request_of(self, file: Path) -> Request:
        """The request for one file."""
        inside = file.is_relative_to(self.root)
        path = file.relative_to(self.root).as_posix() if inside else file.as_posix()
        name = path if inside else file.relative_to(self._fixed_folder).as_posix()
        symbol = symbol_of(path, ending_of(file), self.reading.symbol_from)
        return Request(key=f"{KEY}{path}", file=name, symbol=symbol)

    @property
    def _fixed_folder(self) -> Path:
        """The folder of the glob above its first wildcard."""
        pattern = self.root / self.path
        wild = [folder for folder in pattern.parents if glob.has_magic(folder.name)]
        return wild[-1].parent if wild else pattern.parent

    def vanished(self, held: Sequence[Request]) -> list[Request]:
        return [request for request in held if request.key.startswith(KEY) and not self._file(request).exists()]

    def fingerprint(self, request: Request) -> str:
        if not self._file(request).exists():
            return removal_of(self.reading)
        return file_digest(self._file(request), self.reading)

    def reaches(self, payload: Path) -> date | None:
        return None

    def fetch(self, request: Request, into: Path) -> str:
        file = self._file(request)
        if not file.exists():
            return _write_removal(self.reading, into)
        before = self.fingerprint(request)
        file_to_parquet(file, into, request.file, self.reading.header)
        if self.fingerprint(request) != before:
            raise CandlecastError(f"{request.file}: changed while it was read: wait until it is complete and run again")
        return before

    def _file(self, request: Request) -> Path:
        return self.root / request.key.removeprefix(KEY)


def removal_of(reading: Reading) -> str:
    """The digest of a removed file's payload: no rows, with the columns of the reading."""
    return hashlib.sha256(f"gone: {_columns(reading)}".encode()).hexdigest()


def _write_removal(reading: Reading, into: Path) -> str:
    import pyarrow.parquet

    columns = {name: pyarrow.array([], pyarrow.string()) for name in _columns(reading)}
    pyarrow.parquet.write_table(pyarrow.table(columns), into)
    return removal_of(reading)


def _columns(reading: Reading) -> list[str]:
    ours = ("symbol", "date", "open", "high", "low", "close")
    return [reading.columns.get(name, name) for name in ours] + [
        theirs for name, theirs in sorted(reading.columns.items()) if name not in ours
    ]


def ending_of(file: Path) -> str:
    """The ending of a file name, in its own spelling, if it is one of `ENDINGS`; else empty."""
    found = [ending for ending in ENDINGS if file.name.lower().endswith(ending)]
    return file.name[-len(max(found, key=len)) :] if found else ""


def file_digest(file: Path, reading: Reading) -> str:
    """SHA-256 of a file, and of the names that the settings give its columns: both make its payload."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return hashlib.sha256(f"{digest} {list(reading.header)}".encode()).hexdigest() if reading.header else digest


def file_to_parquet(file: Path, into: Path, name: str, names: Sequence[str] | None = None) -> None:
    """Write a file as Parquet with all columns as received.

    Raises:
        CandlecastError: it cannot be read. The message names the file and the remedy.
    """
    import pyarrow.parquet

    from resources.sources.text import text_to_parquet

    if file.stat().st_size == 0:
        raise CandlecastError(f"{name}: the file is empty: remove it, or copy it again")
    if ending_of(file).lower() in TEXT_ENDINGS:
        text_to_parquet(file, into, name, names)
        _refuse_oversized(pyarrow.parquet.read_metadata(into), file, name)
        return
    try:
        schema = pyarrow.parquet.read_schema(file)
        metadata = pyarrow.parquet.read_metadata(file)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200]
        raise CandlecastError(f"{name}: not a complete Parquet file ({reason}): copy it again") from error
    _refuse_oversized(metadata, file, name)
    taken = sorted({ROW, UNPARSED} & set(schema.names))
    if taken:
        raise CandlecastError(f"{name}: the column name {taken[0]} is reserved: rename or remove the column")
    twice = [column for column, count in Counter(name.lower() for name in schema.names).items() if count > 1]
    if twice:
        raise CandlecastError(f"{name}: column {twice[0]!r} occurs more than once: rename or remove one of them")
    copy_file(file, into)


def _refuse_oversized(metadata: pyarrow.parquet.FileMetaData, file: Path, name: str) -> None:
    """Refuse what no file of bars is and what would take the memory from all others.

    Raises:
        CandlecastError: too many columns, or more rows than so few bytes can hold.
    """
    size, rows, columns = file.stat().st_size, metadata.num_rows, metadata.num_columns
    if columns > MAX_COLUMNS:
        raise CandlecastError(
            f"{name}: {columns:,} columns, more than {MAX_COLUMNS:,}: keep the columns of bars, one row per bar"
        )
    if rows > MAX_ROWS_UNCHECKED and rows > MAX_ROWS_PER_BYTE * size:
        raise CandlecastError(
            f"{name}: {rows:,} rows in {size:,} bytes, which only equal rows can be: write the file again without them"
        )
