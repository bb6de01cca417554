"""Which windows there are to learn from, whether they are enough, and their content hash.

The hash covers what can reach weights, the bars up to `windows.cutoff`, and nothing later: a new bar of today
changes no hash, no recipe and no checkpoint. What cannot work is refused here, before any training, with the counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from assets.market.history import CLOSE, PRICES, History
from assets.training.data.dataset import Arrays, LearntSplit, pack
from assets.training.data.splits import SPLITS, Range, Shape, Split, origins, ranges, starts
from resources.errors import CandlecastError
from resources.publish import digest_of
from resources.settings import WindowSettings

WINDOWS_VERSION = 1
LEARNT: tuple[LearntSplit, ...] = ("train", "validation")
# Windows that share no bar. Fewer than the first cannot tell a good fit from luck, fewer than the second cannot
# carry a model from scratch: the compact models here were fitted on about 3,000.
ENOUGH_TO_TUNE, ENOUGH_FROM_SCRATCH = 20, 300
# Fewer of those tell nothing at all, and are refused: one stretch of time of a symbol or two.
FEWEST: Mapping[LearntSplit, int] = {"train": 4, "validation": 2}


@dataclass(frozen=True)
class SymbolCount:
    """What one symbol gives."""

    symbol: str
    bars: int
    train: int
    validation: int
    test: int
    origins: int
    note: str = ""


@dataclass(frozen=True)
class WindowSet:
    """Windows ready to be written: arrays of what may be learnt from, and counts of everything."""

    digest: str
    arrays: Arrays
    manifest: Mapping[str, Any]
    counts: tuple[SymbolCount, ...]
    ranges: Mapping[Split, Range]

    def total(self, split: Split) -> int:
        return sum(getattr(count, split) for count in self.counts)

    @property
    def origins(self) -> int:
        return sum(count.origins for count in self.counts)

    def table(self) -> pd.DataFrame:
        """One row a symbol."""
        return pd.DataFrame([vars(count) for count in self.counts])


def build_windows(histories: Mapping[str, History], settings: WindowSettings) -> WindowSet:
    """The windows of all symbols.

    Args:
        histories: whole histories; what lies after the cutoff is counted and never stored.

    Raises:
        CandlecastError: no bars; a symbol with too little history (unless `short_history` is "exclude"); bars that
            are not finite; a split with no windows, or too few; no origin in the test range.
    """
    if not histories:
        raise CandlecastError("there are no bars to learn from: materialise the asset `bars` first")
    shape = Shape(settings.lookback_window, settings.predict_window)
    kept, short = _long_enough(histories, settings, shape)
    spans = ranges(settings, _sessions(kept))
    places = {split: [starts(history.days, spans[split], shape) for history in kept] for split in SPLITS}
    seeds = [origins(history.days, *settings.test, shape.lookback) for history in kept]
    counts = [
        SymbolCount(
            symbol=history.symbol,
            bars=len(history),
            train=len(places["train"][number]),
            validation=len(places["validation"][number]),
            test=len(places["test"][number]),
            origins=len(seeds[number]),
            note="" if len(places["train"][number]) else "unseen in training",
        )
        for number, history in enumerate(kept)
    ]
    counts += [SymbolCount(history.symbol, len(history), 0, 0, 0, 0, "too short, left out") for history in short]
    _refuse_empty(counts, spans, settings, shape)
    learnt = [number for number in range(len(kept)) if any(len(places[split][number]) for split in LEARNT)]
    cut = [_until(kept[number], settings.train[0], settings.cutoff) for number in learnt]
    for history, _ in cut:
        _refuse_non_finite(history)
    arrays = pack(
        [history for history, _ in cut],
        {split: [places[split][n] - first for n, (_, first) in zip(learnt, cut, strict=True)] for split in LEARNT},
    )
    manifest = _manifest([kept[number].symbol for number in learnt], arrays, settings, spans)
    digest = _digest(arrays, manifest)
    return WindowSet(digest, arrays, {**manifest, "digest": digest}, tuple(counts), spans)


def sufficiency(windows: WindowSet) -> tuple[str, int]:
    """Whether there is enough to learn from, in words, and how many windows share no bar."""
    apart = _apart(windows.counts, "train", windows.manifest["lookback"] + windows.manifest["horizon"])
    if apart < ENOUGH_TO_TUNE:
        return f"{apart} windows that share no bar: too few to learn from, expect the base weights to stay best", apart
    if apart < ENOUGH_FROM_SCRATCH:
        return f"{apart} windows that share no bar: enough to fine-tune, too few from scratch", apart
    return f"{apart} windows that share no bar: enough", apart


def _apart(counts: Sequence[SymbolCount], split: LearntSplit, length: int) -> int:
    """How many windows of a split share no bar: a symbol's windows start one bar after the other."""
    return sum(-(-getattr(count, split) // length) for count in counts)


def regimes(arrays: Arrays, shape: Shape) -> pd.DataFrame:
    """Windows a split and a volatility regime: the thirds of the training windows' lookback volatility."""
    close = arrays["bars"][:, CLOSE].astype(np.float64) * arrays["factors"][:, 0]
    returns = np.diff(np.log(close), prepend=np.log(close[0]))
    returns[arrays["offsets"][:-1]] = 0.0
    energy = np.concatenate([[0.0], np.cumsum(returns**2)])
    volatility = {}
    for split in LEARNT:
        first = arrays[split][:, 1].astype(np.int64)
        volatility[split] = np.sqrt((energy[first + shape.lookback] - energy[first + 1]) / (shape.lookback - 1))
    low, high = np.quantile(volatility["train"], [1 / 3, 2 / 3])
    names = ("calm", "usual", "turbulent")
    counted = {split: np.bincount(np.digitize(v, [low, high]), minlength=3) for split, v in volatility.items()}
    bounds = (f"< {low:.2%}", f"{low:.2%} … {high:.2%}", f"≥ {high:.2%}")
    table = pd.DataFrame({"regime": names, "daily volatility of the lookback": bounds})
    return table.assign(train=counted["train"], validation=counted["validation"])


def _sessions(histories: Sequence[History]) -> np.ndarray:
    return np.unique(np.concatenate([history.days for history in histories]))


def _long_enough(
    histories: Mapping[str, History], settings: WindowSettings, shape: Shape
) -> tuple[list[History], list[History]]:
    kept = [history for history in histories.values() if len(history) >= shape.length]
    short = [history for history in histories.values() if len(history) < shape.length]
    counts = ", ".join(f"{history.symbol} {len(history)}" for history in short)
    if short and (settings.short_history == "refuse" or not kept):
        raise CandlecastError(
            f"too little history: {counts} bars, a window needs {shape.lookback} + {shape.horizon} = {shape.length}. "
            'Shorten windows.lookback_window, bring more bars, set windows.short_history = "exclude", or, if a symbol '
            "came by mistake, name the others in market.symbols or write its file with the header alone"
        )
    return kept, short


def _refuse_empty(
    counts: Sequence[SymbolCount], spans: Mapping[Split, Range], settings: WindowSettings, shape: Shape
) -> None:
    for split in LEARNT:
        if any(getattr(count, split) for count in counts):
            continue
        span = spans[split]
        raise CandlecastError(
            f"the {split} range {getattr(settings, split)[0]} … {span.last} holds 0 windows of {shape.lookback} + "
            f"{shape.horizon} bars (after an embargo of {settings.embargo} sessions). Bars of the symbols in all: "
            f"{_listed({count.symbol: count.bars for count in counts})}. "
            f"Widen windows.{split}, or shorten windows.lookback_window"
        )
    apart = {split: _apart(counts, split, shape.length) for split in LEARNT}
    for split in LEARNT:
        if apart[split] < FEWEST[split]:
            told = ", ".join(
                f"{name} {sum(getattr(count, name) for count in counts):,}, of them {apart[name]} that share no bar"
                for name in LEARNT
            )
            raise CandlecastError(
                f"too few windows of {shape.lookback} + {shape.horizon} bars: {told}; {split} needs {FEWEST[split]} "
                f"that share no bar. Widen windows.{split}, shorten windows.lookback_window, or bring more symbols"
            )
    if not any(count.origins for count in counts):
        raise CandlecastError(
            f"the test range {settings.test[0]} … {settings.test[1]} holds 0 origins with {shape.lookback} bars up to "
            f"them. Bars of the symbols in all: {_listed({count.symbol: count.bars for count in counts})}. "
            "Change windows.test, or bring bars of that time"
        )


def _listed(numbers: Mapping[str, int], most: int = 12) -> str:
    shown = ", ".join(f"{name} {number:,}" for name, number in list(numbers.items())[:most])
    return shown if len(numbers) <= most else f"{shown} and {len(numbers) - most} more"


def _until(history: History, first: date, last: date) -> tuple[History, int]:
    """The bars of the days `first` … `last`, and the row at which they begin."""
    days = history.days
    low = int(np.searchsorted(days, np.datetime64(first), side="left"))
    rows = slice(low, int(np.searchsorted(days, np.datetime64(last), side="right")))
    cut = replace(
        history,
        stamps=history.stamps[rows],
        quoted=history.quoted[rows],
        growth=history.growth[rows],
        shares=history.shares[rows],
        sessions=days[rows],
    )
    return cut, low


def _refuse_non_finite(history: History) -> None:
    wrong = ~np.isfinite(history.quoted[:, PRICES]).all(axis=1) | np.isinf(history.quoted).any(axis=1)
    wrong |= ~np.isfinite(history.growth) | ~np.isfinite(history.shares)
    if wrong.any():
        raise CandlecastError(
            f"{history.symbol} has {int(wrong.sum())} bars that are not finite, the first at "
            f"{history.stamps[np.argmax(wrong)]}: see the checks of the asset `bars`"
        )


def _manifest(
    symbols: list[str], arrays: Arrays, settings: WindowSettings, spans: Mapping[Split, Range]
) -> dict[str, Any]:
    return {
        "version": WINDOWS_VERSION,
        "lookback": settings.lookback_window,
        "horizon": settings.predict_window,
        "embargo": settings.embargo,
        "cutoff": settings.cutoff.isoformat(),
        "symbols": symbols,
        "rows": len(arrays["bars"]),
        **{
            split: {
                "first": spans[split].first.isoformat(),
                "last": spans[split].last.isoformat(),
                "windows": len(arrays[split]),
            }
            for split in LEARNT
        },
    }


def _digest(arrays: Arrays, manifest: Mapping[str, Any]) -> str:
    total = hashlib.sha256(digest_of(dict(manifest)).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype} {array.shape}".encode())
        total.update(array.view(np.uint8).data)
    return total.hexdigest()
