"""The distribution of the first bar after a history, read off the model without sampling.

The coarse token's probabilities and the fine token's given each coarse one are two heads' outputs, so that the
probability of every pair is known. A pair's bar depends on the history's tokens too: the decoder reads the history
once, and each pair as a path of one step after it. The likeliest pairs are decoded one by one; the others, of which
there may be a million, are represented by evenly spaced ones among them, so that no probability is lost (optimal
resampling; Fearnhead and Clifford, 2003, doi 10.1111/1467-9868.00421).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from kronos.features import FEATURES
from kronos.inference.batching import EncodedHistories
from kronos.inference.engine import PredictorEngine, TokenizerEngine
from kronos.inference.generate import window_start
from kronos.inference.histories import check_histories, encoded_histories
from kronos.inference.sampling import Sampling, token_weights, warn_about_sampling
from kronos.normalisation import denormalise
from kronos.path_forecast import FirstStepLaw, price_floor, project_bars

if TYPE_CHECKING:
    from kronos.inference.pipeline import PathSampler

CLOSE = FEATURES.index("close")
POINTS = 256
"""Pairs that are decoded. Of the packaged weights' 65,536 pairs the likeliest 256 have 96 to 99 % of all."""
ORDERED = 256
"""Coarse tokens that are ordered by their close; less likely ones come last, by id."""
PAIRS_AT_ONCE = 1 << 20
THREADS = {"cuda": 8}
"""On a GPU, series whose distributions are found side by side: what the CPU does of it takes most of the time."""

Engines: TypeAlias = tuple[PredictorEngine, TokenizerEngine]


class FirstStep(NamedTuple):
    """What the model says about the first bar of some series, see `FirstStepLaw`."""

    order: Tensor  # (series, 2**s1_bits) coarse tokens by the close of their likeliest bar
    bars: NDArray[np.float32]  # (series, POINTS, 6) as decoded, in the units of the bars
    probabilities: NDArray[np.float64]  # (series, POINTS)
    exact: NDArray[np.float64]  # (series,)


def with_order(
    sampler: PathSampler, engines: Engines, known: EncodedHistories, horizon: int, sampling: Sampling, law: FirstStepLaw
) -> EncodedHistories:
    """The histories with the order of their coarse tokens; their first bars are stored in `law`."""
    found = first_step(sampler, engines, known, horizon, sampling)
    law.fill(known.members, found.bars, found.probabilities, found.exact)
    return known._replace(order=found.order)


def first_step(
    sampler: PathSampler, engines: Engines, known: EncodedHistories, horizon: int, sampling: Sampling
) -> FirstStep:
    """The first bar of a forecast over `horizon` steps, on which the tokens that are read depend in long histories."""
    at_once = max(1, PAIRS_AT_ONCE >> (sampler.model.s1_bits + sampler.model.s2_bits))
    threads = THREADS.get(sampler.device.type, 1)
    with ThreadPoolExecutor(threads) as pool:
        run = pool.map if threads > 1 else map
        parts = list(run(lambda part: _first_step(sampler, engines, part, horizon, sampling), known.in_parts(at_once)))
    order, *rest = zip(*parts, strict=True)
    return FirstStep(torch.cat(order), *(np.concatenate(arrays) for arrays in rest))


@torch.inference_mode()
def first_step_law(
    sampler: PathSampler,
    values: Sequence[ArrayLike],
    x_stamps: Sequence[ArrayLike],
    sampling: Sampling,
    *,
    project: bool = True,
    names: Sequence[str] | None = None,
) -> FirstStepLaw:
    """The distribution of the first bar after each history; arrays as for `PathSampler.sample_paths`.

    Raises InputError naming the series, field and row.
    """
    inputs = check_histories(sampler, values, x_stamps, names, valid_bars=project)
    warn_about_sampling(sampling)
    engines, law = sampler.engines(), FirstStepLaw.empty(len(inputs), POINTS)
    for known in encoded_histories(sampler, inputs):
        with_order(sampler, engines, known, 1, sampling, law)
    if project and len(inputs):
        law.values[:] = project_bars(law.values, np.array([price_floor(one.values) for one in inputs]))[0]
    return law


@torch.inference_mode()  # which holds for one thread
def _first_step(
    sampler: PathSampler, engines: Engines, known: EncodedHistories, horizon: int, sampling: Sampling
) -> FirstStep:
    predictor, tokenizer = engines
    device = known.s1.device
    start, _ = window_start(known.s1.shape[1], 0, horizon, sampler.max_context, sampler.overflow)
    joint, likeliest = _pair_weights(predictor, known, start, sampling)
    series, coarse, fine = joint.shape
    ordered = np.argsort(-joint.sum(axis=2), axis=1, kind="stable")[:, :ORDERED]
    history = slice(horizon - sampler.max_context, None)  # the window of the paths' decoder
    caches = tokenizer.history_caches(known.s1[:, history], known.s2[:, history])

    def bars(s1: NDArray[np.intp], s2: NDArray[np.intp]) -> NDArray[np.float32]:
        z = tokenizer.decode_first(caches, torch.from_numpy(s1).to(device), torch.from_numpy(s2).to(device))
        return z.float().cpu().numpy()

    closes = bars(ordered, np.take_along_axis(likeliest, ordered, axis=1))[..., CLOSE]
    ordered = np.take_along_axis(ordered, np.argsort(closes, axis=1, kind="stable"), axis=1)
    order = np.stack([np.r_[one, np.setdiff1d(np.arange(coarse), one)] for one in ordered])
    found = [spread_points(joint[row][order[row]].ravel(), POINTS) for row in range(series)]
    places, probabilities = (np.stack(part) for part in zip(*(one[:2] for one in found), strict=True))
    z = bars(np.take_along_axis(order, places // fine, axis=1), places % fine)
    decoded = denormalise(z, known.mean, known.std, sampler.normalisation.epsilon)
    return FirstStep(torch.from_numpy(order).to(device), decoded, probabilities, np.array([one[2] for one in found]))


def _pair_weights(
    predictor: PredictorEngine, known: EncodedHistories, start: int, sampling: Sampling
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Probabilities (series, coarse, fine) of the next pair, and the likeliest fine token of each coarse one."""
    s1, s2 = known.s1[:, start:], known.s2[:, start:]
    (series, length), coarse = s1.shape, len(predictor.s1_table)
    caches = predictor.new_caches(series, coarse, length, 0)
    context = predictor.prefill(s1, s2, predictor.time_emb(known.stamps[:, start : start + length]), caches)
    ids = torch.arange(coarse, device=s1.device).repeat(series)
    logits = predictor.s2_logits(context.repeat_interleave(coarse, dim=0), ids, [caches])
    given = token_weights(logits, sampling).view(series, coarse, -1).cpu().numpy().astype(np.float64)
    weights = token_weights(predictor.s1_logits(context), sampling).cpu().numpy().astype(np.float64)
    weights /= weights.sum(axis=1, keepdims=True)
    joint: NDArray[np.float64] = given * (weights[..., None] / given.sum(axis=2, keepdims=True))
    return joint, given.argmax(axis=2)


def spread_points(
    probabilities: NDArray[np.float64], points: int
) -> tuple[NDArray[np.intp], NDArray[np.float64], float]:
    """`points` places of a distribution (places,) that represent it, their weights, and what they represent exactly.

    Places more likely than a threshold keep their probability; the others share one weight, evenly spaced in their own
    cumulative sum, so that no part of the order is left out. With fewer places than points some are listed twice, with
    weight 0.
    """
    total = probabilities.sum()
    if len(probabilities) <= points:
        repeated = np.arange(points) % len(probabilities)
        return repeated, np.where(np.arange(points) < len(probabilities), probabilities[repeated] / total, 0.0), 1.0
    largest = np.argpartition(-probabilities, points)[:points]
    largest = largest[np.argsort(-probabilities[largest], kind="stable")]
    sizes = probabilities[largest] / total
    rest = np.maximum(1.0 - np.r_[0.0, np.cumsum(sizes)[:-1]], 0.0)
    kept = int(np.argmax(sizes * np.arange(points, 0, -1) <= rest * (1 + 1e-12)))
    others = probabilities / total
    others[largest[:kept]] = 0.0
    cumulative = np.cumsum(others)
    count, weight = points - kept, cumulative[-1] / (points - kept)
    spread = np.searchsorted(cumulative, (np.arange(count) + 0.5) * weight)
    places = np.r_[largest[:kept], np.minimum(spread, len(others) - 1)]
    return places, np.r_[sizes[:kept], np.full(count, weight)], float(sizes[:kept].sum())
