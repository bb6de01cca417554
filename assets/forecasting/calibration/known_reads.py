"""What derived models read and learnt, kept in the process: calibrated and combined forecasts read the same forecasts.

It is of one version of the warehouse. Writes of forecasts keep it, without what they change (`keep_known`); after any
other write, of this process or another one, all is read again. Not here: how it is read (stored).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Set
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from assets.forecasting.calibration.base_keys import Base, BaseKeys
from assets.forecasting.calibration.panel import Derive
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
        learnt: what models learnt from the bars of the home, by the name of their state and what they are derived from.
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
    learnt: dict[tuple[str, tuple[Base, ...]], Derive] = field(default_factory=dict)

    def forget(self, models: Collection[str], first: np.datetime64) -> None:
        """Drop what was read of the forecasts of some models, but what is of those before an origin alone."""
        self.keys = {base: one for base, one in self.keys.items() if base.model not in models}
        self.kept = {base: one for base, one in self.kept.items() if base.model not in models}
        self.newest = {key: one for key, one in self.newest.items() if key[0] not in models}
        self.contents = {key: one for key, one in self.contents.items() if key[0] not in models or key[2] < first}
        self.of_keys = {key: one for key, one in self.of_keys.items() if key[0].model not in models or key[1] < first}
        self.learnt = {key: one for key, one in self.learnt.items() if not any(base.model in models for base in key[1])}


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


def keep_known(warehouse: Warehouse, before: str | None, written: Set[tuple[str, ForecastKey]]) -> None:
    """Keep what was read before the last versioned write of a warehouse, which changed forecasts and nothing else.

    Args:
        before: the version before it, as long as no other process could write.
        written: the forecasts that it may have changed, by model.
    """
    global _known
    if _known is None or before is None or (_known.version, _known.path) != (before, warehouse.path):
        return
    symbols = {symbol for _, (symbol, _) in written}
    if _known.symbols is not None and not symbols.issubset(_known.symbols):
        # Symbols are kept by their places.
        _known = None
        return
    if written:
        _known.forget({model for model, _ in written}, min(origin for _, (_, origin) in written))
    _known.version = warehouse.written
    if sum(values.size for _, values in _known.kept.values()) > VALUES_SHARED:
        _known = None
