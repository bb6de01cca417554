"""The errors that candlecast raises on purpose, in words for the person who must act.

Belongs here: what crosses stages. Not here: errors of the Kronos library, which stands alone.
"""

from __future__ import annotations


class CandlecastError(Exception):
    """The work cannot go on. The message names the file, row, symbol, session or key, and what to do."""


class SettingsError(CandlecastError):
    """A setting is unknown, ill-typed or impossible. Raised at load, before any work."""


class WarehouseBusyError(CandlecastError):
    """Another process held the warehouse for longer than we wait. The message says which."""


class SchemaVersionError(CandlecastError):
    """The warehouse has a schema that this installation cannot use. The message names both versions and the remedy."""
