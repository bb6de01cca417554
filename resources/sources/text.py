"""Conversion of a text table (CSV, TSV, optionally gzipped) to a Parquet file with all cells as text.

The file is streamed, so memory does not grow with its size. A line with too many or too few cells is kept as text in
the column `UNPARSED`.
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
# Excel's line before the header that declares the separator.
_SEPARATOR_LINE = re.compile(r'"?sep=([^\w\s"]|\t)"?[ ,;|\t]*$', re.IGNORECASE)
BLOCK_BYTES = 4 << 20
# Compressed prices are 3 to 10 times smaller than their text. A larger ratio is not a table of prices.
MOST_EXPANSION, FREE_BYTES = 100, 64 << 20
MOST_BROKEN_LINES = 10_000
# Replaces a line with an unclosed quote: a single cell, so it is not parsed as a row.
PLACEHOLDER = "\0line that leaves a quote open "
_BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def text_to_parquet(file: Path, into: Path, name: str) -> None:
    """Write the table in `file` to the Parquet file `into`, every cell as text.

    Raises:
        CandlecastError: empty, no header, duplicate columns, not UTF-8 or UTF-16, or a gzip file that expands too much.
    """
    encoding, header_line, skipped, header_only, declared = _open_header(file, name)
    separator = declared or max(SEPARATORS, key=header_line.count)
    cells = [cell.strip() for cell in next(csv.reader([header_line], delimiter=separator))]
    # The name that pandas gives a column without one.
    header = [cell or f"Unnamed: {place}" for place, cell in enumerate(cells)]
    if cells.count("") > 1:
        raise CandlecastError(f"{name}: more than one column has no name: add names to the header")
    _check_header(header, name)
    if header_only:
        _write([], into, header, skipped, [])
        return
    try:
        try:
            with _decoded(file, encoding, name) as stream:
                _parse(stream, into, header, skipped, separator, [])
        except (_MultilineCellError, pa.ArrowInvalid):
            # An unclosed quote takes all lines up to the next quote into its cell. Parse line by line, which is slower.
            opened: list[str] = []
            with _decoded(file, encoding, name) as stream:
                lines = io.BufferedReader(_Chunks(_lines_alone(stream, separator, opened)))
                _parse(lines, into, header, skipped, separator, opened)
    except (_MultilineCellError, pa.ArrowInvalid, UnicodeError, EOFError, gzip.BadGzipFile, csv.Error) as error:
        raise CandlecastError(
            f"{name}: cannot be parsed as a text table ({_short(error)}): export it again as UTF-8 CSV, or as Parquet"
        ) from error


class _MultilineCellError(Exception):
    """A cell contains a line break."""


def _parse(stream: BinaryIO, into: Path, header: list[str], skipped: int, separator: str, opened: list[str]) -> None:
    """Parse a UTF-8 stream and write it.

    Args:
        skipped: lines up to and including the header.
        opened: lines that `_lines_alone` replaced.

    Raises:
        _MultilineCellError: a cell contains a line break.
    """
    broken: list[tuple[int | None, str]] = []

    def keep(row: pa.csv.InvalidRow) -> str:
        text = row.text
        if text.startswith(PLACEHOLDER):
            text = opened[int(text.removeprefix(PLACEHOLDER))]
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
                raise _MultilineCellError("a cell contains a line break: close its quote")
        yield batch


def _lines_alone(stream: BinaryIO, separator: str, opened: list[str]) -> Generator[bytes]:
    """The text with a placeholder for every line with an unclosed quote; those lines are added to `opened`."""
    rest = f"[^{re.escape(separator)}]*"
    cell = rf'(?:"(?:[^"]|"")*"(?!"){rest}|(?!"){rest})'
    closed = re.compile(f"{cell}(?:{re.escape(separator)}{cell})*")
    with io.TextIOWrapper(stream, encoding="utf-8") as text:
        while lines := text.readlines(1 << 18):
            for place, line in enumerate(lines):
                if '"' in line and not closed.fullmatch(line.rstrip("\n")):
                    lines[place] = f"{PLACEHOLDER}{len(opened)}\n"
                    opened.append(line.rstrip("\n"))
            yield "".join(lines).encode()


def _write(
    reader: Iterable[pa.RecordBatch],
    into: Path,
    header: list[str],
    skipped: int,
    broken: list[tuple[int | None, str]],
) -> None:
    """Write all rows with their numbers, then the lines that could not be parsed."""
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
    """The numbers of the next `count` valid rows, which skip those of broken lines."""
    rows = np.arange(done + 1, done + count + len(broken) + 1)
    return rows[~np.isin(rows, np.asarray(broken))][:count] if broken else rows


def _open_header(file: Path, name: str) -> tuple[str, str, int, bool, str]:
    """The encoding, the header line, its line number, whether the file ends there, and the declared separator or ""."""
    try:
        with _raw(file, name) as stream:
            beginning = stream.read(1 << 20)
    except (EOFError, gzip.BadGzipFile) as error:
        raise CandlecastError(f"{name}: damaged gzip file ({_short(error)}): copy it again") from error
    if not beginning.strip(b"\0 \r\n\t\xef\xbb\xbf\xff\xfe"):
        raise CandlecastError(f"{name}: the file is empty: remove it, or copy it again")
    encoding = next((codec for mark, codec in _BYTE_ORDER_MARKS if beginning.startswith(mark)), "utf-8")
    try:
        text = io.TextIOWrapper(io.BytesIO(beginning), encoding=encoding, newline=None)
        header, skipped, separator = text.readline(), 1, ""
        while header and (not header.strip() or (not separator and _SEPARATOR_LINE.match(header))):
            declared = _SEPARATOR_LINE.match(header)
            separator = declared[1] if declared else separator
            header, skipped = text.readline(), skipped + 1
        header_only = not text.read(1)
    except UnicodeError as error:
        raise CandlecastError(f"{name}: not valid {encoding}: save the file as UTF-8") from error
    if not header:
        raise CandlecastError(f"{name}: the file contains only a separator line: remove it, or copy it again")
    return encoding, header.rstrip("\n"), skipped, header_only, separator


def _check_header(header: list[str], name: str) -> None:
    named = [column.lower() for column in header]
    twice = sorted({column for column in named if named.count(column) > 1})
    if twice:
        raise CandlecastError(
            f"{name}: column {twice[0]!r} occurs more than once in the header: rename or remove one of them"
        )
    if {ROW, UNPARSED} & set(header):
        raise CandlecastError(f"{name}: the column names {ROW} and {UNPARSED} are reserved: rename these columns")
    if sum(_is_number(cell) for cell in named) > len(named) / 2:
        raise CandlecastError(f"{name}: the first line contains numbers, not column names: add a header line")


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
    return io.BufferedReader(_Limited(gzip.open(file, "rb"), most, name), 1 << 20)


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
    """A stream that raises an error after `most` bytes."""

    def __init__(self, stream: gzip.GzipFile, most: int, name: str) -> None:
        self.stream, self.most, self.name, self.given = stream, most, name, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        read = self.stream.readinto(buffer)
        self.given += read
        if self.given > self.most:
            raise CandlecastError(
                f"{self.name}: expands to more than {self.most:,} bytes, {MOST_EXPANSION} times its size, which "
                "a table of prices does not: if it is one, convert it to Parquet"
            )
        return read

    def close(self) -> None:
        self.stream.close()
        super().close()


class _Chunks(io.RawIOBase):
    """A stream over chunks of bytes."""

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
