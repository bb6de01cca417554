"""The windows of the three splits, their counts and their content hash.

The hash covers the bars up to `windows.cutoff`, which can influence weights, and nothing later: a new bar of today
changes no hash, no recipe and no checkpoint. Settings that cannot work are refused here, before any training, with the
counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from assets.forecasting.cross_section import MarketReturns
from assets.market.gaps import without_filled
from assets.market.history import CLOSE, PRICES, BarHistory
from assets.training.data.dataset import Arrays, FitSplit, pack_arrays
from assets.training.data.eligible_windows import eligible_origins, eligible_windows, preparation
from assets.training.data.splits import SPLITS, Split, SplitRange, WindowShape, split_ranges
from resources.errors import CandlecastError
from resources.publish import digest_of
from resources.settings import WindowSettings

if TYPE_CHECKING:
    import pandas as pd

WINDOWS_VERSION = 1
FIT_SPLITS: tuple[FitSplit, ...] = ("train", "validation")
# Windows that share no bar. Fewer than the first cannot separate a good fit from chance, fewer than the second are too
# few for a model from scratch: the compact models here were trained on about 3,000.
ENOUGH_TO_TUNE, ENOUGH_FROM_SCRATCH = 20, 300
# With fewer, the windows are one period of one or two symbols, and training is refused.
FEWEST: Mapping[FitSplit, int] = {"train": 4, "validation": 2}


@dataclass(frozen=True)
class SymbolCount:
    """Bars, windows and origins of one symbol."""

    symbol: str
    bars: int
    train: int
    validation: int
    test: int
    origins: int
    note: str = ""


@dataclass(frozen=True)
class WindowSet:
    """Arrays of the windows of train and validation, and counts of all windows."""

    digest: str
    arrays: Arrays
    manifest: Mapping[str, Any]
    counts: tuple[SymbolCount, ...]
    ranges: Mapping[Split, SplitRange]

    def total(self, split: Split) -> int:
        return sum(getattr(count, split) for count in self.counts)

    @property
    def origins(self) -> int:
        return sum(count.origins for count in self.counts)

    def table(self) -> pd.DataFrame:
        """Counts, one row per symbol."""
        import pandas as pd

        return pd.DataFrame([vars(count) for count in self.counts])


def build_windows(
    histories: Mapping[str, BarHistory],
    settings: WindowSettings,
    needs_origins: bool = True,
    market: MarketReturns | None = None,
) -> WindowSet:
    """The windows of all symbols.

    Args:
        histories: complete histories; bars after the cutoff are counted and never stored.
        needs_origins: whether the test range must have an origin; a vintage is trained before there is one.
        market: the market returns up to the cutoff; None: no model reads them.

    Raises:
        CandlecastError: no bars; a symbol with too little history (unless `short_history` is "exclude"); bars that
            are not finite; a split with no windows, or too few; no origin in the test range.
    """
    if not histories:
        raise CandlecastError("there are no bars to train on: materialise the asset `bars` first")
    shape = WindowShape(settings.lookback_window, settings.predict_window)
    kept, short = _long_enough(histories, settings, shape)
    spans = split_ranges(settings, _sessions(kept))
    starts = {split: [eligible_windows(one, spans[split], settings) for one in kept] for split in SPLITS}
    origins = [eligible_origins(history, settings) for history in kept]
    counts = _counts(kept, short, starts, origins)
    _refuse_empty(counts, spans, settings, shape)
    if needs_origins:
        _refuse_no_origins(counts, settings, shape)
    used = [number for number in range(len(kept)) if any(len(starts[split][number]) for split in FIT_SPLITS)]
    cut = [_cut(kept[number], settings.train[0], settings.cutoff) for number in used]
    for history, _ in cut:
        _refuse_non_finite(history)
    arrays = pack_arrays(
        [history for history, _ in cut],
        {split: [starts[split][n] - first for n, (_, first) in zip(used, cut, strict=True)] for split in FIT_SPLITS},
    )
    if market is not None:
        arrays |= {"market_stamps": market.stamps, "market_returns": market.returns}
    manifest = _manifest([kept[number].symbol for number in used], arrays, settings, spans)
    digest = digest_of_arrays(arrays, manifest)
    return WindowSet(digest, arrays, {**manifest, "digest": digest}, tuple(counts), spans)


def sufficiency(windows: WindowSet) -> tuple[str, int]:
    """Whether the training windows are enough, as text, and the number of windows that share no bar."""
    disjoint = _disjoint(windows.counts, "train", windows.manifest["lookback"] + windows.manifest["horizon"])
    text = f"{disjoint} windows that share no bar: "
    if disjoint < ENOUGH_TO_TUNE:
        return f"{text}too few to train on, expect the base weights to remain the best", disjoint
    if disjoint < ENOUGH_FROM_SCRATCH:
        return f"{text}enough for fine-tuning, too few from scratch", disjoint
    return f"{text}enough", disjoint


def _counts(
    kept: Sequence[BarHistory],
    short: Sequence[BarHistory],
    starts: Mapping[Split, Sequence[np.ndarray]],
    origins: Sequence[np.ndarray],
) -> list[SymbolCount]:
    counts = [
        SymbolCount(
            symbol=history.symbol,
            bars=len(without_filled(history)),
            train=len(starts["train"][number]),
            validation=len(starts["validation"][number]),
            test=len(starts["test"][number]),
            origins=len(origins[number]),
            note="" if len(starts["train"][number]) else "unseen in training",
        )
        for number, history in enumerate(kept)
    ]
    return counts + [SymbolCount(history.symbol, len(history), 0, 0, 0, 0, "too short, left out") for history in short]


def _disjoint(counts: Sequence[SymbolCount], split: FitSplit, length: int) -> int:
    """The number of windows of a split that share no bar: the windows of a symbol start one bar after another."""
    return sum(-(-getattr(count, split) // length) for count in counts)


def volatility_regimes(arrays: Arrays, shape: WindowShape) -> pd.DataFrame:
    """Windows per split and volatility regime, which are thirds of the training windows' lookback volatility."""
    import pandas as pd

    close = arrays["bars"][:, CLOSE].astype(np.float64) * arrays["factors"][:, 0]
    returns = np.diff(np.log(close), prepend=np.log(close[0]))
    returns[arrays["offsets"][:-1]] = 0.0
    energy = np.concatenate([[0.0], np.cumsum(returns**2)])
    volatility = {}
    for split in FIT_SPLITS:
        first = arrays[split][:, 1].astype(np.int64)
        volatility[split] = np.sqrt((energy[first + shape.lookback] - energy[first + 1]) / (shape.lookback - 1))
    low, high = np.quantile(volatility["train"], [1 / 3, 2 / 3])
    names = ("low", "medium", "high")
    counted = {split: np.bincount(np.digitize(v, [low, high]), minlength=3) for split, v in volatility.items()}
    bounds = (f"< {low:.2%}", f"{low:.2%} … {high:.2%}", f"≥ {high:.2%}")
    table = pd.DataFrame({"regime": names, "daily volatility of the lookback": bounds})
    return table.assign(train=counted["train"], validation=counted["validation"])


def _sessions(histories: Sequence[BarHistory]) -> np.ndarray:
    return np.unique(np.concatenate([history.days for history in histories]))


def _long_enough(
    histories: Mapping[str, BarHistory], settings: WindowSettings, shape: WindowShape
) -> tuple[list[BarHistory], list[BarHistory]]:
    kept = [history for history in histories.values() if len(history) >= shape.length]
    short = [history for history in histories.values() if len(history) < shape.length]
    counts = ", ".join(f"{history.symbol} {len(history)}" for history in short)
    if short and (settings.short_history == "refuse" or not kept):
        raise CandlecastError(
            f"too little history: {counts} bars, a window needs {shape.lookback} + {shape.horizon} = {shape.length}. "
            'Shorten windows.lookback_window, add bars, set windows.short_history = "exclude", or, if a symbol is '
            "there by mistake, list the others in market.symbols or leave only the header in its file"
        )
    return kept, short


def _refuse_empty(
    counts: Sequence[SymbolCount], spans: Mapping[Split, SplitRange], settings: WindowSettings, shape: WindowShape
) -> None:
    for split in FIT_SPLITS:
        if any(getattr(count, split) for count in counts):
            continue
        span = spans[split]
        raise CandlecastError(
            f"the {split} range {getattr(settings, split)[0]} … {span.last} holds 0 windows of {shape.lookback} + "
            f"{shape.horizon} bars (after an embargo of {settings.embargo} sessions). Bars per symbol: "
            f"{_listed({count.symbol: count.bars for count in counts})}. "
            f"Widen windows.{split}, or shorten windows.lookback_window"
        )
    disjoint = {split: _disjoint(counts, split, shape.length) for split in FIT_SPLITS}
    for split in FIT_SPLITS:
        if disjoint[split] < FEWEST[split]:
            counted = ", ".join(
                f"{name} {sum(getattr(count, name) for count in counts):,}, {disjoint[name]} of them share no bar"
                for name in FIT_SPLITS
            )
            raise CandlecastError(
                f"too few windows of {shape.lookback} + {shape.horizon} bars: {counted}; {split} needs {FEWEST[split]} "
                f"that share no bar. Widen windows.{split}, shorten windows.lookback_window, or add symbols"
            )


def _refuse_no_origins(counts: Sequence[SymbolCount], settings: WindowSettings, shape: WindowShape) -> None:
    if not any(count.origins for count in counts):
        raise CandlecastError(
            f"the test range {settings.test[0]} … {settings.test[1]} holds 0 origins with {shape.lookback} bars up to "
            f"them. Bars per symbol: {_listed({count.symbol: count.bars for count in counts})}. "
            "Change windows.test, or add bars of that period"
        )


def _listed(numbers: Mapping[str, int], most: int = 12) -> str:
    shown = ", ".join(f"{name} {number:,}" for name, number in list(numbers.items())[:most])
    return shown if len(numbers) <= most else f"{shown} and {len(numbers) - most} more"


def _cut(history: BarHistory, first: date, last: date) -> tuple[BarHistory, int]:
    """The bars of the days `first` … `last`, and the row of the first of them."""
    days = history.days
    low = int(np.searchsorted(days, np.datetime64(first), side="left"))
    return history.rows(slice(low, int(np.searchsorted(days, np.datetime64(last), side="right")))), low


def _refuse_non_finite(history: BarHistory) -> None:
    wrong = ~np.isfinite(history.quoted[:, PRICES]).all(axis=1) | np.isinf(history.quoted).any(axis=1)
    wrong |= ~np.isfinite(history.growth) | ~np.isfinite(history.shares)
    if wrong.any():
        raise CandlecastError(
            f"{history.symbol} has {int(wrong.sum())} bars that are not finite, the first at "
            f"{history.stamps[np.argmax(wrong)]}: see the checks of the asset `bars`"
        )


def _manifest(
    symbols: list[str], arrays: Arrays, settings: WindowSettings, spans: Mapping[Split, SplitRange]
) -> dict[str, Any]:
    return {
        "version": WINDOWS_VERSION,
        "lookback": settings.lookback_window,
        "horizon": settings.predict_window,
        "embargo": settings.embargo,
        "cutoff": settings.cutoff.isoformat(),
        "symbols": symbols,
        "rows": len(arrays["bars"]),
        **preparation(settings),
        **{
            split: {
                "first": spans[split].first.isoformat(),
                "last": spans[split].last.isoformat(),
                "windows": len(arrays[split]),
            }
            for split in FIT_SPLITS
        },
    }


def digest_of_arrays(arrays: Arrays, manifest: Mapping[str, Any]) -> str:
    """SHA-256 over the manifest and every array: name, type, shape and values."""
    total = hashlib.sha256(digest_of(dict(manifest)).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype} {array.shape}".encode())
        total.update(array.view(np.uint8).data)
    return total.hexdigest()
