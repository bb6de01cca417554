"""Digests of what derived models learn from: stored forecasts and closes, each computed once for all models."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from assets.forecasting.calibration.base_keys import Base
from assets.market.history import CLOSE
from resources.sql import load_sql

if TYPE_CHECKING:
    from assets.forecasting.calibration.stored import StoredForecasts


class Fingerprints:
    """The digests of the forecasts and closes of one home, as they are when they are first asked for."""

    def __init__(self, stored: StoredForecasts) -> None:
        self._stored = stored

    def of_base(self, base: Base, last: np.datetime64) -> bytes:
        """The digest of the earlier forecasts of a model up to an origin, and of what is stored of its checkpoints."""
        total = self._of_keys(base, last).copy()
        for one in base.checkpoints:
            total.update(f"\0{one}\0{self._contents(base, one, last)}".encode())
        return total.digest()

    def of_keys(self, base: Base, last: np.datetime64) -> bytes:
        """The digest of the earlier forecasts of a model up to an origin: by origin and symbol, which checkpoint."""
        return self._of_keys(base, last).digest()

    def _of_keys(self, base: Base, last: np.datetime64) -> hashlib._Hash:
        known = self._stored.known.of_keys
        if (base, last) not in known:
            keys = self._stored.keys_of(base)
            end = int(np.searchsorted(keys.origins, last, side="right"))
            total = known[base, last] = hashlib.sha256(f"{base.model}\0".encode())
            total.update(keys.origins[:end].tobytes())
            for texts in (self._stored.symbols[keys.symbols[:end]], keys.checkpoints[:end]):
                total.update("\n".join(texts).encode())
        return known[base, last]

    def of_closes(self, symbols: Sequence[str], last: np.datetime64) -> bytes:
        """The digest of the closes of some symbols up to a timestamp."""
        known, key = self._stored.known.of_closes, (tuple(symbols), last)
        if key not in known:
            total = hashlib.sha256()
            for name in symbols:
                history = self._stored.histories[name]
                end = int(np.searchsorted(history.stamps, last, side="right"))
                total.update(f"\0{name}\0".encode())
                for values in (history.stamps, history.quoted[:, CLOSE], history.growth):
                    total.update(np.ascontiguousarray(values[:end]).tobytes())
            known[key] = total.digest()
        return known[key]

    def _contents(self, base: Base, checkpoint: str, last: np.datetime64) -> str:
        """What changes with any stored quantile of the close of a checkpoint up to an origin."""
        found = self._stored.known.contents
        if (base.model, checkpoint, last) not in found:
            # The states of most models are of one origin, before those that a run forecasts: theirs are read together.
            several = self._stored.every_base(base) if not found else [base]
            with self._stored.warehouse.read() as connection:
                for key in ((one.model, own, last) for one in several for own in one.checkpoints):
                    named = {"model": key[0], "checkpoint": key[1], "last": last.item()}
                    ((rows, content),) = connection.execute(load_sql(__package__, "contents.sql"), named).fetchall()
                    found[key] = f"{rows} {content}"
        return found[base.model, checkpoint, last]
