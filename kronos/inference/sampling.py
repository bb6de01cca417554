"""Drawing tokens: one stream of uniform numbers per series, turned into tokens by inverting the cumulative sum.

The paths of a series can be stratified: their uniforms are the points of a Sobol sequence, shifted at random, and
coarse tokens are ordered by the close that they stand for, so that neighbouring uniforms give neighbouring closes. Each
path is then a draw from the model's distribution as before, but together they cover it evenly (randomised quasi-Monte
Carlo; L'Ecuyer, 2018, doi 10.1007/978-3-319-91436-7_2).

With uniforms instead of torch's multinomial a draw depends on its own row alone, and costs a twentieth on the CPU;
sorting values without indices by numpy costs a sixteenth of torch.sort there.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kronos.errors import InputError, InputWarning
from kronos.validation import check_integer, check_number

MIN_TEMPERATURE = 1e-30
"""Below it logits would overflow float32 when divided; sampling is greedy long before."""

Draws = Literal["stratified", "independent"]
"""How the paths of a series relate: they cover the distribution evenly, or are independent of each other."""
SOBOL_DIMENSIONS = 64
"""Draws of a path that are stratified: those of the coarse tokens first. In more dimensions few points are not even."""
SOBOL_BITS = 24
"""Of a uniform: float32 has no more."""


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn. temperature 0 or top_k 1 is greedy; top_k > 0 switches top_p off, as published.

    Forecasts to be scored as probabilities need top_p = 1: truncation narrows every path.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        check_number("temperature T", self.temperature)
        check_integer("top_k", self.top_k)
        check_number("top_p", self.top_p)
        if not self.temperature >= 0 or not np.isfinite(self.temperature):
            raise InputError(f"temperature T={self.temperature} must be a finite number, 0 or more")
        if self.top_k < 0:
            raise InputError(f"top_k={self.top_k} must be 0 (off) or more")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p={self.top_p} must lie in (0, 1]")

    @property
    def greedy(self) -> bool:
        return self.temperature < MIN_TEMPERATURE or self.top_k == 1


def check_draws(draws: str) -> None:
    """Raise InputError where `draws` is unknown."""
    if draws not in get_args(Draws):
        raise InputError(f"draws={draws!r} is none of {', '.join(get_args(Draws))}")


def warn_about_sampling(sampling: Sampling) -> None:
    """Warn where `top_p` has no effect because `top_k` is given."""
    if not sampling.greedy and sampling.top_k > 0 and sampling.top_p < 1.0:
        warnings.warn(
            f"top_p={sampling.top_p} is not used beside top_k={sampling.top_k}, as published: pass top_k=0 to use it, "
            "or top_p=1",
            InputWarning,
            stacklevel=2,
        )


def draw_uniforms(seeds: Sequence[int], paths: int, steps: int, *, stratified: bool) -> Tensor:
    """`uniform_draws` or `stratified_draws`."""
    return (stratified_draws if stratified else uniform_draws)(seeds, paths, steps)


def uniform_draws(seeds: Sequence[int], paths: int, steps: int) -> Tensor:
    """Each series' own random stream: (series, paths, steps, 2) in [0, 1), float32.

    Philox keyed by the seed, filled path by path, so that asking for more paths keeps the first ones.
    """
    streams = np.empty((len(seeds), paths, steps, 2), dtype=np.float32)
    for row, seed in enumerate(seeds):
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
        generator.random(dtype=np.float32, out=streams[row])
    return torch.from_numpy(streams)


def stratified_draws(seeds: Sequence[int], paths: int, steps: int) -> Tensor:
    """`uniform_draws` whose first dimensions are Sobol points, shifted by a random number of each series.

    The coarse tokens' draws of all steps are the first dimensions, the fine ones' the next, up to SOBOL_DIMENSIONS;
    others are independent. Each uniform is uniform by itself, and asking for more paths keeps the first ones.
    """
    streams = uniform_draws(seeds, paths, steps).numpy()
    dimensions = min(2 * steps, SOBOL_DIMENSIONS)
    points = sobol_points(paths, dimensions)
    half, step = np.divmod(np.arange(dimensions), steps)
    for row, seed in enumerate(seeds):
        # A key of its own: the same stream is used for the other dimensions.
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(1,))))
        shift = generator.integers(1 << SOBOL_BITS, size=dimensions, dtype=np.int64)
        streams[row][:, step, half] = (points ^ shift) * np.float32(2.0**-SOBOL_BITS)
    return torch.from_numpy(streams)


@lru_cache(maxsize=8)
def sobol_points(points: int, dimensions: int) -> NDArray[np.int64]:
    """The first points of a Sobol sequence (points, dimensions), each coordinate an integer of SOBOL_BITS bits."""
    drawn = torch.quasirandom.SobolEngine(dimensions, scramble=False).draw(points, dtype=torch.float64)
    return (drawn.numpy() * (1 << SOBOL_BITS)).astype(np.int64)


def sample_tokens(logits: Tensor, uniform: Tensor, sampling: Sampling, order: Tensor | None = None) -> Tensor:
    """Token ids (rows,) from logits (rows, vocabulary) and uniforms (rows,) in [0, 1).

    `order` (rows, vocabulary) lists each row's tokens in the order in which a growing uniform draws them; None: that of
    their ids.
    """
    if sampling.greedy:
        return logits.argmax(dim=-1)
    cumulative = token_weights(logits if order is None else logits.gather(-1, order), sampling).cumsum(dim=-1)
    total = cumulative[:, -1:]
    # u · total may round up to total, which lies in no token's interval.
    target = torch.minimum(uniform.unsqueeze(-1) * total, torch.nextafter(total, torch.zeros_like(total)))
    drawn = torch.searchsorted(cumulative, target, right=True)
    return (drawn if order is None else order.gather(-1, drawn)).squeeze(-1)


def token_weights(logits: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities with which tokens are drawn, up to a factor: logits (rows, vocabulary) → same shape."""
    if sampling.greedy:
        best = logits.argmax(dim=-1, keepdim=True)
        return torch.zeros_like(logits).scatter_(-1, best, 1.0)
    if sampling.temperature != 1.0:
        logits = logits / sampling.temperature
    if sampling.top_k > 0:
        least = logits.topk(min(sampling.top_k, logits.shape[-1]), dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    weights = logits.softmax(dim=-1)
    if sampling.top_k == 0 and sampling.top_p < 1.0:
        weights = weights.masked_fill(weights < nucleus_threshold(weights, sampling.top_p), 0.0)
    return weights


def nucleus_threshold(weights: Tensor, top_p: float) -> Tensor:
    """Smallest probability in the nucleus: weights (rows, vocabulary) → (rows, 1).

    The nucleus is the smallest set of most likely tokens whose sum exceeds top_p; ties at its edge are all included.
    """
    if weights.device.type == "cpu":
        descending = torch.from_numpy(np.sort(weights.numpy(), axis=-1)).flip(-1)
    else:
        descending = weights.sort(dim=-1, descending=True).values
    before = descending[:, :-1].cumsum(dim=-1)
    last = (before <= top_p).sum(dim=-1, keepdim=True)
    return descending.gather(-1, last)
