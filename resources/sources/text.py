"""Conversion of a text table (CSV, TSV, optionally gzipped) to a Parquet file with all cells as text.

The file is streamed, so memory does not grow with its size. A line with too many or too few cells is kept as text in
the column `UNPARSED`.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from resources.errors import CandlecastError
from resources.sources.protocol import ROW, UNPARSED
from resources.sources.text_header import FIRST_LINES, TextHeader, find_header

BLOCK_BYTES = 4 << 20
# Compressed prices are 3 to 10 times smaller than their text. A larger ratio is not a table of prices.
MOST_EXPANSION, FREE_BYTES = 100, 64 << 20
MOST_BROKEN_LINES = 10_000
# Replaces a line with an unclosed quote: a single cell, so it is not parsed as a row.
PLACEHOLDER = "\0line that leaves a quote open "
_BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def text_to_parquet(file: Path, into: Path, name: str, names: Sequence[str] | None = None) -> None:
    """Write the table in `file` to the Parquet file `into`, every cell as text.

    Args:
        names: of the columns, in order, in place of the file's header.

    Raises:
        CandlecastError: empty, no header, duplicate columns, not UTF-8 or UTF-16, or a gzip file that expands too much.
    """
    encoding, lines = _first_lines(file, name)
    header = find_header(lines, name, names)
    _check_header([*header.columns, *header.constants], name)
    if len(lines) <= header.skipped:
        _write([], into, header, [])
        return
    try:
        try:
            with _decoded(file, encoding, name) as stream:
                _parse(stream, into, header, [])
        except (_MultilineCellError, pa.ArrowInvalid):
            # An unclosed quote takes all lines up to the next quote into its cell. Parse line by line, which is slower.
            opened: list[str] = []
            with _decoded(file, encoding, name) as stream:
                alone = io.BufferedReader(_Chunks(_lines_alone(stream, header.separator, opened)))
                _parse(alone, into, header, opened)
    except (_MultilineCellError, pa.ArrowInvalid, UnicodeError, EOFError, gzip.BadGzipFile, csv.Error) as error:
        raise CandlecastError(
            f"{name}: cannot be parsed as a text table ({_short(error)}): export it again as UTF-8 CSV, or as Parquet"
        ) from error


class _MultilineCellError(Exception):
    """A cell contains a line break."""


def _parse(stream: BinaryIO, into: Path, header: TextHeader, opened: list[str]) -> None:
    """Parse a UTF-8 stream and write it.

    Args:
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
            column_names=header.columns, skip_rows=header.skipped, block_size=BLOCK_BYTES, use_threads=False
        ),
        parse_options=pa.csv.ParseOptions(
            delimiter=header.separator, newlines_in_values=True, invalid_row_handler=keep
        ),
        convert_options=pa.csv.ConvertOptions(
            column_types={column: pa.string() for column in header.columns}, null_values=[], strings_can_be_null=False
        ),
    )
    _write(_on_one_line(reader), into, header, broken)


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
    reader: Iterable[pa.RecordBatch], into: Path, header: TextHeader, broken: list[tuple[int | None, str]]
) -> None:
    """Write all rows with their numbers, then the lines that could not be parsed."""
    skipped, constants = header.skipped, header.constants
    fields = [pa.field(column, pa.string()) for column in (*header.columns, *constants)]
    wide = pa.schema([*fields, pa.field(ROW, pa.int64()), pa.field(UNPARSED, pa.string())])
    done = 0
    with pa.parquet.ParquetWriter(into, wide, compression="zstd", compression_level=1) as writer:
        for batch in reader:
            count = batch.num_rows
            rows = _numbers(done, count, [number - skipped for number, _ in broken if number is not None])
            done = int(rows[-1]) if len(rows) else done
            same = [pa.array([value] * count, pa.string()) for value in constants.values()]
            columns = [*batch.columns, *same, pa.array(rows), pa.nulls(count, pa.string())]
            writer.write_batch(pa.record_batch(columns, schema=wide))
        if not broken:
            return
        cells = [pa.nulls(len(broken), pa.string())] * len(fields)
        numbers = [
            number - skipped if number is not None else done + place for place, (number, _) in enumerate(broken, 1)
        ]
        rows = pa.array(numbers, pa.int64())
        writer.write_batch(pa.record_batch([*cells, rows, pa.array([text for _, text in broken])], schema=wide))


def _numbers(done: int, count: int, broken: list[int]) -> np.ndarray:
    """The numbers of the next `count` valid rows, which skip those of broken lines."""
    rows = np.arange(done + 1, done + count + len(broken) + 1)
    return rows[~np.isin(rows, np.asarray(broken))][:count] if broken else rows


def _first_lines(file: Path, name: str) -> tuple[str, list[str]]:
    """The encoding and the first lines, without their ends."""
    try:
        with _raw(file, name) as stream:
            beginning = stream.read(1 << 20)
    except (EOFError, gzip.BadGzipFile) as error:
        raise CandlecastError(f"{name}: damaged gzip file ({_short(error)}): copy it again") from error
    if not beginning.strip(b"\0 \r\n\t\xef\xbb\xbf\xff\xfe"):
        raise CandlecastError(f"{name}: the file is empty: remove it, or copy it again")
    encoding = next((codec for mark, codec in _BYTE_ORDER_MARKS if beginning.startswith(mark)), "utf-8")
    lines: list[str] = []
    try:
        text = io.TextIOWrapper(io.BytesIO(beginning), encoding=encoding, newline=None)
        while len(lines) < FIRST_LINES and (line := text.readline()):
            lines.append(line.rstrip("\n"))
    except UnicodeError as error:
        # Bytes that only the later lines have are reported when those are parsed.
        if not lines:
            raise CandlecastError(f"{name}: not valid {encoding}: save the file as UTF-8") from error
    return encoding, lines


def _check_header(header: list[str], name: str) -> None:
    named = [column.lower() for column in header]
    twice = sorted({column for column in named if named.count(column) > 1})
    if twice:
        raise CandlecastError(
            f"{name}: column {twice[0]!r} occurs more than once in the header: rename or remove one of them"
        )
    if {ROW, UNPARSED} & set(header):
        raise CandlecastError(f"{name}: the column names {ROW} and {UNPARSED} are reserved: rename these columns")


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
