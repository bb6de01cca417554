"""Memory-mapped training arrays: millions of windows without a copy of any.

A folder holds every bar once; a window is a row number. Prices are stored as quoted, with adjustment factors beside
them, and adjusted to the last bar of the lookback when a batch is built, exactly as for a forecast. Not here: which
windows there are (assets.training.data.windows).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from assets.forecasting.cross_section import MarketReturns
from assets.market.history import PRICES, VOLUME, BarHistory
from assets.training.data.splits import WindowShape
from kronos.features import FEATURES, time_features
from kronos.normalisation import Normalisation
from resources.errors import CandlecastError
from resources.settings import FitSettings

MANIFEST = "manifest.json"
FitSplit = Literal["train", "validation"]
Arrays = dict[str, np.ndarray]
AMOUNT = FEATURES.index("amount")
MIRRORED = [FEATURES.index(field) for field in ("open", "low", "high", "close")]


def pack_arrays(histories: list[BarHistory], splits: dict[FitSplit, list[np.ndarray]]) -> Arrays:
    """The arrays of a folder: the concatenated bars of all symbols, and the windows of each split.

    Args:
        histories: bars up to the cutoff, and none after it.
        splits: for each split, the start rows within each history.
    """
    offsets = np.cumsum([0, *(len(history) for history in histories)])
    arrays: Arrays = {
        "bars": np.concatenate([history.quoted for history in histories]).astype(np.float32),
        "factors": np.concatenate([np.column_stack([h.growth, h.shares]) for h in histories]),
        "stamps": np.concatenate([history.stamps for history in histories]).astype("datetime64[s]"),
        "offsets": offsets.astype(np.int64),
    }
    if any(history.filled is not None for history in histories):
        arrays["filled"] = np.concatenate([_filled(history) for history in histories])
    for split, starts in splits.items():
        owners = np.repeat(np.arange(len(starts)), [len(rows) for rows in starts])
        rows = np.concatenate(starts) + offsets[owners]
        arrays[split] = np.column_stack([owners, rows]).astype(np.int32 if offsets[-1] < 2**31 else np.int64)
    return arrays


def _filled(history: BarHistory) -> np.ndarray:
    return np.zeros(len(history), dtype=bool) if history.filled is None else history.filled


def write_arrays(folder: Path, arrays: Arrays, manifest: dict[str, Any]) -> None:
    """Write arrays and their manifest into an empty folder."""
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, default=str))


@dataclass(frozen=True)
class Augmentation:
    """Which training windows are augmented. Both are (n,) bool.

    Attributes:
        blind: volume and amount are missing: zero under the rule that the published models were trained with.
        mirrored: prices are reflected about their mean, so that rises become falls. Without it, a model learns the
            upward drift of its training years.
    """

    blind: np.ndarray
    mirrored: np.ndarray

    @classmethod
    def draw(cls, count: int, settings: FitSettings, seed: int) -> Augmentation:
        """Windows drawn at random with the shares `blind` and `mirror`: equal in every epoch and for every model."""
        blind, mirrored = (np.random.default_rng([seed, count, stream]).random(count) for stream in (5, 6))
        return cls(blind < settings.blind, mirrored < settings.mirror)

    def __getitem__(self, rows: np.ndarray | slice) -> Augmentation:
        return Augmentation(self.blind[rows], self.mirrored[rows])


@dataclass(frozen=True)
class WindowArrays:
    """A folder of training arrays, read memory-mapped."""

    folder: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads((self.folder / MANIFEST).read_text())
        return manifest

    @property
    def shape(self) -> WindowShape:
        return WindowShape(self.manifest["lookback"], self.manifest["horizon"])

    @property
    def symbols(self) -> list[str]:
        return list(self.manifest["symbols"])

    def windows(self, split: FitSplit) -> np.ndarray:
        """(n, 2) integers: the number of the symbol and the row of the first bar. Memory-mapped."""
        return self._map(split)

    @cached_property
    def bars(self) -> np.ndarray:
        """(rows, 6) float32 as quoted, NaN where the source has no volume or amount. Memory-mapped."""
        return self._map("bars")

    @cached_property
    def filled(self) -> np.ndarray | None:
        """(rows,) bool, rows that stand for missing bars; None: there are none. Memory-mapped."""
        return self._map("filled") if (self.folder / "filled.npy").is_file() else None

    @cached_property
    def offsets(self) -> np.ndarray:
        """(symbols + 1,) the row at which the bars of each symbol begin."""
        return self._map("offsets")

    @cached_property
    def factors(self) -> np.ndarray:
        """(rows, 2) float64: factors of prices (splits and dividends) and of shares (splits). Memory-mapped."""
        return self._map("factors")

    @cached_property
    def timestamps(self) -> np.ndarray:
        """(rows,) datetime64[s], the timestamp of each bar. Memory-mapped."""
        return self._map("stamps")

    @cached_property
    def market(self) -> MarketReturns:
        """The market returns up to the cutoff, of all symbols of the settings.

        Raises:
            CandlecastError: the windows were built without them.
        """
        if not (self.folder / "market_stamps.npy").is_file():
            raise CandlecastError(
                "chronos2.past_covariates: the training windows hold no market_return: materialise `training_windows`"
            )
        return MarketReturns(self._map("market_stamps"), self._map("market_returns"))

    @cached_property
    def _time_features(self) -> np.ndarray:
        return time_features(self.timestamps).astype(np.uint8)

    def rows(self, starts: np.ndarray) -> np.ndarray:
        """All rows of some windows: (n,) first rows → (n, length)."""
        return np.asarray(starts, dtype=np.int64)[:, None] + np.arange(self.shape.length)

    def adjusted(self, starts: np.ndarray) -> np.ndarray:
        """Windows adjusted to the last bar of their lookback: (n, length, 6) float64, NaN as in `bars`."""
        rows = self.rows(starts)
        factors = self.factors[rows]
        at_origin = factors[:, self.shape.lookback - 1][:, None]
        values: np.ndarray = self.bars[rows].astype(np.float64)
        values[..., PRICES] *= (factors[..., 0] / at_origin[..., 0])[..., None]
        values[..., VOLUME] *= at_origin[..., 1] / factors[..., 1]
        return values

    def normalised(
        self, starts: np.ndarray, rule: Normalisation, augmentation: Augmentation | None = None
    ) -> np.ndarray:
        """The input of the tokenizer: (n, length, 6) float32, z-scores with the lookback's mean and deviation."""
        values = self.adjusted(starts)
        if augmentation is not None:
            values[augmentation.blind, :, VOLUME : AMOUNT + 1] = np.nan
        normal, _, _ = rule.apply(values, self.shape.lookback)
        if augmentation is not None:
            # The mirrored high is the low, and the reverse.
            normal[augmentation.mirrored, :, PRICES] = -normal[augmentation.mirrored][:, :, MIRRORED]
        return normal

    def time_features(self, starts: np.ndarray) -> np.ndarray:
        """(n, length, 5) uint8: minute, hour, weekday, day, month."""
        features: np.ndarray = self._time_features[self.rows(starts)]
        return features

    def adjusted_rows(self, first: int, last: int) -> np.ndarray:
        """The rows `first` … `last` - 1, adjusted to the last of them: (last - first, 6) float64, NaN as in `bars`."""
        factors = self.factors[first:last]
        values: np.ndarray = self.bars[first:last].astype(np.float64)
        values[:, PRICES] *= (factors[:, 0] / factors[-1, 0])[:, None]
        values[:, VOLUME] *= factors[-1, 1] / factors[:, 1]
        return values

    def log_closes(self, first: int, last: int) -> np.ndarray:
        """Log closes of the rows `first` … `last` - 1, adjusted to the last of them: float64."""
        close = self.bars[first:last, FEATURES.index("close")].astype(np.float64)
        growth = self.factors[first:last, 0]
        log_closes: np.ndarray = np.log(close * (growth / growth[-1]))
        return log_closes

    def _map(self, name: str) -> np.ndarray:
        array: np.ndarray = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return array
