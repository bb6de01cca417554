"""The warehouse: one DuckDB file, opened for as long as one statement or one transaction needs it.

DuckDB lets one process write at a time, and readers wait for it. So connections here are short, waiting is jittered
and told, and after the wait the error says who holds the file. Not here: what is stored, which each stage says itself.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import duckdb
import pandas as pd
import tenacity

from resources.errors import WarehouseBusyError
from resources.layout import Home
from resources.settings import Settings

logger = logging.getLogger("candlecast.warehouse")
WAIT_SECONDS = 120.0
MEMORY_LIMIT = "2GB"
# A scheme of two letters or more: one letter is a drive.
_URI = re.compile(r"^[A-Za-z][A-Za-z0-9+_]+:")
# In an earlier version its rows had flags that nobody knew then.
_OUTDATED = "SELECT flags FROM bars_as_known(TIMESTAMP '2000-01-01') LIMIT 0"
_HOLDER = re.compile(r"held in (?P<program>.*?) \(PID (?P<pid>\d+)\)")
# Read-only and read-write connections may not live side by side in one process.
_process_lock = threading.RLock()
# Files, by path and inode, whose tables this process has seen to be whole: nothing takes one away.
_whole: set[tuple[str, int]] = set()


class Warehouse:
    """One DuckDB database with candlecast's schema.

    Args:
        location: a file, made with its folder on first use; or a URI that DuckDB attaches (`md:…`, `ducklake:…`).
        wait: seconds to wait for another process before giving up.
    """

    def __init__(self, location: Path | str, wait: float = WAIT_SECONDS) -> None:
        self.uri = location if isinstance(location, str) and _URI.match(location) else None
        self.path = Path(location)
        self.wait = wait
        self._made = False

    @classmethod
    def of(cls, settings: Settings, wait: float = WAIT_SECONDS) -> Warehouse:
        """The warehouse that the settings name; else the home's."""
        return cls(settings.warehouse or Home(settings.home).warehouse, wait)

    @property
    def exists(self) -> bool:
        """Whether anything was ever stored; of a URI it is taken to be so."""
        return self.uri is not None or self.path.is_file()

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection.

        Raises:
            WarehouseBusyError: another process wrote for longer than `wait`.
        """
        with _process_lock:
            if not (self._made and self.exists):
                self._make()
            connection = self._connect(read_only=True)
            try:
                with interruptible():
                    yield connection
            finally:
                connection.close()

    def _make(self) -> None:
        """Give a new warehouse its tables, and one of an earlier version those that it lacks and what is outdated."""
        if self.uri is None and self.path.is_file():
            if self._file in _whole:
                self._made = True
                return
            connection = self._connect(read_only=True)
            try:
                there = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
                is_current = there.issuperset(TABLES) and _has_current_macro(connection)
            finally:
                connection.close()
            if is_current or not os.access(self.path, os.W_OK):
                self._remember()
                return
        with self.write():
            pass

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-write connection inside one transaction: all of the block, or nothing of it.

        Raises:
            WarehouseBusyError: another process held the file for longer than `wait`.
        """
        with _process_lock:
            if self.uri is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = self._connect(read_only=False)
            try:
                if not self._made and not _has_current_macro(connection):
                    connection.execute("DROP MACRO TABLE IF EXISTS bars_as_known")
                connection.execute(SCHEMA)
                connection.execute("BEGIN")
                try:
                    with interruptible():
                        yield connection
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
                self._remember()
            finally:
                connection.close()

    @property
    def _file(self) -> tuple[str, int]:
        return str(self.path.absolute()), self.path.stat().st_ino

    def _remember(self) -> None:
        self._made = True
        if self.uri is None:
            _whole.add(self._file)

    def frame(self, sql: str, parameters: dict[str, object] | list[object] | None = None) -> pd.DataFrame:
        """The result of one query. Parameters are bound, `$name` or `?`."""
        with self.read() as connection:
            return connection.execute(sql, parameters).df()

    def _connect(self, read_only: bool) -> duckdb.DuckDBPyConnection:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(duckdb.IOException) & tenacity.retry_if_exception(_is_lock),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=2.0),
            stop=tenacity.stop_after_delay(self.wait),
            before_sleep=self._tell,
            reraise=True,
        )
        try:
            return retrying(self._open, read_only)
        except duckdb.IOException as error:
            if not _is_lock(error):
                raise
            raise WarehouseBusyError(
                f"{self.path} was held by {_holder(error)} for more than {self.wait:g} s: "
                "wait for it to end, or end it, and try again"
            ) from error

    def _open(self, read_only: bool) -> duckdb.DuckDBPyConnection:
        config: dict[str, str | bool | int | float | list[str]] = {"memory_limit": MEMORY_LIMIT}
        if self.uri is None:
            return duckdb.connect(str(self.path), read_only=read_only, config=config)
        connection = duckdb.connect(config=config)
        try:
            # Attaching takes no parameters.
            mode = " (READ_ONLY)" if read_only else ""
            connection.execute(f"ATTACH '{self.uri.replace(chr(39), chr(39) * 2)}' AS warehouse{mode}")
            connection.execute("USE warehouse")
        except BaseException:
            connection.close()
            raise
        return connection

    def _tell(self, state: tenacity.RetryCallState) -> None:
        if state.attempt_number in (1, 8) or state.attempt_number % 20 == 0:
            error = state.outcome.exception() if state.outcome else None
            logger.warning("waiting for %s, held by %s", self.path.name, _holder(error))


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C in a query stays Ctrl-C: DuckDB makes a RuntimeError of it, which fails a step, and the run goes on."""
    try:
        yield
    except RuntimeError as error:
        if str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise


def _has_current_macro(connection: duckdb.DuckDBPyConnection) -> bool:
    try:
        connection.execute(_OUTDATED)
    except duckdb.BinderException:
        return True
    except duckdb.CatalogException:
        return False
    return False


def _is_lock(error: BaseException) -> bool:
    return re.search(r"\block\b", str(error).lower()) is not None  # not "block"


def _holder(error: BaseException | None) -> str:
    found = _HOLDER.search(str(error))
    return f"process {found['pid']} ({found['program']})" if found else "another process"


SCHEMA = files("resources").joinpath("schema.sql").read_text(encoding="utf-8")
TABLES = frozenset(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", SCHEMA))
