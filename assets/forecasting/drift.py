"""Input drift: the distance between the coarse tokens of a forecast's input and those of the training set.

The distance is the Jensen-Shannon divergence of two token histograms. Its limit is a quantile of the distances of the
origins of the validation range, all symbols of an origin together. A small group of symbols deviates from a large one
by chance, so the limit depends on the number of symbols.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from assets import plots as pictures
from assets.forecasting.forecaster import ForecastTask
from kronos.drift import histogram_drift
from kronos.normalisation import Normalisation
from resources.companion import CompanionFunction

MIN_ORIGINS = 20
WINDOWS_PER_BATCH = 256
# Lookbacks (n, lookback, 6) to their coarse tokens (n, lookback); and what loads it in this process or another one.
Encode = Callable[[np.ndarray], np.ndarray]
Place = Callable[[Callable[[], Encode]], Encode]
_LIMIT = "#D55E00"
_MEASURED: dict[str, Any] = {"color": pictures.COLOURS["kronos"], "marker": ".", "markersize": 4}


class DriftReference(TypedDict):
    """The drift reference on a predictor's card.

    `histogram`: counts of the coarse tokens of the training set. `distances[n]`: the distances of validation origins
    from it, for groups of `sizes[n]` symbols, one per origin.
    """

    histogram: list[int]
    sizes: list[int]
    distances: list[list[float]]


@dataclass(frozen=True)
class InputDrift:
    """The distance of one origin's input from the training set, and its limit."""

    distance: float
    threshold: float

    @property
    def drifted(self) -> bool:
        return self.distance > self.threshold

    @property
    def description(self) -> str:
        side = "above" if self.drifted else "within"
        advice = ": the market or the data has changed; check the bars, then train on newer ones"
        return f"token distance {self.distance:.3f}, {side} {self.threshold:.3f}{advice if self.drifted else ''}"


def drift_reference(train: np.ndarray, validation: np.ndarray, origins: np.ndarray, codes: int) -> DriftReference:
    """The drift reference of a predictor.

    Args:
        train: coarse tokens of training windows, any shape.
        validation: (n, lookback) coarse tokens of validation windows: all windows of each origin.
        origins: (n,) timestamps of the origins.
        codes: the number of coarse tokens.
    """
    counts = np.bincount(np.asarray(train).ravel(), minlength=codes)
    groups = [np.flatnonzero(origins == day) for day in np.unique(origins)]
    # Shuffled once, so that the first few of a group are a random choice of its symbols.
    generator = np.random.default_rng(0)
    groups = [generator.permutation(group) for group in groups]
    sizes = _group_sizes(max((len(group) for group in groups), default=0))
    distances = [
        [
            token_distance(counts, np.bincount(validation[group[:size]].ravel(), minlength=codes))
            for group in groups
            if len(group) >= size
        ]
        for size in sizes
    ]
    return {"histogram": counts.tolist(), "sizes": sizes, "distances": distances}


@dataclass(frozen=True)
class DriftLimits:
    """The distance above which input has drifted, by number of symbols.

    Attributes:
        sizes: numbers of symbols, increasing.
        distances: the limit for each.
    """

    sizes: tuple[int, ...]
    distances: tuple[float, ...]

    def of(self, symbols: int) -> float:
        """The limit for a number of symbols, interpolated over log size; above the largest size, the last limit."""
        return float(np.interp(np.log(symbols), np.log(self.sizes), self.distances))


def drift_limits(card: Mapping[str, Any], quantile: float) -> DriftLimits | str:
    """The limits of a predictor at a quantile of its validation distances; or the reason why there are none."""
    stored = card.get("scores", {}).get("drift")
    if stored is None or "sizes" not in stored:
        return "the card of the weights has no drift reference: train them here (predictor.epochs may be 0)"
    enough = [
        (size, float(np.quantile(found, quantile)))
        for size, found in zip(stored["sizes"], stored["distances"], strict=True)
        if len(found) >= MIN_ORIGINS
    ]
    if not enough:
        most = max(map(len, stored["distances"]), default=0)
        return (
            f"the card of the weights has {most} validation origins, and a limit needs {MIN_ORIGINS}: widen "
            "windows.validation and train again"
        )
    sizes, distances = zip(*enough, strict=True)
    return DriftLimits(sizes, distances)


def _here(load: Callable[[], Encode]) -> Encode:
    return load()


def input_token_distances(
    card: Mapping[str, Any],
    tokenizer: Path,
    clip: float,
    lookback: int,
    tasks: Sequence[ForecastTask],
    place: Place = _here,
) -> dict[np.datetime64, float]:
    """By origin, the distance of its input (all symbols together) from the training set."""
    counts = np.asarray(card["scores"]["drift"]["histogram"])
    tokens = input_tokens(tokenizer, clip, lookback, tasks, place)
    origins = np.array([task.origin for task in tasks])
    return {
        day: token_distance(counts, np.bincount(tokens[origins == day].ravel(), minlength=len(counts)))
        for day in np.unique(origins)
    }


def input_tokens(
    tokenizer: Path, clip: float, lookback: int, tasks: Sequence[ForecastTask], place: Place = _here
) -> np.ndarray:
    """The coarse tokens of the lookback of each task: (tasks, lookback) int64.

    Args:
        place: the process in which they are encoded; default: this one.
    """
    encode = place(partial(_load_encoder, tokenizer, clip, lookback))
    return np.concatenate([encode(part) for part in _lookbacks(tasks, lookback)])


def ask_tokens(tokenizer: Path, clip: float, lookback: int, tasks: Sequence[ForecastTask], place: Place) -> None:
    """Have another process encode what the same call of `input_tokens` will need; nothing if `place` is this one."""
    encode = place(partial(_load_encoder, tokenizer, clip, lookback))
    if isinstance(encode, CompanionFunction):
        for part in _lookbacks(tasks, lookback):
            encode.ask(part)


def _lookbacks(tasks: Sequence[ForecastTask], lookback: int) -> Iterator[np.ndarray]:
    """The bars that are encoded at once: (n, lookback, 6) each."""
    for first in range(0, len(tasks), WINDOWS_PER_BATCH):
        yield np.stack([_bars(task, lookback) for task in tasks[first : first + WINDOWS_PER_BATCH]])


def _load_encoder(tokenizer: Path, clip: float, lookback: int) -> Encode:
    import torch

    from kronos import KronosTokenizer

    model = KronosTokenizer.from_pretrained(tokenizer)
    rule = replace(model.normalisation or Normalisation(), clip=clip)

    def encode(bars: np.ndarray) -> np.ndarray:
        values = np.stack([rule.apply(each, lookback)[0] for each in bars])
        with torch.inference_mode():
            return np.asarray(model.encode(torch.from_numpy(values), half=True)[0].numpy())

    return encode


def input_digest(tasks: Sequence[ForecastTask], lookback: int) -> str:
    """The digest of the input bars of some tasks, under which their distances are cached."""
    total = hashlib.sha256()
    for task in tasks:
        total.update(f"{task.symbol} {task.origin}".encode())
        total.update(np.ascontiguousarray(_bars(task, lookback)).data)
    return total.hexdigest()


def _bars(task: ForecastTask, lookback: int) -> np.ndarray:
    return task.history.bars_as_of(task.index, task.index - lookback + 1)


def token_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Jensen-Shannon divergence of two histograms in bits: 0 for the same, 1 for disjoint."""
    return histogram_drift(one, other)


def validation_distances(card: Mapping[str, Any], symbols: int) -> list[float]:
    """The distances of the validation origins of a predictor, for about as many symbols."""
    stored: DriftReference = card["scores"]["drift"]
    return stored["distances"][int(np.argmin(np.abs(np.log(stored["sizes"]) - np.log(symbols))))]


def drift_chart(
    validation_range: Sequence[float], origins: np.ndarray, distances: np.ndarray, thresholds: np.ndarray
) -> bytes:
    """Distances and limits by origin, beside the distances of the validation range, as PNG."""
    with pictures.figure(6.4, 2.6) as drawn:
        validation, forecasts = drawn.subplots(1, 2, width_ratios=[1, 2], sharey=True)
        validation.hist(validation_range, bins=20, orientation="horizontal", color="#bbbbbb")
        validation.set(title="Validation range", xlabel="origins", ylabel="token distance, bits")
        forecasts.plot(origins, distances, **_MEASURED)
        forecasts.plot(origins, thresholds, color=_LIMIT, linewidth=0.9, linestyle="--")
        for axis in (validation, forecasts):
            axis.axhline(thresholds[-1], color=_LIMIT, linewidth=0.9, linestyle=":")
        forecasts.set(title="Input of the forecasts; dashed: limit")
        pictures.format_dates(forecasts, 6, least=3)
        return pictures.png(drawn)


def _group_sizes(most: int) -> list[int]:
    """Group sizes: powers of two below `most`, and `most`."""
    return sorted({1 << power for power in range(most.bit_length())} | {most}) if most else []
