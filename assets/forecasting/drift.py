"""Whether the input of a forecast still looks like what the weights learnt from: coarse tokens, then and now.

The distance is the Jensen-Shannon divergence of two token histograms. How far is too far is calibrated on the
validation range: the distances of its own origins, each as a forecast would see it, all symbols together. A small
group differs from a large one by chance alone, so the limit is that of groups of as many symbols.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from assets import plots as pictures
from assets.forecasting.forecaster import Task
from kronos.features import complete_volume_amount
from kronos.normalisation import normalise, window_statistics

FEWEST_ORIGINS = 20
CHUNK = 256
_LIMIT = "#D55E00"
_MEASURED: dict[str, Any] = {"color": pictures.COLOURS["kronos"], "marker": ".", "markersize": 4}


class Reference(TypedDict):
    """What a predictor's card keeps: training counts of the coarse token, and how far validation origins are from them.

    `distances[n]` are those of groups of `sizes[n]` symbols, one an origin.
    """

    histogram: list[int]
    sizes: list[int]
    distances: list[list[float]]


@dataclass(frozen=True)
class Drift:
    """The distance of one origin's input from the training set."""

    distance: float
    threshold: float

    @property
    def drifted(self) -> bool:
        return self.distance > self.threshold

    @property
    def words(self) -> str:
        side = "beyond" if self.drifted else "within"
        advice = ": the market, or the data, has changed; look at the bars, then train on newer ones"
        return f"token distance {self.distance:.3f}, {side} {self.threshold:.3f}{advice if self.drifted else ''}"


def reference(train: np.ndarray, validation: np.ndarray, origins: np.ndarray, codes: int) -> Reference:
    """What is kept for later.

    Args:
        train: coarse tokens of training windows, any shape.
        validation: (n, lookback) coarse tokens of validation windows: of some origins, all that there are.
        origins: (n,) stamps of their last bars seen.
    """
    counts = np.bincount(np.asarray(train).ravel(), minlength=codes)
    groups = [np.flatnonzero(origins == day) for day in np.unique(origins)]
    # Shuffled once, so that the first few of a group are some of its symbols by chance.
    generator = np.random.default_rng(0)
    groups = [generator.permutation(group) for group in groups]
    sizes = _sizes(max((len(group) for group in groups), default=0))
    distances = [
        [
            distance(counts, np.bincount(validation[group[:size]].ravel(), minlength=codes))
            for group in groups
            if len(group) >= size
        ]
        for size in sizes
    ]
    return {"histogram": counts.tolist(), "sizes": sizes, "distances": distances}


@dataclass(frozen=True)
class Limits:
    """The distance beyond which input has drifted, by how many symbols there are of it.

    Attributes:
        sizes: numbers of symbols, rising.
        distances: the limit of each.
    """

    sizes: tuple[int, ...]
    distances: tuple[float, ...]

    def of(self, symbols: int) -> float:
        """The limit of so many symbols: between two sizes by their logarithms, beyond the largest that one's."""
        return float(np.interp(np.log(symbols), np.log(self.sizes), self.distances))


def limits(card: Mapping[str, Any], quantile: float) -> Limits | str:
    """From what distance on input has drifted from what a predictor learnt; or why that cannot be told, in words."""
    kept = card.get("scores", {}).get("drift")
    if kept is None or "sizes" not in kept:
        return "the weights keep no reference to measure by: train them here (predictor.epochs may be 0)"
    enough = [
        (size, float(np.quantile(found, quantile)))
        for size, found in zip(kept["sizes"], kept["distances"], strict=True)
        if len(found) >= FEWEST_ORIGINS
    ]
    if not enough:
        most = max(map(len, kept["distances"]), default=0)
        return (
            f"the weights were measured on {most} validation origins, and a limit needs {FEWEST_ORIGINS}: widen "
            "windows.validation and train them again"
        )
    sizes, beyond = zip(*enough, strict=True)
    return Limits(sizes, beyond)


def input_distances(
    card: Mapping[str, Any], tokenizer: Path, clip: float, lookback: int, tasks: Sequence[Task]
) -> dict[np.datetime64, float]:
    """The distance of every origin's input, all its symbols together, from the training set, by origin."""
    import torch

    from kronos import KronosTokenizer

    counts = np.asarray(card["scores"]["drift"]["histogram"])
    model = KronosTokenizer.from_pretrained(tokenizer)
    values = np.stack([_input(task, lookback, clip) for task in tasks])
    with torch.inference_mode():
        parts = [model.encode(part, half=True)[0].numpy() for part in torch.from_numpy(values).split(CHUNK)]
    tokens = np.concatenate(parts)
    origins = np.array([task.origin for task in tasks])
    return {
        day: distance(counts, np.bincount(tokens[origins == day].ravel(), minlength=len(counts)))
        for day in np.unique(origins)
    }


def input_digest(tasks: Sequence[Task], lookback: int) -> str:
    """A digest of the bars that some tasks see: what was measured once need not be again."""
    total = hashlib.sha256()
    for task in tasks:
        total.update(f"{task.symbol} {task.origin}".encode())
        total.update(np.ascontiguousarray(task.history.seen_from(task.index, task.index - lookback + 1)).data)
    return total.hexdigest()


def _input(task: Task, lookback: int, clip: float) -> np.ndarray:
    values = complete_volume_amount(task.history.seen_from(task.index, task.index - lookback + 1))
    mean, std = window_statistics(values, lookback)
    return normalise(values, mean, std, clip)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Jensen-Shannon divergence of two histograms in bits: 0 for the same, 1 for disjoint."""
    from kronos.diagnostics import histogram_drift

    return histogram_drift(one, other)


def draw(card: Mapping[str, Any], drifts: Mapping[np.datetime64, Drift], symbols: int) -> bytes:
    """Distances by origin against their limits, beside those of validation of about as many symbols, as PNG."""
    kept: Reference = card["scores"]["drift"]
    alike = int(np.argmin(np.abs(np.log(kept["sizes"]) - np.log(symbols))))
    with pictures.figure(6.4, 2.6) as drawn:
        history, now = drawn.subplots(1, 2, width_ratios=[1, 2], sharey=True)
        history.hist(kept["distances"][alike], bins=20, orientation="horizontal", color="#bbbbbb")
        history.set(title="Validation", xlabel="origins", ylabel="token distance, bits")
        days, limit = list(drifts), [drift.threshold for drift in drifts.values()]
        now.plot(days, [drift.distance for drift in drifts.values()], **_MEASURED)
        now.plot(days, limit, color=_LIMIT, linewidth=0.9, linestyle="--")
        for axis in (history, now):
            axis.axhline(limit[-1], color=_LIMIT, linewidth=0.9, linestyle=":")
        now.set(title="Input of the forecasts")
        return pictures.png(drawn)


def _sizes(most: int) -> list[int]:
    """1, 2, 4 … and the largest."""
    return sorted({1 << power for power in range(most.bit_length())} | {most}) if most else []
