"""Means over the symbols that have a value at a timestamp, and the return of the market that they give."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from assets.market.history import CLOSE, BarHistory
from resources.publish import digest_of


def mean_by_timestamp(stamps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct timestamps, oldest first, and the mean of their values: (m,) each, from (n,) in any order."""
    # In the order of time and then of value: a sum in another order of symbols has other last bits.
    order = np.lexsort((values, stamps))
    ordered = stamps[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)])
    sums = np.add.reduceat(values[order], first) if len(first) else values
    return ordered[first], sums / np.diff([*first, len(stamps)])


@dataclass(frozen=True)
class MarketReturns:
    """The mean log return of all symbols that have a bar and one before it, by timestamp.

    A return is known with its bar, and does not depend on the origin: factors of adjustment cancel.
    """

    stamps: np.ndarray
    returns: np.ndarray

    @classmethod
    def of(cls, series: Sequence[tuple[np.ndarray, np.ndarray]]) -> MarketReturns:
        """The market of some symbols: of each its timestamps, and its closes adjusted as of any bar."""
        stamps = np.concatenate([own[1:] for own, _ in series])
        returns = np.concatenate([np.diff(np.log(closes)) for _, closes in series])
        return cls(*mean_by_timestamp(stamps, returns))

    def at(self, stamps: np.ndarray) -> np.ndarray:
        """(n,) float64; NaN where no symbol has a return."""
        if not len(self.stamps):
            return np.full(len(stamps), np.nan)
        place = np.minimum(np.searchsorted(self.stamps, stamps), len(self.stamps) - 1)
        found: np.ndarray = np.where(self.stamps[place] == stamps, self.returns[place], np.nan)
        return found

    def digest(self, last: np.datetime64) -> str:
        """A digest of the returns up to a timestamp."""
        known = self.stamps <= last
        return digest_of([self.stamps[known].astype(np.int64).tolist(), self.returns[known].tolist()])


def market_of(histories: Iterable[BarHistory]) -> MarketReturns:
    """The market of some histories."""
    return MarketReturns.of([(one.stamps, one.quoted[:, CLOSE] * one.growth) for one in histories if len(one)])
