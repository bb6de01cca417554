"""Database files, attached to one DuckDB instance of the process.

An instance costs 25 ms to start and end, mostly for its threads, and attaching a file a fifth of that. A file is
detached, and free for other processes, when its last connection is closed.
"""

from __future__ import annotations

import atexit
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

Config = dict[str, str | bool | int | float | list[str]]
# Names of databases that every instance has.
_RESERVED = {"main", "memory", "system", "temp"}
# The bytes of a file's three headers, of which the last two are written in turn.
_HEADERS = 3 * 4096


@dataclass(frozen=True)
class OpenDatabase:
    """A connection, and how it is closed."""

    connection: duckdb.DuckDBPyConnection
    close: Callable[[], None]


@dataclass
class _Instance:
    """An instance for one file, whose temporary folder stands beside that file.

    Attributes:
        name: of the file's database.
        process: a forked process has none of its threads.
        open: the number of connections to the file; 0: it is detached.
    """

    root: duckdb.DuckDBPyConnection
    path: str
    name: str
    process: int
    read_only: bool = True
    open: int = 0


_instance: _Instance | None = None
# Of the process that this one was forked from: ending them would wait for threads that it does not have.
_forked: list[_Instance] = []


def open_file(path: Path, read_only: bool, config: Config) -> OpenDatabase:
    """A connection to a file. One thread at a time.

    Raises:
        duckdb.IOException: another process has the file open.
        duckdb.ConnectionException: this process has it open with the other value of `read_only`.
    """
    instance = _instance_for(path, config)
    if instance is None:
        return open_alone(path, read_only, config)
    if instance.open and instance.read_only != read_only:
        raise duckdb.ConnectionException(f"{path} is open in this process, and not for {_access(read_only)}")
    if not instance.open:
        # Attaching takes no parameters.
        named = instance.path.replace("'", "''")
        instance.root.execute(f"ATTACH '{named}' AS {_quoted(instance)} ({_access(read_only)})")
        instance.read_only = read_only
    instance.open += 1
    connection = instance.root.cursor()

    def close() -> None:
        connection.close()
        instance.open -= 1
        if not instance.open:
            _detach(instance)

    try:
        connection.execute(f"USE {_quoted(instance)}")
    except BaseException:
        close()
        raise
    return OpenDatabase(connection, close)


def open_alone(path: Path, read_only: bool, config: Config) -> OpenDatabase:
    """A connection to a file in an instance of its own, whose settings can be changed."""
    connection = duckdb.connect(str(path), read_only=read_only, config=config)
    return OpenDatabase(connection, connection.close)


def file_version(path: Path) -> str:
    """A digest of what DuckDB changes in a file with every commit: the headers, which count checkpoints, and the log of
    what is not in the file yet. Also of inode and modification time: a copy that was put back counts on from where it
    was made."""
    with path.open("rb") as file:
        found = file.read(_HEADERS)
        state = os.fstat(file.fileno())
        found += f"{state.st_ino} {state.st_mtime_ns}".encode()
    with suppress(FileNotFoundError):
        log = path.with_name(f"{path.name}.wal").stat()
        found += f" {log.st_size} {log.st_mtime_ns}".encode()
    return hashlib.sha256(found).hexdigest()


def _instance_for(path: Path, config: Config) -> _Instance | None:
    """The instance of a file; None: another file is open meanwhile, or its name is one of DuckDB's own."""
    global _instance
    real, name = os.path.realpath(path), path.name.partition(".")[0]
    if _instance is not None and _instance.process != os.getpid():
        _forked.append(_instance)
        _instance = None
    if _instance is not None and _instance.path != real:
        if _instance.open:
            return None
        _instance.root.close()
        _instance = None
    if not name or name.lower() in _RESERVED:
        return None
    if _instance is None:
        root = duckdb.connect(config={**config, "temp_directory": f"{real}.tmp"})
        _instance = _Instance(root, real, name, os.getpid())
    return _instance


def _detach(instance: _Instance) -> None:
    global _instance
    try:
        instance.root.execute(f"DETACH {_quoted(instance)}")
    except duckdb.Error:
        # As with a connection of its own, what is committed is in the file or its log.
        with suppress(duckdb.Error):
            instance.root.close()
        _instance = None if _instance is instance else _instance


@atexit.register
def end_instance() -> None:
    """End the instance: before the interpreter, which would report its objects as leaks, and after an interrupt, which
    may have come between attaching a file and noting it."""
    global _instance
    if _instance is not None and _instance.process == os.getpid():
        _instance.root.close()
        _instance = None


def _quoted(instance: _Instance) -> str:
    return '"' + instance.name.replace('"', '""') + '"'


def _access(read_only: bool) -> str:
    return "READ_ONLY" if read_only else "READ_WRITE"
