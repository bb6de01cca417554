"""Drawing tokens: one stream of uniform numbers per series, turned into tokens by inverting the cumulative sum.

With uniforms instead of torch's multinomial a draw depends on its own row alone, and costs a twentieth on the CPU;
sorting values without indices by numpy costs a sixteenth of torch.sort there.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kronos.errors import InputError, InputWarning
from kronos.validation import check_integer, check_number

MIN_TEMPERATURE = 1e-30
"""Below it logits would overflow float32 when divided; sampling is greedy long before."""


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


def warn_about_sampling(sampling: Sampling) -> None:
    """Warn where `top_p` has no effect because `top_k` is given."""
    if not sampling.greedy and sampling.top_k > 0 and sampling.top_p < 1.0:
        warnings.warn(
            f"top_p={sampling.top_p} is not used beside top_k={sampling.top_k}, as published: pass top_k=0 to use it, "
            "or top_p=1",
            InputWarning,
            stacklevel=2,
        )


def uniform_draws(seeds: Sequence[int], paths: int, steps: int) -> Tensor:
    """Each series' own random stream: (series, paths, steps, 2) in [0, 1), float32.

    Philox keyed by the seed, filled path by path, so that asking for more paths keeps the first ones.
    """
    streams = np.empty((len(seeds), paths, steps, 2), dtype=np.float32)
    for row, seed in enumerate(seeds):
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
        generator.random(dtype=np.float32, out=streams[row])
    return torch.from_numpy(streams)


def sample_tokens(logits: Tensor, uniform: Tensor, sampling: Sampling) -> Tensor:
    """Token ids (rows,) from logits (rows, vocabulary) and uniforms (rows,) in [0, 1)."""
    if sampling.greedy:
        return logits.argmax(dim=-1)
    if sampling.temperature != 1.0:
        logits = logits / sampling.temperature
    if sampling.top_k > 0:
        least = logits.topk(min(sampling.top_k, logits.shape[-1]), dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    weights = logits.softmax(dim=-1)
    if sampling.top_k == 0 and sampling.top_p < 1.0:
        weights = weights.masked_fill(weights < nucleus_threshold(weights, sampling.top_p), 0.0)
    cumulative = weights.cumsum(dim=-1)
    total = cumulative[:, -1:]
    # u · total may round up to total, which lies in no token's interval.
    target = torch.minimum(uniform.unsqueeze(-1) * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)


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
