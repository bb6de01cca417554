"""The warehouse: one DuckDB database, opened for the length of one statement or one transaction.

DuckDB allows one writing process at a time, and readers wait for it. So connections here are short, waiting is jittered
and logged, and the error after the wait names the process that has the file open.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import tenacity

from resources import schema
from resources.attached_files import Config, OpenDatabase, end_instance, file_version, open_alone, open_file
from resources.disclosure import CONCEALED, conceal, scheme_of
from resources.errors import SchemaVersionError, WarehouseBusyError
from resources.layout import Home
from resources.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("candlecast.warehouse")
WAIT_SECONDS = 120.0
MEMORY_LIMIT = "2GB"
_HOLDER = re.compile(r"held in (?P<program>.*?) \(PID (?P<pid>\d+)\)")
# DuckDB does not allow read-only and read-write connections to one file in one process.
_process_lock = threading.RLock()
# Of files whose reads are shared: the connection that keeps each open; None: none was needed yet, or a write closed it.
_kept: dict[str, OpenDatabase | None] = {}
# Files, by path and inode, whose schema this process found to be current.
_current: set[tuple[str, int]] = set()


class Warehouse:
    """One DuckDB database with candlecast's schema.

    Args:
        location: a file, created with its folder on first use; or a URI that DuckDB attaches (`md:…`, `ducklake:…`).
        wait: seconds to wait for another process before giving up.

    Attributes:
        written: the version that the last `versioned` write of this object left, whatever was written since; None: no
            write, or it is not known.
    """

    def __init__(self, location: Path | str, wait: float = WAIT_SECONDS) -> None:
        self.uri = location if isinstance(location, str) and scheme_of(location) else None
        self.path = Path(location)
        self.wait = wait
        self.written: str | None = None
        self._checked = False

    @classmethod
    def of(cls, settings: Settings, wait: float = WAIT_SECONDS) -> Warehouse:
        """The warehouse of the settings; default: the one in the home folder."""
        named = settings.warehouse.get_secret_value() if settings.warehouse else None
        return cls(named or Home(settings.home).warehouse, wait)

    @property
    def label(self) -> str:
        """How messages name it: the file, or the scheme of a URI, which may hold a password."""
        return f"the warehouse {scheme_of(self.uri)}:{CONCEALED}" if self.uri else str(self.path)

    @property
    def exists(self) -> bool:
        """Whether the file exists. Always true for a URI."""
        return self.uri is not None or self.path.is_file()

    @property
    def version(self) -> str | None:
        """A digest that changes with every committed change, by any process; None: a URI, or there is no file."""
        return file_version(self.path) if self.exists and self.uri is None else None

    @contextmanager
    def read(self, alone: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection.

        Args:
            alone: whether DuckDB's settings are changed: they hold for this connection only.

        Raises:
            WarehouseBusyError: another process wrote for longer than `wait`.
            SchemaVersionError: the schema is newer than this installation, or older in a file that cannot be written.
        """
        with _process_lock, _without_secrets(self.uri), _interruptible_access():
            self._ensure_schema()
            opened = self._connect(read_only=True, alone=alone)
            try:
                # Not a cursor of the connection, which is closed with it.
                if not alone and _kept.get(self._key, opened) is None:
                    _kept[self._key] = self._connect(read_only=True)
                yield opened.connection
            finally:
                opened.close()

    @contextmanager
    def shared_reads(self) -> Iterator[None]:
        """Open the file once for all reads inside the block, which takes 15 ms each time; a write closes it before.

        Not around what computes for long: other processes cannot write meanwhile. Without effect for a URI.
        """
        if self.uri is not None or self._key in _kept:
            yield
            return
        _kept[self._key] = None
        try:
            yield
        finally:
            with _process_lock:
                self._close_kept()
                del _kept[self._key]

    def _close_kept(self) -> None:
        kept = _kept.get(self._key)
        if kept is not None:
            kept.close()
            _kept[self._key] = None

    @contextmanager
    def write(self, versioned: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-write connection in one transaction, which is rolled back if the block raises.

        Args:
            versioned: whether `written` is known afterwards.

        Raises:
            WarehouseBusyError: another process held the file for longer than `wait`.
            SchemaVersionError: the schema is newer than this installation.
        """
        with _process_lock, _without_secrets(self.uri), _interruptible_access():
            if self.uri is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            # Asked before the file is created: a new file may have the inode of a deleted one.
            current = self._is_current
            self._close_kept()
            opened = self._connect(read_only=False)
            connection = opened.connection
            try:
                if not current:
                    with _transaction(connection):
                        schema.migrate(connection, self.label)
                    self._remember()
                with _transaction(connection):
                    yield connection
                if versioned:
                    self.written = self._version_left(connection)
            finally:
                opened.close()

    def _version_left(self, connection: duckdb.DuckDBPyConnection) -> str | None:
        """The version that closing a connection leaves, after which another process may write; None: not known."""
        if self.uri is not None:
            return None
        try:
            # As closing does.
            connection.execute("CHECKPOINT")
        except duckdb.Error:
            # What is committed is in the log.
            return None
        return self.version

    def _ensure_schema(self) -> None:
        """Create the tables of a new warehouse, and migrate one of an earlier version."""
        if self._is_current:
            return
        if self.uri is None and self.path.is_file():
            opened = self._connect(read_only=True)
            try:
                version = schema.schema_version(opened.connection)
            finally:
                opened.close()
            if version == schema.SCHEMA_VERSION:
                self._remember()
                return
            if not os.access(self.path, os.W_OK):
                raise SchemaVersionError(
                    f"{self.path} has schema version {version}, this installation needs {schema.SCHEMA_VERSION}, and "
                    "the file cannot be written: make it writable, so that it is migrated when it is opened"
                )
        with self.write():
            pass

    @property
    def _is_current(self) -> bool:
        if self.uri is not None:
            return self._checked
        return self.path.is_file() and self._file in _current

    @property
    def _key(self) -> str:
        return str(self.path.absolute())

    @property
    def _file(self) -> tuple[str, int]:
        return self._key, self.path.stat().st_ino

    def _remember(self) -> None:
        self._checked = True
        if self.uri is None:
            _current.add(self._file)

    def frame(self, sql: str, parameters: dict[str, object] | list[object] | None = None) -> pd.DataFrame:
        """The result of one query. Parameters are bound, `$name` or `?`."""
        with self.read() as connection:
            return connection.execute(sql, parameters).df()

    def rows(self, sql: str, parameters: dict[str, object] | None = None) -> list[dict[str, Any]]:
        """The result of one query by column name, without pandas, whose import takes longer than most queries."""
        with self.read() as connection:
            found = connection.execute(sql, parameters)
            names = [str(column[0]) for column in found.description or []]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def _connect(self, read_only: bool, alone: bool = False) -> OpenDatabase:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(duckdb.IOException) & tenacity.retry_if_exception(_is_lock),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=2.0),
            stop=tenacity.stop_after_delay(self.wait),
            before_sleep=self._log_wait,
            reraise=True,
        )
        try:
            return retrying(self._open, read_only, alone)
        except duckdb.IOException as error:
            if not _is_lock(error):
                raise
            raise WarehouseBusyError(
                f"{self.label} was locked by {_holder(error)} for more than {self.wait:g} s: "
                "wait until it ends, or end it, and try again"
            ) from error

    def _open(self, read_only: bool, alone: bool) -> OpenDatabase:
        config: Config = {"memory_limit": MEMORY_LIMIT}
        if self.uri is None:
            return (open_alone if alone else open_file)(self.path, read_only, config)
        connection = duckdb.connect(config=config)
        try:
            # Attaching takes no parameters.
            mode = " (READ_ONLY)" if read_only else ""
            connection.execute(f"ATTACH '{self.uri.replace(chr(39), chr(39) * 2)}' AS warehouse{mode}")
            connection.execute("USE warehouse")
        except duckdb.Error as error:
            connection.close()
            # Without the excerpt of the statement, which may begin in the middle of a password.
            raise type(error)(str(error).partition("\nLINE ")[0]) from None
        except BaseException:
            connection.close()
            raise
        return OpenDatabase(connection, connection.close)

    def _log_wait(self, state: tenacity.RetryCallState) -> None:
        if state.attempt_number in (1, 8) or state.attempt_number % 20 == 0:
            error = state.outcome.exception() if state.outcome else None
            name = self.label if self.uri else self.path.name
            logger.warning("waiting for %s, locked by %s", name, _holder(error))


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt for Ctrl-C in a query. DuckDB raises a RuntimeError, after which a run would continue."""
    try:
        yield
    except RuntimeError as error:
        if str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise


@contextmanager
def _interruptible_access() -> Iterator[None]:
    """As `interruptible`, for all of an access: the next one opens the file anew, also where this one was interrupted
    while it attached or detached the file."""
    try:
        with interruptible():
            yield
    except (Exception, GeneratorExit):
        # The end of a generator is no interrupt, and other reads of this thread may be open.
        raise
    except BaseException:
        end_instance()
        raise


@contextmanager
def _without_secrets(uri: str | None) -> Iterator[None]:
    """Raise DuckDB's errors, which quote the statement or the path, without the URI and its credentials."""
    try:
        yield
    except duckdb.Error as error:
        if uri is None:
            raise
        raise type(error)(conceal(str(error), uri)) from None


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _is_lock(error: BaseException) -> bool:
    return re.search(r"\block\b", str(error).lower()) is not None  # not "block"


def _holder(error: BaseException | None) -> str:
    found = _HOLDER.search(str(error))
    return f"process {found['pid']} ({found['program']})" if found else "another process"
