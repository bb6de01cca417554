"""The series that Chronos-2 is fitted to: rows of targets and covariates of the training and the validation range.

Training series are there with their negatives, which remove the market's upward drift from the training set; except
where covariates are known over the horizon, whose effects have a direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from assets.forecasting.chronos2.input_settings import inputs_recipe
from assets.forecasting.chronos2.inputs import Chronos2Inputs
from assets.training.data.dataset import FitSplit, WindowArrays
from assets.training.data.splits import WindowShape
from assets.training.fit.lr_schedule import evenly_spaced
from resources.errors import CandlecastError
from resources.settings import Settings

if TYPE_CHECKING:
    from chronos.chronos2.dataset import PreparedInput

VALIDATION_SERIES = 512
# Rows of more windows than this take longer to compute than to learn from.
MOST_WINDOWS = 40_000


@dataclass(frozen=True)
class FitSeries:
    """What `fit` is given.

    Attributes:
        rows: of each series.
        shortest: bars before the horizon that a series must have.
    """

    train: Sequence[Any]
    validation: Sequence[Any]
    rows: int
    shortest: int


def fit_series(arrays: WindowArrays, settings: Settings, horizon: int) -> FitSeries:
    """The series for the targets and covariates of the settings.

    Args:
        horizon: steps that are fitted.

    Raises:
        CandlecastError: a row has no value, or every series is shorter than half the context and the horizon.
    """
    past = settings.chronos2.context_length // 2
    if not inputs_recipe(settings):
        return FitSeries(training_series(arrays, past + horizon), validation_series(arrays), 1, past)
    inputs = Chronos2Inputs.of(settings, lambda: arrays.market)
    if inputs.standardised:
        context = min(settings.chronos2.context_length, arrays.shape.lookback)
        shape = WindowShape(context, horizon)
        train = standardised_windows(arrays, inputs, "train", shape, fit_windows(settings), settings.seed)
        validation = standardised_windows(arrays, inputs, "validation", shape, VALIDATION_SERIES)
        return FitSeries(train, validation, len(train[0]["context"]), context)
    train = training_inputs(arrays, inputs, past + horizon)
    return FitSeries(train, validation_inputs(arrays, inputs), len(train[0]["context"]), past)


def fit_windows(settings: Settings) -> int:
    """Windows that rows are computed of before a fit: at most what it draws."""
    return min(settings.chronos2.steps * settings.chronos2.batch_size, MOST_WINDOWS)


def standardised_windows(
    arrays: WindowArrays,
    inputs: Chronos2Inputs,
    split: FitSplit,
    shape: WindowShape,
    most: int,
    seed: int | None = None,
) -> list[PreparedInput]:
    """Windows of the target standardised_close, whose rows depend on the origin: none is cut out of a series.

    Args:
        shape: bars up to the origin, at most those of the arrays' windows, and steps.
        seed: windows are drawn at random, and every other one is mirrored; None: evenly spaced, none is mirrored.

    Raises:
        CandlecastError: a close is not finite and positive, or a covariate is missing.
    """
    windows = arrays.windows(split)
    chosen = evenly_spaced(len(windows), most)
    if seed is not None:
        chosen = np.random.default_rng(seed).permutation(len(windows))[:most]
    mirrors = seed is not None and not inputs.future
    found = []
    for place, (number, first) in enumerate(np.asarray(windows[chosen]).tolist()):
        origin = first + arrays.shape.lookback
        begin, end = origin - shape.lookback, origin + shape.horizon
        stamps, bars = np.asarray(arrays.timestamps[begin:end]), arrays.adjusted_rows(begin, end)
        rows = inputs.window_rows(arrays.symbols[number], stamps, bars, shape.lookback, mirrors and place % 2 == 1)
        found.append(_prepared(rows, inputs, shape.horizon))
    return found


def training_series(arrays: WindowArrays, shortest: int) -> list[np.ndarray]:
    """Log adjusted closes of the training range and their negatives: two (n,) float32 arrays per symbol.

    Raises:
        CandlecastError: a value is not finite, or every series is shorter than `shortest`.
    """
    series: list[np.ndarray] = []
    for symbol, first, last in training_parts(arrays, shortest):
        closes = arrays.log_closes(first, last).astype(np.float32)
        if not np.isfinite(closes).all():
            raise CandlecastError(f"{symbol}: a close of the training range is not finite or not positive")
        series += [closes, -closes]
    return series


def training_parts(arrays: WindowArrays, shortest: int) -> list[tuple[str, int, int]]:
    """Symbol, first row and row after the last of each series of the training range.

    Raises:
        CandlecastError: every series is shorter than `shortest`.
    """
    windows = arrays.windows("train")
    parts: list[tuple[str, int, int]] = []
    for number, symbol in enumerate(arrays.symbols):
        own = windows[windows[:, 0] == number, 1]
        if not len(own):
            continue
        # Events that training leaves out cut the series; a smaller weight has no meaning here.
        is_cut = arrays.manifest.get("events") == "drop"
        for part in np.split(own, np.flatnonzero(np.diff(own) > 1) + 1) if is_cut else [own]:
            first, last = int(part[0]), int(part[-1]) + arrays.shape.length
            if last - first >= shortest:
                parts.append((symbol, first, last))
    if not parts:
        raise CandlecastError(
            f"no symbol has {shortest} bars in the training range: lower chronos2.context_length or widen windows.train"
        )
    return parts


def training_inputs(arrays: WindowArrays, inputs: Chronos2Inputs, shortest: int) -> list[PreparedInput]:
    """The rows of targets and covariates of the training range: one or two series per symbol or part of it.

    Raises:
        CandlecastError: a row has no value, or every series is shorter than `shortest`.
    """
    series: list[np.ndarray] = []
    for symbol, first, last in training_parts(arrays, shortest):
        stamps = np.asarray(arrays.timestamps[first:last])
        rows = inputs.training_rows(symbol, stamps, arrays.adjusted_rows(first, last), len(stamps))
        mirrored = inputs.mirrored(rows)
        series += [rows] if mirrored is None else [rows, mirrored]
    return [_prepared(rows, inputs, arrays.shape.horizon) for rows in series]


def validation_inputs(arrays: WindowArrays, inputs: Chronos2Inputs) -> list[PreparedInput]:
    """The rows of validation windows, whose last part is the horizon."""
    windows, length = arrays.windows("validation"), arrays.shape.length
    chosen = windows[evenly_spaced(len(windows), VALIDATION_SERIES)].tolist()
    found = []
    for number, first in chosen:
        stamps, bars = (
            np.asarray(arrays.timestamps[first : first + length]),
            arrays.adjusted_rows(first, first + length),
        )
        rows = inputs.training_rows(arrays.symbols[number], stamps, bars, arrays.shape.lookback)
        found.append(_prepared(rows, inputs, arrays.shape.horizon))
    return found


def _prepared(rows: np.ndarray, inputs: Chronos2Inputs, horizon: int) -> PreparedInput:
    """Rows as `fit` takes them; it cuts the horizon, and what is known over it, out of them."""
    return {
        "context": torch.from_numpy(rows),
        "future_covariates": torch.full((len(rows), horizon), torch.nan),
        "n_targets": len(inputs.targets),
        "n_covariates": len(rows) - len(inputs.targets),
        "n_future_covariates": len(inputs.future),
    }


def validation_series(arrays: WindowArrays, most: int = VALIDATION_SERIES) -> list[np.ndarray]:
    """Log adjusted closes of validation windows: (length,) float32 each, whose last part is the horizon."""
    starts = arrays.windows("validation")[:, 1]
    chosen = starts[evenly_spaced(len(starts), most)]
    return [arrays.log_closes(int(s), int(s) + arrays.shape.length).astype(np.float32) for s in chosen]
