"""Training arrays on disk, memory-mapped: millions of windows without copying one.

A folder holds every bar once; a window is a row number. Prices are stored as quoted, with the growth of splits and
dividends beside them, and carried into the terms of the lookback's last bar when a batch is made, exactly as a
forecast sees them. Not here: which windows there are (assets.training.data.windows).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from assets.market.history import PRICES, VOLUME, History
from assets.training.data.splits import Shape
from kronos.features import FEATURES, complete_volume_amount, time_features
from kronos.normalisation import Normalisation, normalise, window_statistics
from resources.settings import FitSettings

MANIFEST = "manifest.json"
LearntSplit = Literal["train", "validation"]
Arrays = dict[str, np.ndarray]
AMOUNT = FEATURES.index("amount")
MIRRORED = [FEATURES.index(field) for field in ("open", "low", "high", "close")]


def pack(histories: list[History], splits: dict[LearntSplit, list[np.ndarray]]) -> Arrays:
    """The arrays of a folder: the bars of all symbols below each other, and the windows of each split.

    Args:
        histories: what may reach weights, and nothing later.
        splits: for each split, one array of start rows a history, counted within that history.
    """
    offsets = np.cumsum([0, *(len(history) for history in histories)])
    arrays: Arrays = {
        "bars": np.concatenate([history.quoted for history in histories]).astype(np.float32),
        "factors": np.concatenate([np.column_stack([h.growth, h.shares]) for h in histories]),
        "stamps": np.concatenate([history.stamps for history in histories]).astype("datetime64[s]"),
        "offsets": offsets.astype(np.int64),
    }
    for split, starts in splits.items():
        owners = np.repeat(np.arange(len(starts)), [len(rows) for rows in starts])
        rows = np.concatenate(starts) + offsets[owners]
        arrays[split] = np.column_stack([owners, rows]).astype(np.int32 if offsets[-1] < 2**31 else np.int64)
    return arrays


def write(folder: Path, arrays: Arrays, manifest: dict[str, Any]) -> None:
    """Fill an empty folder."""
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, default=str))


@dataclass(frozen=True)
class Augmented:
    """Which training windows are changed before they are learnt from. Both are (n,) bool.

    Attributes:
        blind: volume and amount are zeroed, as the published models were trained.
        mirrored: prices are turned over in their own mean, so that what rose falls: without it, a model learns the
            rise of its years as if it went on.
    """

    blind: np.ndarray
    mirrored: np.ndarray

    @classmethod
    def drawn(cls, count: int, settings: FitSettings, seed: int) -> Augmented:
        """The windows chosen by `blind` and `mirror`: the same ones in every epoch and stage."""
        blind, mirrored = (np.random.default_rng([seed, count, stream]).random(count) for stream in (5, 6))
        return cls(blind < settings.blind, mirrored < settings.mirror)

    def __getitem__(self, rows: np.ndarray | slice) -> Augmented:
        return Augmented(self.blind[rows], self.mirrored[rows])


@dataclass(frozen=True)
class WindowArrays:
    """A folder of training arrays, opened for reading."""

    folder: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.folder / MANIFEST).read_text())

    @property
    def shape(self) -> Shape:
        return Shape(self.manifest["lookback"], self.manifest["horizon"])

    @property
    def symbols(self) -> list[str]:
        return list(self.manifest["symbols"])

    def windows(self, split: LearntSplit) -> np.ndarray:
        """(n, 2) integers: the symbol's number and the row of the first bar. Memory-mapped."""
        return self._map(split)

    @cached_property
    def bars(self) -> np.ndarray:
        """(rows, 6) float32 as quoted, NaN where the source has no volume or amount. Memory-mapped."""
        return self._map("bars")

    @cached_property
    def _factors(self) -> np.ndarray:
        return self._map("factors")

    @cached_property
    def stamps(self) -> np.ndarray:
        return self._map("stamps")

    @cached_property
    def _stamp_features(self) -> np.ndarray:
        return time_features(self.stamps).astype(np.uint8)

    def rows(self, starts: np.ndarray) -> np.ndarray:
        """(n,) first rows → (n, length) rows."""
        return np.asarray(starts, dtype=np.int64)[:, None] + np.arange(self.shape.length)

    def seen(self, starts: np.ndarray) -> np.ndarray:
        """Windows in the prices and shares of their lookback's last bar, complete: (n, length, 6) float64."""
        rows = self.rows(starts)
        factors = self._factors[rows]
        at_origin = factors[:, self.shape.lookback - 1][:, None]
        values = self.bars[rows].astype(np.float64)
        values[..., PRICES] *= (factors[..., 0] / at_origin[..., 0])[..., None]
        values[..., VOLUME] *= at_origin[..., 1] / factors[..., 1]
        return complete_volume_amount(values)

    def normalised(self, starts: np.ndarray, rule: Normalisation, changed: Augmented | None = None) -> np.ndarray:
        """Windows as the tokenizer reads them: (n, length, 6) float32, z-scores of the lookback."""
        values = self.seen(starts)
        if changed is not None:
            values[changed.blind, :, VOLUME : AMOUNT + 1] = 0.0
        mean, std = window_statistics(values, self.shape.lookback)
        normal = normalise(values, mean, std, rule.clip, rule.epsilon)
        if changed is not None:
            # The highest of the mirrored prices was the lowest.
            normal[changed.mirrored, :, PRICES] = -normal[changed.mirrored][:, :, MIRRORED]
        return normal

    def stamp_features(self, starts: np.ndarray) -> np.ndarray:
        """(n, length, 5) uint8: minute, hour, weekday, day, month."""
        return self._stamp_features[self.rows(starts)]

    def log_closes(self, first: int, last: int) -> np.ndarray:
        """Log adjusted closes of the rows `first` … `last` (outside), in the terms of the last: float64."""
        close = self.bars[first:last, FEATURES.index("close")].astype(np.float64)
        growth = self._factors[first:last, 0]
        return np.log(close * (growth / growth[-1]))

    def _map(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")
