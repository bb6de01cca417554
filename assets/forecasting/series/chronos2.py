"""Chronos-2 as a model of any series: rows of targets and covariates, in batches of fixed shapes.

The rounding of a matrix product depends on its shape, and that of a sum over the rows of a series on their place among
the lanes of the processor. So series of one length and one number of rows share a batch, each begins at a multiple of a
power of two, and the batch is filled up with copies: the bits of a forecast are the same with one series and with
thousands. A horizon beyond the model's pass is forecast one series at a time.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from assets.forecasting.chronos2.pipeline import suitable_series_at_once
from assets.forecasting.forecaster import at_levels
from assets.forecasting.series.about import ModelAbout
from assets.forecasting.series.series import Series, SeriesError

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline

# Lengths per doubling of the number of patches: each has a batch of its own.
LENGTHS = 4


@dataclass(frozen=True)
class _Rows:
    """The rows of a series as chronos reads them, and the units of its targets: (targets, 1), both."""

    prepared: Any
    centre: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True)
class Chronos2Model:
    """Chronos-2: any number of targets and covariates, marginal quantiles."""

    about: ModelAbout
    pipeline: Chronos2Pipeline
    covariates: bool = True

    @property
    def levels(self) -> tuple[float, float]:
        return min(self.pipeline.quantiles), max(self.pipeline.quantiles)

    @property
    def steps(self) -> int:
        return int(self.pipeline.model_prediction_length)

    @property
    def context(self) -> int:
        return int(self.pipeline.model_context_length)

    def quantiles(self, series: Sequence[Series], levels: np.ndarray) -> list[np.ndarray | SeriesError]:
        found: list[np.ndarray | SeriesError] = [SeriesError("not forecast")] * len(series)
        rows: dict[int, _Rows] = {}
        shapes: dict[tuple[int, ...], list[int]] = {}
        for place, one in enumerate(series):
            try:
                rows[place] = self._rows(one)
            except ValueError as error:
                found[place] = SeriesError(f"{self.about.model} cannot read it: {error}")
                continue
            context = rows[place].prepared["context"]
            shape = (*context.shape, len(one.targets), rows[place].prepared["n_future_covariates"], one.horizon)
            shapes.setdefault(shape, []).append(place)
        for shape, places in shapes.items():
            size = self._series_at_once(shape[0], shape[1], shape[-1])
            for start in range(0, len(places), size):
                batch = places[start : start + size]
                for place, own in zip(batch, self._predict([rows[one] for one in batch], size, shape), strict=True):
                    # Neighbouring quantiles cross in a few per cent of pairs.
                    ordered = np.sort(own.astype(np.float64).transpose(0, 2, 1), axis=-1)
                    values = at_levels(ordered, self.pipeline.quantiles, levels.tolist())
                    found[place] = np.asarray(values * rows[place].scale[..., None] + rows[place].centre[..., None])
        return found

    def _rows(self, series: Series) -> _Rows:
        import torch
        from chronos.chronos2.preprocess import from_list_of_dicts

        window = slice(-self.context, None)
        targets, centre, scale = _standardised(series.targets[:, window])
        past, future = {}, {}
        for name, values in series.past.items():
            past[name], *used = _standardised(values[window])
            if name in series.future:
                future[name] = _standardised(series.future[name], *used)[0]
        item: dict[str, Any] = {"target": targets, "past_covariates": past, "future_covariates": future}
        # Of each series alone: chronos numbers the categories of all that it is given.
        (prepared,) = from_list_of_dicts([item], series.horizon)
        context = prepared["context"]
        padding = torch.full((len(context), self._length(context.shape[1]) - context.shape[1]), torch.nan)
        prepared["context"] = torch.cat([padding, context], dim=1)
        return _Rows(prepared, centre, scale)

    def _predict(self, rows: Sequence[_Rows], size: int, shape: tuple[int, ...]) -> list[np.ndarray]:
        """The model's own quantiles of some series, each (targets, levels, horizon)."""
        filled = [one for own in [*rows, *[rows[-1]] * (size - len(rows))] for one in _aligned(own.prepared, size)]
        with warnings.catch_warnings():
            # The notes of the forecast state it.
            warnings.filterwarnings("ignore", message="We recommend keeping prediction length")
            made = self.pipeline.predict(filled, prediction_length=shape[-1], batch_size=size * _width(shape[0]))
        return [one.numpy() for one in made[:: len(filled) // size][: len(rows)]]

    def _length(self, timestamps: int) -> int:
        """Timestamps of a context: whole patches, and of long ones `LENGTHS` numbers of them per doubling."""
        patch = int(self.pipeline.model_output_patch_size)
        patches = math.ceil(timestamps / patch)
        step = max(1, (1 << (patches.bit_length() - 1)) // LENGTHS)
        return max(timestamps, min(math.ceil(patches / step) * step * patch, self.context))

    def _series_at_once(self, rows: int, context: int, horizon: int) -> int:
        if horizon > self.steps:
            return 1
        model = self.pipeline.model
        weights = sum(one.numel() for one in model.parameters())
        return max(1, suitable_series_at_once(weights, context, model.device.type) // _width(rows))


def _width(rows: int) -> int:
    """The rows that a series takes in a batch: the next power of two."""
    return 1 << (rows - 1).bit_length()


def _aligned(prepared: Any, size: int) -> list[Any]:
    """The rows of a series, and the rows after them that make the next one begin at a multiple of `_width`."""
    import torch

    count = _width(len(prepared["context"])) - len(prepared["context"])
    if size == 1 or not count:
        return [prepared]
    own = {name: prepared[name][:1].repeat(count, 1) for name in ("context", "future_covariates")}
    own["future_covariates"] = torch.full_like(own["future_covariates"], torch.nan)
    return [prepared, {**own, "n_targets": count, "n_covariates": 0, "n_future_covariates": 0}]


def _standardised(
    values: np.ndarray, centre: np.ndarray | None = None, scale: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values with mean 0 and deviation 1 as float32, and both; categories as they are.

    The model standardises too, but in float32, which holds seven digits: 1e9 + 1 would be 1e9.
    """
    if values.dtype == object:
        return values, np.zeros(1), np.ones(1)
    if centre is None or scale is None:
        known = np.isfinite(values)
        count = np.maximum(known.sum(axis=-1, keepdims=True), 1)
        low = np.min(values, axis=-1, keepdims=True, where=known, initial=np.inf)
        high = np.max(values, axis=-1, keepdims=True, where=known, initial=-np.inf)
        constant = ~(low < high)
        size = np.where(known.any(axis=-1, keepdims=True), np.maximum(np.abs(low), np.abs(high)), 1.0)
        unit = np.where(size > 0, size, 1.0)
        mean = np.where(known, values / unit, 0.0).sum(axis=-1, keepdims=True) / count
        spread = np.sqrt(np.where(known, (values / unit - mean) ** 2, 0.0).sum(axis=-1, keepdims=True) / count)
        centre = np.where(constant, np.where(np.isfinite(low), low, 0.0), mean * unit)
        scale = np.where(constant | (spread == 0), 1.0, spread * unit)
    return ((values - centre) / scale).astype(np.float32), centre, scale
