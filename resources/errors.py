"""The exceptions that candlecast raises deliberately; their message is written for the user.

Belongs here: exceptions used by several stages. Not here: those of the Kronos library, which has no dependencies.
"""

from __future__ import annotations


class CandlecastError(Exception):
    """The work cannot continue. The message names the file, row, symbol, session or key, and the remedy."""


class SettingsError(CandlecastError):
    """A setting is unknown, of the wrong type or out of range. Raised while loading, before any work."""


class MissingWeightsError(CandlecastError):
    """Published weights are not on this machine. Of a vintage: its sessions fail, and those of the others do not."""


class WorkerEndedError(CandlecastError):
    """A worker process ended in the middle of its work: it was killed, or ran out of memory."""


class WarehouseBusyError(CandlecastError):
    """Another process, named in the message, kept the warehouse locked for longer than the wait."""


class SchemaVersionError(CandlecastError):
    """The warehouse has a schema that this installation cannot use. The message names both versions and the remedy."""
