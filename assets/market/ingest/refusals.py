"""Payloads that are refused as a whole: the error, and the reason for one payload."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Sequence
from pathlib import Path

import duckdb

from resources.errors import CandlecastError, WarehouseBusyError
from resources.sources.files import ending_of

# Not the file's fault: another file would fail as well, or this one be accepted later.
_ERRORS_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.ENOMEM}


class PayloadsRefusedError(CandlecastError):
    """Some payloads cannot be fetched or read as bars; all others of the call are in the lake.

    Args:
        reasons: one per payload.
    """

    def __init__(self, message: str, reasons: Sequence[str]) -> None:
        super().__init__(message)
        self.reasons = list(reasons)


def refusal_of(error: Exception, file: str, points_to_inspect: bool = True) -> str:
    """Why one payload is refused, as text that names its file.

    Args:
        points_to_inspect: name the command that shows how a file is read.

    Raises:
        KeyboardInterrupt: the run was interrupted.
        Exception: the error itself, where the file is not its cause (a full disk, a warehouse that is busy).
    """
    if isinstance(error, duckdb.InterruptException) or (
        isinstance(error, duckdb.Error) and ("KeyboardInterrupt" in str(error) or "Interrupted" in str(error))
    ):
        # The run was interrupted while DuckDB read a frame.
        raise KeyboardInterrupt from error
    is_busy = isinstance(error, WarehouseBusyError | MemoryError)
    if is_busy or (isinstance(error, OSError) and error.errno in _ERRORS_OF_THE_MACHINE):
        raise error
    return _reason(error, file) + (inspect_hint(file) if points_to_inspect else "")


def inspect_hint(file: str) -> str:
    """The command that shows how a file is read, as the end of a message; empty for a range of a network source."""
    return f" (`candlecast inspect {shlex.quote(file)}` shows how it is read)" if ending_of(Path(file)) else ""


def _reason(error: Exception, file: str) -> str:
    if isinstance(error, CandlecastError):
        return str(error)
    if isinstance(error, duckdb.OutOfMemoryException):
        # The limit is DuckDB's own (contract.MEMORY_LIMIT), so it is this file that does not fit.
        return f"{file}: too large to be validated within the memory limit: split it into several files, or remove it"
    first_line = next(iter(str(error).splitlines()), "")[:300]
    return f"{file}: cannot be read as bars: {type(error).__name__}: {first_line}. Correct the file, or remove it"
