"""Qlib's binary data format: written from daily bars, and read with numpy. Never imports Qlib.

A provider is a folder named by the digest of its content: `calendars/`, `instruments/`, `features/` as Qlib expects
them, and `symbols.json` with the Qlib id of each symbol. Qlib passes names through pandas, the file system and case
folding, so only plain upper-case symbols are their own id.
Format: https://qlib.readthedocs.io/en/latest/component/data.html
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from resources.errors import CandlecastError
from resources.integrity import set_aside
from resources.publish import publishing_folder

FIELDS = ("open", "high", "low", "close", "volume", "factor", "change")
SYMBOLS_FILE = "symbols.json"
_PLAIN = re.compile(r"[A-Z][A-Z0-9]{0,31}")
# Parsed by pandas as missing, number or boolean; reserved by Windows for devices; Qlib's own market name.
_RESERVED = frozenset(
    ["NA", "NAN", "NULL", "NONE", "INF", "INFINITY", "TRUE", "FALSE", "NAT", "CON", "PRN", "AUX", "NUL", "ALL"]
    + [f"{port}{number}" for port in ("COM", "LPT") for number in range(10)]
)


@dataclass(frozen=True)
class DailyBars:
    """Daily bars of many symbols, sorted by symbol, then session; every array is (n,).

    Prices are adjusted: as quoted × `factor`. Volume is as quoted, NaN where the source has none.
    """

    symbol: np.ndarray
    session: np.ndarray
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray
    factor: np.ndarray

    def __len__(self) -> int:
        return len(self.symbol)


@dataclass(frozen=True)
class QlibProvider:
    """A published provider."""

    folder: Path

    @property
    def digest(self) -> str:
        return self.folder.name

    @cached_property
    def ids(self) -> Mapping[str, str]:
        """The Qlib id of every symbol."""
        ids: dict[str, str] = json.loads((self.folder / SYMBOLS_FILE).read_text(encoding="utf-8"))
        return ids

    @cached_property
    def sessions(self) -> np.ndarray:
        """The calendar: (days,) datetime64[D]."""
        return np.array((self.folder / "calendars" / "day.txt").read_text().split(), dtype="datetime64[D]")

    @property
    def bars(self) -> int:
        """The number of bars."""
        return int(np.isfinite(self.panel("close", sorted(self.ids))).sum())

    def panel(self, field: str, symbols: Sequence[str]) -> np.ndarray:
        """One field as Qlib reads it: (days, symbols) float64 of float32 values, NaN where there is no bar."""
        found = np.full((len(self.sessions), len(symbols)), np.nan)
        for column, symbol in enumerate(symbols):
            stored = np.fromfile(self._feature(self.ids[symbol], field), dtype="<f4")
            start = int(stored[0])
            found[start : start + len(stored) - 1, column] = stored[1:]
        return found

    def _feature(self, qlib_id: str, field: str) -> Path:
        return self.folder / "features" / qlib_id.lower() / f"{field}.day.bin"


def safe_ids(symbols: Sequence[str]) -> dict[str, str]:
    """An id for every symbol that is safe in Qlib, pandas and file systems; a plain symbol is its own id.

    All others get `X_` and a hash of the symbol, which no plain symbol equals. Ids also differ after case folding.
    """
    return {symbol: symbol if _is_plain(symbol) else _hashed(symbol) for symbol in symbols}


def write_provider(
    root: Path, scratch: Path, bars: DailyBars, calendar: np.ndarray, future: np.ndarray
) -> QlibProvider:
    """Publish the bars as `root/<digest>/`; for the same bars the folder exists, and nothing is written.

    A damaged folder is set aside under `damaged/` beside `root`, and written again.

    Args:
        calendar: (days,) datetime64[D], all sessions from the first bar to the last.
        future: (more,) datetime64[D], at least one later session: Qlib reads one day past the end.

    Raises:
        CandlecastError: there are no bars, no future session, or a bar on a day that the calendar lacks.
    """
    if not len(bars):
        raise CandlecastError("the Qlib provider needs bars, and there are none: materialise `bars` first")
    if not len(future):
        raise CandlecastError("the Qlib provider needs a session after the last bar, and the calendar has none")
    files = dict(_files(bars, calendar.astype("datetime64[D]"), future.astype("datetime64[D]")))
    digest = _digest(files)
    destination = root / digest
    if destination.is_dir() and not _holds(destination, files):
        set_aside(destination, root.parent)
    if not destination.is_dir():
        with publishing_folder(destination, scratch) as folder:
            for name, content in files.items():
                file = folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
    return QlibProvider(destination)


def _files(bars: DailyBars, calendar: np.ndarray, future: np.ndarray) -> Iterator[tuple[str, bytes]]:
    day = _positions(bars, calendar)
    starts = np.flatnonzero(np.r_[True, bars.symbol[1:] != bars.symbol[:-1]])
    ends = np.r_[starts[1:], len(bars)]
    symbols = [str(symbol) for symbol in bars.symbol[starts]]
    ids = safe_ids(symbols)
    first, last = day[starts], day[ends - 1]

    yield "calendars/day.txt", _lines(calendar)
    yield "calendars/day_future.txt", _lines(np.r_[calendar, future])
    spans = [f"{ids[s]}\t{calendar[a]}\t{calendar[b]}" for s, a, b in zip(symbols, first, last, strict=True)]
    yield "instruments/all.txt", _lines(sorted(spans))
    yield SYMBOLS_FILE, json.dumps(ids, indent=1, sort_keys=True, ensure_ascii=False).encode()

    # One dense vector per field with all symbols: [start, values…], one after the other.
    lengths = last - first + 2
    offsets = np.r_[0, np.cumsum(lengths)]
    per_bar = np.repeat(np.arange(len(symbols)), ends - starts)
    target = offsets[per_bar] + 1 + day - first[per_bar]
    previous = np.r_[np.nan, bars.close[:-1]]
    previous[starts] = np.nan
    values = {name: getattr(bars, name) for name in ("open", "high", "low", "close", "factor")}
    values |= {"volume": bars.volume / bars.factor, "change": bars.close / previous - 1}
    for field in FIELDS:
        dense = np.full(offsets[-1], np.nan, dtype="<f4")
        dense[offsets[:-1]] = first
        dense[target] = values[field]
        for symbol, start, end in zip(symbols, offsets[:-1], offsets[1:], strict=True):
            yield f"features/{ids[symbol].lower()}/{field}.day.bin", dense[start:end].tobytes()


def _positions(bars: DailyBars, calendar: np.ndarray) -> np.ndarray:
    sessions = bars.session.astype("datetime64[D]")
    day = np.searchsorted(calendar, sessions)
    outside = (day == len(calendar)) | (calendar[np.minimum(day, len(calendar) - 1)] != sessions)
    if outside.any():
        row = int(np.argmax(outside))
        raise CandlecastError(f"{bars.symbol[row]} has a bar on {sessions[row]}, which is not in the calendar")
    return day


def _is_plain(symbol: str) -> bool:
    return bool(_PLAIN.fullmatch(symbol)) and symbol not in _RESERVED


def _hashed(symbol: str) -> str:
    return "X_" + hashlib.sha256(symbol.encode("utf-8", "surrogatepass")).hexdigest()[:20].upper()


def _lines(items: Sequence[object] | np.ndarray) -> bytes:
    return "".join(f"{item}\n" for item in items).encode()


def _holds(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Whether a folder has these files with these bytes; one that does not is damaged, as its name is their digest."""
    return all((folder / name).is_file() and (folder / name).read_bytes() == content for name, content in files.items())


def _digest(files: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return total.hexdigest()
