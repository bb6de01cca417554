"""Whether the input of a forecast still looks like what the weights learnt from: coarse tokens, then and now.

The distance is the Jensen-Shannon divergence of two token histograms. How far is too far is calibrated on the
validation range: the distances of its own origins, each as a forecast would see it, all symbols together. Small
groups differ from a large one by chance alone, and the calibration holds that chance too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from assets import pictures

FEWEST_ORIGINS = 20


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


def measure(card: Mapping[str, Any], tokens: np.ndarray, quantile: float) -> Drift | None:
    """How far the coarse tokens of one origin's inputs, (symbols, lookback), are from the training set.

    None: the card keeps no reference (published weights), or one from too few origins to calibrate.
    """
    kept: Reference | None = card.get("scores", {}).get("drift")
    if kept is None or len(kept["distances"]) < FEWEST_ORIGINS:
        return None
    counts = np.asarray(kept["histogram"])
    now = np.bincount(np.asarray(tokens).ravel(), minlength=len(counts))
    return Drift(distance(counts, now), float(np.quantile(kept["distances"], quantile)))


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Jensen-Shannon divergence of two histograms in bits: 0 for the same, 1 for disjoint."""
    from kronos.diagnostics import histogram_drift

    return histogram_drift(one, other)


def draw(card: Mapping[str, Any], measured: Sequence[tuple[np.datetime64, Drift]]) -> bytes:
    """Distances by origin against the threshold, with those of validation beside them, as PNG."""
    kept: Reference = card["scores"]["drift"]
    with pictures.figure(6.4, 2.6) as drawn:
        history, now = drawn.subplots(1, 2, width_ratios=[1, 2], sharey=True)
        history.hist(kept["distances"], bins=20, orientation="horizontal", color="#bbbbbb")
        history.set(title="Validation", xlabel="origins", ylabel="token distance, bits")
        now.plot([m[0] for m in measured], [m[1].distance for m in measured], color=pictures.COLOURS["kronos"])
        for axis in (history, now):
            axis.axhline(measured[-1][1].threshold, color="#D55E00", linewidth=0.9, linestyle="--")
        now.set(title="Input of the forecasts")
        return pictures.png(drawn)
