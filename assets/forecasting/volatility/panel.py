"""The bars of several symbols on one time axis: what the volatility model reads, itself and its market."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from assets.market.history import CLOSE, OPEN, VOLUME, BarHistory

# Variance of a driftless random walk from the range of a bar (Parkinson, 1980).
PARKINSON = 1 / (4 * np.log(2))


@dataclass(frozen=True)
class Panel:
    """Bars as log returns and ranges; every array is (bars, symbols) float64, NaN where a symbol has no bar.

    Attributes:
        stamps: (bars,) datetime64[s], every timestamp at which some symbol has a bar.
        symbols: the symbols, in order.
        returns: log return of the close since the symbol's bar before, adjusted for corporate actions.
        gaps: log return from the close before to the open, adjusted.
        ranges: variance estimated from high and low, without the gap.
        volume: log of the volume in shares of the last bar; NaN where there is none.
        trend: log of the adjusted close, as differences only: its level has no meaning.
    """

    stamps: np.ndarray
    symbols: tuple[str, ...]
    returns: np.ndarray
    gaps: np.ndarray
    ranges: np.ndarray
    volume: np.ndarray
    trend: np.ndarray


def panel_up_to(histories: Sequence[BarHistory], last: np.datetime64 | None = None, bars: int | None = None) -> Panel:
    """The panel of some symbols' bars.

    Args:
        last: the newest timestamp; None: all. Nothing after it has any effect.
        bars: the newest timestamps to take; None: all.
    """
    known = [history.stamps if last is None else history.stamps[history.stamps <= last] for history in histories]
    stamps = np.unique(np.concatenate([own if bars is None else own[-bars:] for own in known]))
    stamps = stamps if bars is None else stamps[-bars:]
    arrays = np.full((5, len(stamps), len(histories)), np.nan)
    for column, (history, own) in enumerate(zip(histories, known, strict=True)):
        first = int(np.searchsorted(own, stamps[0])) if len(stamps) else 0
        if first == len(own):
            continue
        # The bar before the first one gives its return, whether it is on the time axis or not.
        before = max(first - 1, 0)
        rows = np.searchsorted(stamps, own[first:])
        arrays[:, rows, column] = _series(history, before, len(own))[:, first - before :]
    return Panel(stamps, tuple(history.symbol for history in histories), *arrays)


def digest_of_bars(histories: Iterable[BarHistory], last: np.datetime64) -> str:
    """A digest of the bars of some histories, adjusted, up to a timestamp."""
    total = hashlib.sha256()
    for history in histories:
        end = int(np.searchsorted(history.stamps, last.astype(history.stamps.dtype), side="right"))
        total.update(history.symbol.encode() + b"\0")
        for part in (history.stamps.astype(np.int64), history.quoted, history.growth, history.shares):
            total.update(np.ascontiguousarray(part[:end]).tobytes())
    return total.hexdigest()


def _series(history: BarHistory, first: int, end: int) -> np.ndarray:
    """(5, bars): returns, gaps, ranges, log volume and log adjusted close of the bars `first` … `end` - 1."""
    bars, growth = history.quoted[first:end], history.growth[first:end]
    with np.errstate(divide="ignore", invalid="ignore"):
        prices = np.log(np.where(bars[:, : CLOSE + 1] > 0, bars[:, : CLOSE + 1], np.nan))
        high, low = np.fmax.reduce(prices, axis=1), np.fmin.reduce(prices, axis=1)
        volume = np.log(np.where(bars[:, VOLUME] > 0, bars[:, VOLUME], np.nan)) - np.log(history.shares[first:end])
    # From one bar to the next alone: the same bits whatever the origin, and whatever comes later.
    change = np.log(growth[1:] / growth[:-1])
    returns, gaps = np.full(len(bars), np.nan), np.full(len(bars), np.nan)
    returns[1:] = np.diff(prices[:, CLOSE]) + change
    gaps[1:] = prices[1:, OPEN] - prices[:-1, CLOSE] + change
    trend = prices[:, CLOSE] + np.log(growth)
    return np.stack([returns, gaps, (high - low) ** 2 * PARKINSON, volume, trend])
