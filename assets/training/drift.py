"""Whether the input of a forecast still looks like what the weights learnt from: coarse tokens, then and now.

The distance is the Jensen-Shannon divergence of two token histograms. How far is too far is calibrated on the
validation range: the distances of its own origins, each as a forecast would see it, all symbols together. Small
groups differ from a large one by chance alone, and the calibration holds that chance too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from assets import pictures
from assets.forecasts.forecaster import Task
from kronos.features import complete_volume_amount
from kronos.normalisation import normalise, window_statistics

FEWEST_ORIGINS = 20
CHUNK = 256


class Reference(TypedDict):
    """What a predictor's card keeps: training counts of the coarse token, and the distances of validation origins."""

    histogram: list[int]
    distances: list[float]


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
        validation: (n, lookback) coarse tokens of validation windows.
        origins: (n,) stamps of their last bars seen.
    """
    counts = np.bincount(np.asarray(train).ravel(), minlength=codes)
    days = np.unique(origins)
    distances = [distance(counts, np.bincount(validation[origins == day].ravel(), minlength=codes)) for day in days]
    return {"histogram": counts.tolist(), "distances": distances}


def threshold(card: Mapping[str, Any], quantile: float) -> float | None:
    """The distance beyond which input has drifted from what a predictor learnt.

    None: its card keeps no reference, or one from too few origins to calibrate.
    """
    kept: Reference | None = card.get("scores", {}).get("drift")
    if kept is None or len(kept["distances"]) < FEWEST_ORIGINS:
        return None
    return float(np.quantile(kept["distances"], quantile))


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


def draw(card: Mapping[str, Any], measured: Mapping[np.datetime64, float], beyond: float) -> bytes:
    """Distances by origin against the threshold, with those of validation beside them, as PNG."""
    kept: Reference = card["scores"]["drift"]
    with pictures.figure(6.4, 2.6) as drawn:
        history, now = drawn.subplots(1, 2, width_ratios=[1, 2], sharey=True)
        history.hist(kept["distances"], bins=20, orientation="horizontal", color="#bbbbbb")
        history.set(title="Validation", xlabel="origins", ylabel="token distance, bits")
        now.plot(list(measured), list(measured.values()), color=pictures.COLOURS["kronos"], marker=".", markersize=4)
        for axis in (history, now):
            axis.axhline(beyond, color="#D55E00", linewidth=0.9, linestyle="--")
        now.set(title="Input of the forecasts")
        return pictures.png(drawn)
