"""Chronos-2's forward passes on arrays: series in, quantiles out, in batches of one shape.

The rounding of a matrix product depends on its shape, and a forecast must not depend on the series beside it. So every
batch has the same number of rows, padded where series are missing; within one shape, neither the place of a series nor
its neighbours change a bit. Not here: what the rows hold (inputs), and what quantiles mean (the forecaster).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from resources.quantile_levels import SETTING, LevelRule, require_levels

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline


@dataclass(frozen=True)
class Series:
    """The input of one forecast.

    Attributes:
        context: (rows, n) float32: targets, then covariates; NaN where a value is missing.
        future: (rows, steps) float32: covariates that are known over the horizon, else NaN; None: there are none.
        group: series of one group are forecast together; None: alone.
        scale: the unit of the target's quantiles, per bar and root of the step; NaN: they have their own.
    """

    context: np.ndarray
    future: np.ndarray | None = None
    group: Hashable = None
    scale: float = np.nan


@dataclass(frozen=True)
class SeriesForecaster:
    """Chronos-2's quantiles of the targets of some series.

    Attributes:
        targets: rows of each series that are forecast, the first ones.
        steps: at most what the weights forecast in one pass.
        series_at_once: series per batch. A larger group has batches of a multiple.
    """

    pipeline: Chronos2Pipeline
    targets: int
    steps: int
    levels: Sequence[float]
    series_at_once: int

    def __post_init__(self) -> None:
        known = self.pipeline.quantiles
        require_levels(self.levels, SETTING, LevelRule(min(known), max(known), "these Chronos-2 weights"))

    def quantiles(self, series: Sequence[Series]) -> np.ndarray:
        """(series, targets, steps, levels) float64, not sorted. All series have the same rows."""
        found = np.empty((len(series), self.targets, self.steps, len(self.levels)))
        for numbers, groups in self._batches(series):
            found[numbers] = self._forward([series[number] for number in numbers], groups)
        return found

    def _batches(self, series: Sequence[Series]) -> Iterator[tuple[list[int], list[int]]]:
        """Numbers of series that are forecast in one batch, and the number of the group of each.

        Only series of one length are in a batch, as its shape depends on it, and groups are never split.
        """
        groups: dict[Hashable, list[int]] = {}
        for number, one in enumerate(series):
            groups.setdefault((number,) if one.group is None else one.group, []).append(number)
        by_length: dict[int, list[list[int]]] = {}
        for members in groups.values():
            by_length.setdefault(max(self._length(series[number]) for number in members), []).append(members)
        for same in by_length.values():
            batch: list[list[int]] = []
            for members in same:
                if batch and sum(map(len, batch)) + len(members) > self.series_at_once:
                    yield _numbered(batch)
                    batch = []
                batch.append(members)
            yield _numbered(batch)

    def _length(self, one: Series) -> int:
        """The bars of a series, in whole patches up to the model's context."""
        patch: int = self.pipeline.model_output_patch_size
        most: int = self.pipeline.model_context_length
        length: int = one.context.shape[1]
        padded: int = min(math.ceil(length / patch) * patch, most)
        return max(length, padded)

    def _forward(self, series: Sequence[Series], groups: Sequence[int]) -> np.ndarray:
        import torch
        from chronos.utils import interpolate_quantiles

        rows, model = len(series[0].context), self.pipeline.model
        size = math.ceil(len(series) / self.series_at_once) * self.series_at_once
        padded = [*series, *[series[-1]] * (size - len(series))]
        numbers = [*groups, *range(max(groups) + 1, max(groups) + 1 + size - len(series))]
        length = max(self._length(one) for one in series)
        context = np.full((size, rows, length), np.nan, dtype=np.float32)
        for place, one in enumerate(padded):
            context[place, :, length - one.context.shape[1] :] = one.context
        future = None
        if series[0].future is not None:
            future = torch.from_numpy(np.concatenate([one.future for one in padded if one.future is not None]))
        with torch.inference_mode():
            predicted = model(
                context=torch.from_numpy(context.reshape(size * rows, length)).to(model.device),
                group_ids=torch.from_numpy(np.repeat(numbers, rows)).to(model.device),
                future_covariates=None if future is None else future.to(model.device),
                num_output_patches=math.ceil(self.steps / self.pipeline.model_output_patch_size),
            ).quantile_preds
            ours = predicted.float().cpu()[..., : self.steps].transpose(1, 2)
            known = self.pipeline.quantiles
            if set(self.levels) <= set(known):
                ours = ours[..., [known.index(level) for level in self.levels]]
            else:
                ours = interpolate_quantiles(list(self.levels), known, ours)
        by_series: np.ndarray = ours.numpy().reshape(size, rows, self.steps, len(self.levels))
        return by_series[: len(series), : self.targets]


def _numbered(batch: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    numbers = [number for members in batch for number in members]
    return numbers, [place for place, members in enumerate(batch) for _ in members]
