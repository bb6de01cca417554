"""Digests of what assets read: rows of tables, files of the home, keys of the settings, source code.

Equal digests mean equal contents, whoever wrote them and whenever. Not here: which asset reads what (reads).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from resources.errors import CandlecastError
from resources.integrity import digest_of_file
from resources.layout import Home
from resources.pointers import read_pointer
from resources.publish import digest_of
from resources.settings import Settings
from resources.warehouse import Warehouse

PACKAGES = Path(__file__).resolve().parents[2]
SOURCES = frozenset({".py", ".sql", ".html", ".css", ".json", ".safetensors"})
# What every stage is built on.
SHARED = ("resources", "kronos", "assets/market", "assets/forecasting")
# Folders of which only what a pointer names is read; the others hold nothing but what is in use.
POINTERS = dict.fromkeys(("windows", "qlib", "backtests"), "current.json") | {"reports": "latest.json"}
# Empty files that locks leave, in no state of interest.
_LOCK = ".lock"
# A sum and an exclusive or, so that doubled rows count; hashes of rows do not depend on their order.
_SUMMED = "count(*) AS n, sum(hash(t))::VARCHAR AS total, bit_xor(hash(t))::VARCHAR AS mixed"
_SUMMED_ROWS = f"SELECT {_SUMMED}"
# The tables that forecasts and scores read bars from, with the column of the session.
DAYS = {"bars": "session", "bar_versions": "session", "corporate_actions": "ex_date"}
_TABLE = f"SELECT '' AS model, '' AS checkpoint, {_SUMMED} FROM {{table}} t"
_BY_MODEL = f"SELECT model, checkpoint, {_SUMMED} FROM {{table}} t GROUP BY model, checkpoint"
_FAILED = "SELECT DISTINCT model FROM failed_forecasts"
# Inode, size in bytes, time of the last change in nanoseconds.
FileState = tuple[int, int, int]
# By (model, checkpoint); of a table without these columns one entry, for ("", "").
TableDigests = Mapping[tuple[str, str], str]
BY_MODEL = frozenset({"forecasts", "forecast_quantiles", "failed_forecasts", "forecast_recipes"})


def digests_of_tables(warehouse: Warehouse, tables: Iterable[str]) -> dict[str, TableDigests]:
    """The digests of the rows of some tables, by table."""
    found: dict[str, TableDigests] = {}
    with warehouse.read() as connection:
        for table in tables:
            sql = (_BY_MODEL if table in BY_MODEL else _TABLE).format(table=table)
            rows = connection.execute(sql).fetchall()
            found[table] = {(model, checkpoint): digest_of(values) for model, checkpoint, *values in rows}
    return found


def digest_of_bars_until(warehouse: Warehouse, last: date) -> str:
    """The digest of the bars of the sessions up to a day, and of the corporate actions up to it."""
    with warehouse.read() as connection:
        rows = [
            connection.execute(f"{_SUMMED_ROWS} FROM {table} t WHERE {day} <= ?", [last]).fetchall()
            for table, day in DAYS.items()
        ]
    return digest_of(rows)


def models_that_failed(warehouse: Warehouse) -> set[str]:
    """The models with forecasts that failed, which a run tries again."""
    with warehouse.read() as connection:
        return {str(model) for (model,) in connection.execute(_FAILED).fetchall()}


def digest_of_settings(settings: Settings, keys: Sequence[str]) -> str:
    """The digest of some sections of the settings, or of single keys as `section.key`."""
    values: dict[str, Any] = {}
    for key in keys:
        section, _, name = key.partition(".")
        values[key] = getattr(getattr(settings, section), name) if name else _plain(getattr(settings, section))
    return digest_of(values)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


class FileDigests:
    """The digests of folders of a home; each file is read once, and again after it was written or replaced."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._known: dict[Path, tuple[FileState, str]] = {}

    def of(self, folders: Iterable[Path]) -> str:
        """The digest of the names and bytes of all files in some folders, or of single files."""
        files = sorted({file for folder in folders for file in _files(folder)})
        states = {file: _state(file) for file in files}
        unknown = [file for file in files if file not in self._known or self._known[file][0] != states[file]]
        # Digests are computed without the interpreter's lock.
        with ThreadPoolExecutor() as pool:
            found = zip(unknown, pool.map(digest_of_file, unknown), strict=True)
            self._known |= {file: (states[file], digest) for file, digest in found}
        return digest_of([(file.relative_to(self.home.root).as_posix(), self._known[file][1]) for file in files])

    @staticmethod
    def newest(folders: Iterable[Path]) -> float:
        """When the file that was changed last was changed, in seconds since 1970."""
        return max((file.stat().st_mtime for folder in folders for file in _files(folder)), default=0.0)

    def current(self, name: str) -> list[Path]:
        """A folder of the home; of one with a pointer the pointer and what it names."""
        folder: Path = self.home.root / name
        pointer = folder / POINTERS[name] if name in POINTERS else None
        if pointer is None or not pointer.is_file():
            return [folder]
        return [pointer, folder / str(read_pointer(pointer))]


def _state(file: Path) -> FileState:
    # A file that is replaced has another inode, also if the clock did not move.
    stat = file.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file() and file.suffix != _LOCK)


def digest_of_named_file(settings: Settings, key: str) -> str:
    """The digest of the file that a key of the settings names, relative to the settings file; empty: none."""
    section, _, name = key.partition(".")
    named = getattr(getattr(settings, section), name)
    file = settings.root / Path(named).expanduser() if isinstance(named, str) else None
    return digest_of_file(file) if file and file.is_file() else ""


@cache
def digest_of_code(stage: str) -> str:
    """The digest of the source code that a stage's assets execute, and of the versions of the packages it imports."""
    folders = [PACKAGES / name for name in (*SHARED, f"assets/{stage}")]
    files = [*(PACKAGES / "assets").glob("*.py"), *(file for folder in folders for file in folder.rglob("*"))]
    total = hashlib.sha256(digest_of(_versions()).encode())
    for file in sorted(one for one in files if one.suffix in SOURCES and one.is_file()):
        total.update(file.relative_to(PACKAGES).as_posix().encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


@cache
def _versions() -> dict[str, str]:
    """The versions of the required packages that are installed.

    Raises:
        CandlecastError: candlecast itself is not installed.
    """
    try:
        needed = requires("candlecast") or []
    except PackageNotFoundError as error:
        raise CandlecastError(
            "candlecast runs from a checkout that is not installed: `pip install -e .` there"
        ) from error
    found = {}
    for line in needed:
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
