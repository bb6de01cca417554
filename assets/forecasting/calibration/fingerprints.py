"""Digests of what derived models learn from: stored forecasts and closes, each computed once for all models."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from assets.forecasting.calibration.base_keys import Base
from assets.market.history import CLOSE
from resources.sql import load_sql

if TYPE_CHECKING:
    from assets.forecasting.calibration.stored import StoredForecasts


class Fingerprints:
    """The digests of the forecasts and closes of one home, as they are when they are first asked for."""

    def __init__(self, stored: StoredForecasts) -> None:
        self._stored = stored
        self._contents = dict[Base, pd.DataFrame]()
        self._known = dict[tuple[object, ...], bytes]()

    def of_base(self, base: Base, last: np.datetime64) -> bytes:
        """The digest of the earlier forecasts of a model up to an origin, and of what is stored of its checkpoints."""
        if (base, last) not in self._known:
            keys, contents = self._stored.keys_of(base), self._contents_of(base)
            end = int(np.searchsorted(keys.origins, last, side="right"))
            total = hashlib.sha256(f"{base.model}\0".encode())
            total.update(keys.origins[:end].tobytes())
            for texts in (self._stored.symbols[keys.symbols[:end]], keys.checkpoints[:end]):
                total.update("\n".join(texts).encode())
            for name, values in contents[contents["origin"] <= last].items():
                total.update(f"\0{name}\0".encode() + "\n".join(map(str, values.tolist())).encode())
            self._known[base, last] = total.digest()
        return self._known[base, last]

    def of_closes(self, symbols: Sequence[str], last: np.datetime64) -> bytes:
        """The digest of the closes of some symbols up to a timestamp."""
        key = (*symbols, last)
        if key not in self._known:
            total = hashlib.sha256()
            for name in symbols:
                history = self._stored.histories[name]
                end = int(np.searchsorted(history.stamps, last, side="right"))
                total.update(f"\0{name}\0".encode())
                for values in (history.stamps, history.quoted[:, CLOSE], history.growth):
                    total.update(np.ascontiguousarray(values[:end]).tobytes())
            self._known[key] = total.digest()
        return self._known[key]

    def _contents_of(self, base: Base) -> pd.DataFrame:
        """The content of the stored forecasts of a model: columns origin, checkpoint, rows and content, by origin."""
        if base not in self._contents:
            sql = load_sql(__package__, "contents.sql")
            with self._stored.warehouse.read() as connection:
                for one in self._stored.together(base):
                    named = {"model": one.model, "checkpoints": list(one.checkpoints)}
                    self._contents[one] = connection.execute(sql, named).df()
        return self._contents[base]
