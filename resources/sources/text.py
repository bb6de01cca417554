"""A text table, plain or gzipped, as a Parquet file of text: nothing interpreted, no row lost.

Streamed, so a large file needs little memory. A line with too many or too few cells stays, as text, beside the rows.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from resources.errors import CandlecastError
from resources.sources.protocol import ROW, UNPARSED

SEPARATORS = (",", ";", "\t", "|")
# What Excel writes before the header, and reads, where the separator is not its own.
_SEPARATOR_SAID = re.compile(r'"?sep=([^\w\s"]|\t)"?[ ,;|\t]*$', re.IGNORECASE)
BLOCK_BYTES = 4 << 20
# A gzip of prices is 3 to 10 times smaller than its text. Beyond this it is no table of prices.
MOST_EXPANSION, FREE_BYTES = 100, 64 << 20
MOST_BROKEN_LINES = 10_000
# In place of a line that leaves a quote open: one cell, and so no row.
STAND_IN = "\0line that leaves a quote open "
_BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def text_to_parquet(file: Path, into: Path, name: str) -> None:
    """Write the table in `file` to the Parquet file `into`, every cell as text.

    Raises:
        CandlecastError: empty, no header, a header twice, not UTF-8 or UTF-16, or a gzip that expands beyond reason.
    """
    encoding, header_line, skipped, is_all, said = _open_header(file, name)
    separator = said or max(SEPARATORS, key=header_line.count)
    cells = [cell.strip() for cell in next(csv.reader([header_line], delimiter=separator))]
    # As pandas calls it: DuckDB would make a name of its own.
    header = [cell or f"Unnamed: {place}" for place, cell in enumerate(cells)]
    if cells.count("") > 1:
        raise CandlecastError(f"{name}: more than one column has no name: name them in the first line")
    _check_header(header, name)
    if is_all:
        _write([], into, header, skipped, [])
        return
    try:
        try:
            with _decoded(file, encoding, name) as stream:
                _parse(stream, into, header, skipped, separator, [])
        except (_GoesOnError, pa.ArrowInvalid):
            # A quote that is not closed takes every line up to the next quote into its cell. So every line is read by
            # itself, which is slower.
            opened: list[str] = []
            with _decoded(file, encoding, name) as stream:
                lines = io.BufferedReader(_Chunks(_lines_alone(stream, separator, opened)))
                _parse(lines, into, header, skipped, separator, opened)
    except (_GoesOnError, pa.ArrowInvalid, UnicodeError, EOFError, gzip.BadGzipFile, csv.Error) as error:
        raise CandlecastError(
            f"{name}: cannot be read as a text table: {_short(error)}. Export it again as UTF-8 CSV, or as Parquet"
        ) from error


class _GoesOnError(Exception):
    """A cell goes on beyond its line."""


def _parse(stream: BinaryIO, into: Path, header: list[str], skipped: int, separator: str, opened: list[str]) -> None:
    """Write what a stream of UTF-8 holds.

    Args:
        skipped: lines up to the header, it included.
        opened: lines that `_lines_alone` took out.

    Raises:
        _GoesOnError: a cell goes on beyond its line.
    """
    broken: list[tuple[int | None, str]] = []

    def keep(row: pa.csv.InvalidRow) -> str:
        text = row.text
        if text.startswith(STAND_IN):
            text = opened[int(text.removeprefix(STAND_IN))]
        elif "\n" in text or "\r" in text:
            return "error"
        broken.append((row.number, text))
        return "error" if len(broken) > MOST_BROKEN_LINES else "skip"

    reader = pa.csv.open_csv(
        stream,
        read_options=pa.csv.ReadOptions(
            column_names=header, skip_rows=skipped, block_size=BLOCK_BYTES, use_threads=False
        ),
        parse_options=pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True, invalid_row_handler=keep),
        convert_options=pa.csv.ConvertOptions(
            column_types={column: pa.string() for column in header}, null_values=[], strings_can_be_null=False
        ),
    )
    _write(_on_one_line(reader), into, header, skipped, broken)


def _on_one_line(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for cells in batch.columns:
            if any(pc.any(pc.match_substring(cells, end)).as_py() for end in "\n\r"):
                raise _GoesOnError("a cell goes on beyond its line: close its quote")
        yield batch


def _lines_alone(stream: BinaryIO, separator: str, opened: list[str]) -> Generator[bytes]:
    """The text, with a stand-in of one cell for every line that leaves a quote open; those go to `opened`."""
    rest = f"[^{re.escape(separator)}]*"
    cell = rf'(?:"(?:[^"]|"")*"(?!"){rest}|(?!"){rest})'
    closed = re.compile(f"{cell}(?:{re.escape(separator)}{cell})*")
    with io.TextIOWrapper(stream, encoding="utf-8") as text:
        while lines := text.readlines(1 << 18):
            for place, line in enumerate(lines):
                if '"' in line and not closed.fullmatch(line.rstrip("\n")):
                    lines[place] = f"{STAND_IN}{len(opened)}\n"
                    opened.append(line.rstrip("\n"))
            yield "".join(lines).encode()


def _write(
    reader: Iterable[pa.RecordBatch],
    into: Path,
    header: list[str],
    skipped: int,
    broken: list[tuple[int | None, str]],
) -> None:
    """All rows with their numbers, and the lines that are no rows at the end."""
    fields = [pa.field(column, pa.string()) for column in header]
    wide = pa.schema([*fields, pa.field(ROW, pa.int64()), pa.field(UNPARSED, pa.string())])
    done = 0
    with pa.parquet.ParquetWriter(into, wide, compression="zstd", compression_level=1) as writer:
        for batch in reader:
            rows = _numbers(done, batch.num_rows, [number - skipped for number, _ in broken if number is not None])
            done = int(rows[-1]) if len(rows) else done
            columns = [*batch.columns, pa.array(rows), pa.nulls(batch.num_rows, pa.string())]
            writer.write_batch(pa.record_batch(columns, schema=wide))
        if not broken:
            return
        cells = [pa.nulls(len(broken), pa.string())] * len(header)
        numbers = [
            number - skipped if number is not None else done + place for place, (number, _) in enumerate(broken, 1)
        ]
        rows = pa.array(numbers, pa.int64())
        writer.write_batch(pa.record_batch([*cells, rows, pa.array([text for _, text in broken])], schema=wide))


def _numbers(done: int, count: int, broken: list[int]) -> np.ndarray:
    """The row numbers of the next `count` good rows, between the broken ones."""
    rows = np.arange(done + 1, done + count + len(broken) + 1)
    return rows[~np.isin(rows, np.asarray(broken))][:count] if broken else rows


def _open_header(file: Path, name: str) -> tuple[str, str, int, bool, str]:
    """The encoding, the first line of the table, its number, whether that is all there is, and the separator if a line
    before it says one."""
    try:
        with _raw(file, name) as stream:
            beginning = stream.read(1 << 20)
    except (EOFError, gzip.BadGzipFile) as error:
        raise CandlecastError(f"{name}: a broken gzip file: {_short(error)}. Copy it again") from error
    if not beginning.strip(b"\0 \r\n\t\xef\xbb\xbf\xff\xfe"):
        raise CandlecastError(f"{name}: the file is empty. Remove it, or copy it again")
    encoding = next((codec for mark, codec in _BYTE_ORDER_MARKS if beginning.startswith(mark)), "utf-8")
    try:
        text = io.TextIOWrapper(io.BytesIO(beginning), encoding=encoding, newline=None)
        header, skipped, separator = text.readline(), 1, ""
        while header and (not header.strip() or (not separator and _SEPARATOR_SAID.match(header))):
            said = _SEPARATOR_SAID.match(header)
            separator = said[1] if said else separator
            header, skipped = text.readline(), skipped + 1
        is_all = not text.read(1)
    except UnicodeError as error:
        raise CandlecastError(f"{name}: its beginning is not {encoding}: save the file as UTF-8") from error
    if not header:
        raise CandlecastError(f"{name}: the file is empty but for its separator. Remove it, or copy it again")
    return encoding, header.rstrip("\n"), skipped, is_all, separator


def _check_header(header: list[str], name: str) -> None:
    named = [column.lower() for column in header]
    twice = sorted({column for column in named if named.count(column) > 1})
    if twice:
        raise CandlecastError(f"{name}: the header has {twice[0]!r} more than once: rename or remove one of them")
    if {ROW, UNPARSED} & set(header):
        raise CandlecastError(f"{name}: the column names {ROW} and {UNPARSED} are taken: rename them")
    if sum(_is_number(cell) for cell in named) > len(named) / 2:
        raise CandlecastError(f"{name}: the first line holds numbers, not names: add a header line")


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", ""))
    except ValueError:
        return False
    return True


def _raw(file: Path, name: str) -> BinaryIO:
    if file.suffix.lower() != ".gz":
        return file.open("rb")
    most = max(FREE_BYTES, MOST_EXPANSION * file.stat().st_size)
    return io.BufferedReader(_Limited(gzip.open(file, "rb"), most, name), 1 << 20)  # type: ignore[arg-type]


def _decoded(file: Path, encoding: str, name: str) -> BinaryIO:
    raw = _raw(file, name)
    if encoding == "utf-8":
        return raw
    text = io.TextIOWrapper(raw, encoding=encoding, newline="")
    return io.BufferedReader(_Chunks(_as_utf_8(text)))


def _as_utf_8(text: io.TextIOWrapper) -> Generator[bytes]:
    with text:
        while chunk := text.read(1 << 18):
            yield chunk.encode()


class _Limited(io.RawIOBase):
    """A stream that refuses to give more than `most` bytes."""

    def __init__(self, stream: gzip.GzipFile, most: int, name: str) -> None:
        self.stream, self.most, self.name, self.given = stream, most, name, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        read = self.stream.readinto(buffer)
        self.given += read
        if self.given > self.most:
            raise CandlecastError(
                f"{self.name}: expands to more than {self.most:,} bytes, {MOST_EXPANSION} times its size: no table of "
                "prices does. If it is one, give it as Parquet"
            )
        return read

    def close(self) -> None:
        self.stream.close()
        super().close()


class _Chunks(io.RawIOBase):
    """A stream of chunks of bytes."""

    def __init__(self, chunks: Generator[bytes]) -> None:
        self.chunks, self.left = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self.left:
            self.left = next(self.chunks, b"")
        given = self.left[: len(buffer)]
        buffer[: len(given)] = given
        self.left = self.left[len(given) :]
        return len(given)

    def close(self) -> None:
        self.chunks.close()
        super().close()


def _short(error: BaseException) -> str:
    return str(error).splitlines()[0][:200]
