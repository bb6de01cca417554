"""The daily bars of a backtest as arrays. Not here: what can be traded at them (tradability)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assets.market.universe import DELISTED_AFTER


@dataclass(frozen=True)
class PricePanel:
    """Daily bars, (sessions, symbols), NaN where there is no bar; columns sorted by Qlib's id.

    Prices are adjusted: as quoted × `factor`. Volume is NaN where the source has none.
    """

    sessions: np.ndarray
    symbols: tuple[str, ...]
    ids: tuple[str, ...]
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray
    factor: np.ndarray

    @property
    def ends(self) -> np.ndarray:
        """The last session of every delisted symbol, NaT for the others. Shape (symbols,), datetime64[D].

        As in the universe, a symbol without a bar for fewer than `DELISTED_AFTER` sessions counts as suspended.
        """
        present = np.isfinite(self.close)
        last = len(present) - 1 - np.argmax(present[::-1], axis=0)
        gone = present.any(axis=0) & (last < len(present) - DELISTED_AFTER)
        return np.where(gone, self.sessions[last], np.datetime64("NaT", "D"))

    @property
    def without_volume(self) -> np.ndarray:
        """Symbols with bars, none of which has a volume above 0: (symbols,) bool. Their volume is not known."""
        present = np.isfinite(self.close)
        unknown: np.ndarray = present.any(axis=0) & ~(present & (self.volume > 0)).any(axis=0)
        return unknown
