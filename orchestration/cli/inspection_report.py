"""The result of `candlecast inspect`, as text and as JSON values.

Not here: what is understood of a file, and which settings are right (assets.market.ingest.inspection).
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.cells import cell_len

from assets.market.ingest.inspection import Inspection
from assets.market.ingest.understanding import ColumnReading, FileReading, StoredRow

_LABEL = 11
_LONGEST_EXAMPLE = 28
_NUMBERS = ("open", "high", "low", "close", "volume", "amount", "dividend", "split")


def as_text(inspection: Inspection, brief: bool = False) -> str:
    """All that is understood of one file, a line per column and per fact; brief: of a file without remarks one line."""
    read = inspection.reading
    if read is None:
        head = f"{inspection.file}: cannot be read"
        return "\n".join([head, *_columns(inspection.columns), *_facts(_messages(inspection))]) + "\n"
    rejected = sum(one.rows for one in read.rejections)
    repeated = read.received - read.accepted - rejected
    head = f"{inspection.file}: {read.received:,} rows, {read.accepted:,} accepted, {rejected:,} rejected" + (
        f", {repeated:,} repeat others" if repeated else ""
    )
    if brief and not (inspection.problems or inspection.warnings or read.rejections):
        return head
    facts = [*_about(read, inspection), *_rejections(read), *_messages(inspection)]
    return "\n".join([head, *_columns(read.columns), *_facts(facts)]) + "\n"


def as_json(inspection: Inspection) -> dict[str, Any]:
    """The same as JSON values."""
    read = inspection.reading
    values: dict[str, Any] = {
        "file": inspection.file,
        "ok": not inspection.problems,
        "problems": list(inspection.problems),
        "warnings": list(inspection.warnings),
        "notes": list(inspection.notes),
        "settings": dict(inspection.settings),
        "columns": [asdict(column) for column in (read.columns if read else inspection.columns)],
    }
    if read is None:
        return values
    facts = asdict(read)
    kept = ("symbol_rule", "stamp", "basis", "actions", "received", "accepted", "symbols", "sessions", "first", "last")
    rejections = [{**asdict(one), "reason": one.reason} for one in read.rejections]
    return {**values, **{name: facts[name] for name in kept}, "ignored": list(read.ignored), "rejections": rejections}


def _columns(columns: Sequence[ColumnReading]) -> Iterator[str]:
    rows = [(one.name, one.role or "ignored", _short(one.example), _remarks(one)) for one in columns]
    widths = [max((cell_len(row[place]) for row in rows), default=0) for place in range(3)]
    for row in rows:
        yield "  " + "  ".join(_padded(cell, width) for cell, width in zip(row, [*widths, 0], strict=True)).rstrip()


def _remarks(column: ColumnReading) -> str:
    scale = f"× {column.scale:g}" if column.scale != 1 else ""
    kind = "" if column.type == "VARCHAR" or column.type == column.format else column.type.lower()
    return ", ".join(filter(None, (column.format, column.zone, scale, kind)))


def _about(read: FileReading, inspection: Inspection) -> Iterator[tuple[str, str]]:
    settings = inspection.settings
    if read.first and read.last:
        one = f"{read.first.symbol}, from the {read.symbol_rule}"
        yield "symbol", one if read.symbols == 1 else f"{read.symbols:,} symbols, from the {read.symbol_rule}"
    daily = settings.get("frequency") == "1d"
    stamps = "" if daily else f", timestamps are the {read.stamp} of their bars"
    yield "frequency", f"{settings.get('frequency')}, calendar {settings.get('calendar')}{stamps}"
    yield "prices", read.basis + (f"; splits and dividends: {read.actions}" if read.actions else "")
    if read.first and read.last:
        yield "first", _row(read.first, daily)
        yield "last", _row(read.last, daily)


def _rejections(read: FileReading) -> Iterator[tuple[str, str]]:
    for one in read.rejections:
        yield "rejected", f"{one.rows:,} {one.rule}: {one.reason}"
        yield "", f"e.g. {one.example}"


def _messages(inspection: Inspection) -> Iterator[tuple[str, str]]:
    for label, texts in (
        ("note", inspection.notes),
        ("warning", inspection.warnings),
        ("problem", inspection.problems),
    ):
        yield from ((label, text) for text in texts)


def _facts(facts: "Sequence[tuple[str, str]] | Iterator[tuple[str, str]]") -> Iterator[str]:
    yield from (f"  {label:<{_LABEL}}{text}" for label, text in facts)


def _row(row: StoredRow, daily: bool) -> str:
    values = [(name, getattr(row, name)) for name in _NUMBERS]
    numbers = " ".join(f"{name} {value:.10g}" for name, value in values if value is not None)
    when = f"{row.ts:%Y-%m-%d}" if daily else f"{row.ts:%Y-%m-%d %H:%M} UTC"
    return f"{row.symbol} {when} {numbers}"


def _short(example: str) -> str:
    return example if len(example) <= _LONGEST_EXAMPLE else example[: _LONGEST_EXAMPLE - 1] + "…"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))
