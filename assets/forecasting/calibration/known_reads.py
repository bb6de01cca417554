"""What derived models read, kept in the process: calibrated and combined forecasts read the same forecasts.

It is of one version of the warehouse. Writes of derived forecasts keep it, without what they change (`keep_known`);
after any other write, of this process or another one, all is read again. Not here: how it is read (stored).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from assets.forecasting.calibration.base_keys import Base, BaseKeys
from assets.forecasting.forecaster import ForecastKey
from resources.settings import Settings
from resources.warehouse import Warehouse

# Quantiles that stay in memory for another asset: 64 MiB. Those of a new origin and the few before it are a third.
VALUES_SHARED = 8_000_000


@dataclass
class KnownReads:
    """What was read under some settings from one version of a warehouse.

    Attributes:
        symbols: with forecasts, sorted.
        keys: the earlier forecasts of models.
        kept: quantiles of models from a row of `keys` on, and that row.
        newest: quantiles of single forecasts, by model and checkpoint.
        contents: what changes with any quantile of a checkpoint up to an origin, by model, checkpoint and origin.
        of_keys: hashes of the earlier forecasts of models up to an origin.
        of_closes: digests of closes, by symbols and last timestamp.
    """

    settings: Settings
    path: Path
    version: str | None
    symbols: np.ndarray | None = None
    keys: dict[Base, BaseKeys] = field(default_factory=dict)
    kept: dict[Base, tuple[int, np.ndarray]] = field(default_factory=dict)
    newest: dict[tuple[str, str], dict[ForecastKey, np.ndarray]] = field(default_factory=dict)
    contents: dict[tuple[str, str, np.datetime64], str] = field(default_factory=dict)
    of_keys: dict[tuple[Base, np.datetime64], hashlib._Hash] = field(default_factory=dict)
    of_closes: dict[tuple[tuple[str, ...], np.datetime64], bytes] = field(default_factory=dict)

    def forget(self, models: Collection[str]) -> None:
        """Drop what was read of the forecasts of some models."""
        self.keys = {base: one for base, one in self.keys.items() if base.model not in models}
        self.kept = {base: one for base, one in self.kept.items() if base.model not in models}
        self.newest = {key: one for key, one in self.newest.items() if key[0] not in models}
        self.contents = {key: one for key, one in self.contents.items() if key[0] not in models}
        self.of_keys = {key: one for key, one in self.of_keys.items() if key[0].model not in models}


_known: KnownReads | None = None


def known_reads(settings: Settings, warehouse: Warehouse) -> KnownReads:
    """What was read before under these settings from the present version of their warehouse; else nothing, to be
    filled."""
    global _known
    version, path = warehouse.version, warehouse.path
    if version is None:
        # Another process may have written since.
        return KnownReads(settings, path, None)
    found = _known
    if found is None or (found.version, found.path) != (version, path) or found.settings != settings:
        found = _known = KnownReads(settings, path, version)
    return found


def keep_known(warehouse: Warehouse, before: str | None, models: Collection[str]) -> None:
    """Keep what was read before the last versioned write of a warehouse, which changed derived forecasts of these
    models and nothing else.

    Args:
        before: the version before it, as long as no other process could write.
    """
    global _known
    if _known is None or before is None or (_known.version, _known.path) != (before, warehouse.path):
        return
    _known.forget(models)
    _known.version = warehouse.written
    if sum(values.size for _, values in _known.kept.values()) > VALUES_SHARED:
        _known = None
