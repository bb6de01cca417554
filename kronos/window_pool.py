"""Forecasts from several windows of one history, pooled: more history than one window holds, or several lengths of it.

A window ends at the origin. Its bars are those of the history, or aggregates of `scale` of them, which reach `scale`
times as far back. Each window is normalised by itself and draws an equal share of the paths; all paths together are
the forecast, a linear opinion pool (Stone, 1961) with equal weights. Paths of a window with a scale are those of the
last bars as they are, moved so that they meet an independent path of aggregated bars at every `scale`-th step, as in
forecasts of temporal hierarchies (Athanasopoulos et al., 2017).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kronos.errors import InputError
from kronos.features import FEATURES
from kronos.path_forecast import FirstStepLaw, PathResult
from kronos.validation import SeriesInput, check_integer

CLOSE, VOLUME = FEATURES.index("close"), FEATURES.index("volume")
FEWEST_BARS = 2

# (series, horizon, paths, one seed per series) → paths
Sample = Callable[[Sequence[SeriesInput], int, int, Sequence[int]], PathResult]


class Window(NamedTuple):
    """The last `bars` bars of a history, each the aggregate of `scale` of its bars."""

    bars: int
    scale: int = 1


def check_windows(
    windows: Sequence[int | tuple[int, int]], *, horizon: int, paths: int, max_context: int, project: bool
) -> list[Window]:
    """The windows as `Window`s. Raises InputError for one that cannot be used, naming it."""
    checked = [Window(*one) if isinstance(one, tuple) else Window(one) for one in windows]
    if not 1 <= len(checked) <= paths:
        raise InputError(f"{len(checked)} windows for sample_count={paths}: give 1 or more, and a path for each")
    for window in checked:
        bars, scale = check_integer("windows: bars", window.bars), check_integer("windows: scale", window.scale)
        if not FEWEST_BARS <= bars <= max_context:
            raise InputError(f"{window}: bars must lie in {FEWEST_BARS}…max_context={max_context}")
        if not 1 <= scale <= horizon:
            raise InputError(f"{window}: scale must lie in 1…pred_len={horizon}, the steps that are forecast")
        if scale > 1 and not project:
            raise InputError(f"{window}: a scale needs project=True: paths are moved by ratios of positive prices")
    return checked


def pooled_paths(
    sample: Sample,
    inputs: Sequence[SeriesInput],
    horizon: int,
    paths: int,
    seeds: Sequence[int],
    windows: Sequence[Window],
) -> PathResult:
    """Paths of all windows, in their order; of n paths and w windows the first n mod w draw one path more.

    A single window without a scale draws what a forecast of the last bars alone draws with the same seeds.
    """
    shares = [paths // len(windows) + (place < paths % len(windows)) for place in range(len(windows))]
    own = [seeds if place == 0 else _derived(seeds, f"window {place}") for place in range(len(windows))]
    parts = [
        _window_paths(sample, inputs, horizon, share, seed, window)
        for share, seed, window in zip(shares, own, windows, strict=True)
    ]
    rate = sum(part.projection_rate * np.float32(share / paths) for part, share in zip(parts, shares, strict=True))
    return PathResult(
        np.concatenate([part.paths for part in parts], axis=1),
        np.asarray(rate, dtype=np.float32),
        parts[0].projected,
        np.concatenate([part.tokens for part in parts], axis=1),
        first_step=_pooled_first_step([part.first_step for part in parts], [share / paths for share in shares]),
    )


def _pooled_first_step(parts: Sequence[FirstStepLaw | None], shares: Sequence[float]) -> FirstStepLaw | None:
    """The mixture of the windows' first steps; None where one is not known."""
    known = [(part, share) for part, share in zip(parts, shares, strict=True) if part is not None]
    if len(known) < len(parts):
        return None
    return FirstStepLaw(
        np.concatenate([part.values for part, _ in known], axis=1),
        np.concatenate([part.probabilities * share for part, share in known], axis=1),
        np.sum([part.exact * share for part, share in known], axis=0),
    )


def aggregate_bars(values: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    """Bars (rows, 6) as bars of `scale` rows each, counted back from the last: (rows // scale, 6).

    The first open, the highest high, the lowest low, the last close, the sums of volume and amount.
    """
    blocks = values[len(values) % scale :].reshape(-1, scale, len(FEATURES))
    prices = blocks[:, 0, 0], blocks[..., 1].max(axis=1), blocks[..., 2].min(axis=1), blocks[:, -1, CLOSE]
    return np.column_stack([*prices, blocks[..., VOLUME:].sum(axis=1)])


def _window_paths(
    sample: Sample, inputs: Sequence[SeriesInput], horizon: int, paths: int, seeds: Sequence[int], window: Window
) -> PathResult:
    """The paths of one window; `tokens` are those of the bars as they are."""
    last = [replace(one, values=one.values[-window.bars :], x_stamps=one.x_stamps[-window.bars :]) for one in inputs]
    fine = sample(last, horizon, paths, seeds)
    if window.scale == 1 or not inputs:
        return fine
    coarse = sample(
        [_aggregated(one, window) for one in inputs], horizon // window.scale, paths, _derived(seeds, "aggregated")
    )
    rate = (fine.projection_rate + coarse.projection_rate) * np.float32(0.5)
    moved = moved_to(fine.paths, coarse.paths, window.scale)
    return replace(fine, paths=moved, projection_rate=rate, first_step=None)


def _aggregated(series: SeriesInput, window: Window) -> SeriesInput:
    """The series' aggregated bars, each with the calendar features of its last bar."""
    values = aggregate_bars(series.values, window.scale)[-window.bars :]
    if len(values) < FEWEST_BARS:
        raise InputError(
            f"series {series.name}: {len(series.values)} bars are {len(values)} of {window.scale}: {window} needs "
            f"{FEWEST_BARS * window.scale} or more; pass a longer history or leave this window out"
        )
    stamps = series.x_stamps[::-1][:: window.scale][: len(values)][::-1]
    return replace(series, values=values, x_stamps=stamps, y_stamps=series.y_stamps[window.scale - 1 :: window.scale])


def moved_to(fine: NDArray[np.float32], coarse: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    """Paths of bars (series, path, step, 6) whose close at every `scale`-th step is that of the aggregated `coarse`.

    Prices of a bar are multiplied by one factor, whose logarithm is linear in the step between two of these closes and
    constant after the last. Volume and amount are multiplied so that their sums are those of the aggregated bars.
    """
    steps, blocks = fine.shape[2], coarse.shape[2]
    wide = fine.astype(np.float64)
    ends = wide[:, :, scale - 1 : blocks * scale : scale, CLOSE]
    knots = np.log(coarse[..., CLOSE] / ends)
    place = np.arange(1, steps + 1) / scale
    # Hat functions: the weight of each block's end at each step; before the first block the factor is 1.
    hats = np.maximum(0, 1 - np.abs(np.minimum(place, blocks)[:, None] - np.arange(1, blocks + 1)))
    wide[..., : CLOSE + 1] *= np.exp(knots @ hats.T)[..., None]
    traded = wide[:, :, : blocks * scale, VOLUME:]
    split = traded.reshape(*traded.shape[:2], blocks, scale, 2)
    total = split.sum(axis=3, keepdims=True)
    factor = np.divide(coarse[..., VOLUME:][..., None, :], total, out=np.ones_like(total), where=total > 0)
    wide[:, :, : blocks * scale, VOLUME:] = (split * factor).reshape(traded.shape)
    return wide.astype(np.float32)


def _derived(seeds: Sequence[int], role: str) -> list[int]:
    """Seeds of further draws of the same series."""
    digests = (hashlib.blake2b(f"{seed}|{role}".encode(), digest_size=16).digest() for seed in seeds)
    return [int.from_bytes(digest, "little") for digest in digests]
