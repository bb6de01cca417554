"""The key/value cache of one attention layer, and attention over it.

All paths of a series share its history, the prefix. Its keys and values are stored once per series; the queries of
the paths (and steps) are folded into one matrix that reads them once, instead of once per path. What a path itself
generated, the suffix, is attended to separately, and the two partial softmaxes are merged by their log-sum-exp,
which is exact up to rounding (as in FlashAttention's split-K, arXiv 2205.14135 and 2402.05099).
"""

from __future__ import annotations

import copy
import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from kronos.cpu_kernels import flash_attention

MIN_QUERIES = 4
"""With fewer queries, the last bits of the kernel's products depend on its scratch memory, hence on the batch."""
SHORT_SUFFIX = 16
"""Up to this many keys one elementwise pass is faster than kernels per path, whose cost is their launch (measured)."""


class PrefixStore(Protocol):
    """What a prefill writes to."""

    def fill(self, first: int, k: Tensor, v: Tensor) -> None:
        """Store the prefix of the series from `first` on: k and v (series, prefix, heads, dim)."""


class LayerCache:
    """The cache of one layer for `series` series of one length with `paths` paths each.

    With several paths the prefix (series, heads, prefix, dim) is shared and each path appends to its own
    suffix (steps, series · paths, heads, dim). With one path nothing is shared: the prefix tensor is allocated
    with `steps` further positions and grows.
    """

    def __init__(
        self, series: int, paths: int, prefix: int, steps: int, heads: int, head_dim: int, like: Tensor
    ) -> None:
        self.series, self.paths, self.prefix = series, paths, prefix
        capacity = prefix + (steps if paths == 1 else 0)
        self.keys, self.values = (like.new_empty(series, heads, capacity, head_dim) for _ in range(2))
        rows = series * paths
        self.path_keys, self.path_values = (
            like.new_empty(0 if paths == 1 else steps, rows, heads, head_dim) for _ in range(2)
        )
        self.length = 0
        """Steps that the paths have appended."""

    @staticmethod
    def bytes_needed(series: int, paths: int, prefix: int, steps: int, width: int, itemsize: int = 4) -> int:
        """Size of one layer's cache with `width` = heads · dim."""
        return 2 * series * (prefix + paths * steps) * width * itemsize

    def fill(self, first: int, k: Tensor, v: Tensor) -> None:
        """Store the prefix of the series from `first` on: k and v (series, prefix, heads, dim)."""
        last = first + k.shape[0]
        self.keys[first:last, :, : self.prefix] = k.transpose(1, 2)
        self.values[first:last, :, : self.prefix] = v.transpose(1, 2)

    def with_paths(self, paths: int) -> LayerCache:
        """The same prefix for another number of paths, 2 or more, without steps of their own."""
        other = copy.copy(self)
        other.paths = paths
        return other

    def append(self, k: Tensor, v: Tensor) -> None:
        """Store one step of every path: k and v (series · paths, heads, dim)."""
        if self.paths == 1:
            self.keys[:, :, self.prefix + self.length] = k
            self.values[:, :, self.prefix + self.length] = v
        else:
            self.path_keys[self.length] = k
            self.path_values[self.length] = v
        self.length += 1

    def append_block(self, k: Tensor, v: Tensor) -> None:
        """Store the first steps of every path: k and v (series · paths, steps, heads, dim)."""
        steps = k.shape[1]
        self.path_keys[:steps] = k.transpose(0, 1)
        self.path_values[:steps] = v.transpose(0, 1)
        self.length = steps

    def attend(self, q: Tensor) -> Tensor:
        """One query per path, q (series · paths, heads, dim), over all stored keys → same shape."""
        rows, heads, dim = q.shape
        if self.paths == 1:
            end = self.prefix + self.length
            out = attention(q.unsqueeze(2), self.keys[:, :, :end], self.values[:, :, :end])
            return out.reshape(rows, heads, dim)
        shared, shared_lse = self._attend_prefix(q.view(self.series, self.paths, heads, dim))
        shared, shared_lse = shared.reshape(rows, heads, dim), shared_lse.reshape(rows, heads)
        if self.length == 0:
            return shared
        k, v = self.path_keys[: self.length], self.path_values[: self.length]
        if self.length <= SHORT_SUFFIX:
            own, own_lse = short_attention(q, k, v)
        else:
            own, own_lse = partial_attention(q.unsqueeze(2), k.permute(1, 2, 0, 3), v.permute(1, 2, 0, 3))
            own, own_lse = own.view(rows, heads, dim), own_lse.view(rows, heads)
        return merge_attention(shared, shared_lse, own, own_lse)

    def attend_block(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Causal block of first steps, q, k, v (series · paths, steps, heads, dim), over the prefix and itself."""
        rows, steps, heads, dim = q.shape
        folded = q.reshape(self.series, self.paths * steps, heads, dim)
        shared, shared_lse = self._attend_prefix(folded)
        own, own_lse = partial_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), causal=True)
        return merge_attention(
            shared.reshape(rows, steps, heads, dim),
            shared_lse.reshape(rows, steps, heads),
            own.transpose(1, 2),
            own_lse.transpose(1, 2),
        )

    def _attend_prefix(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """q (series, queries, heads, dim) → output of that shape and log-sum-exp (series, queries, heads)."""
        keys, values = self.keys[:, :, : self.prefix], self.values[:, :, : self.prefix]
        out, lse = partial_attention(q.transpose(1, 2), keys, values)
        return out.transpose(1, 2), lse.transpose(1, 2)


def attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    """Softmax attention, shapes as for `partial_attention`."""
    if _uses_cpu_kernel(q):
        return partial_attention(q, k, v, causal=causal)[0]
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def partial_attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> tuple[Tensor, Tensor]:
    """Softmax attention and its log-sum-exp, so that results over different keys can be merged.

    q (batch, heads, queries, dim), k and v (batch, heads, keys, dim) → (batch, heads, queries, dim) and
    (batch, heads, queries). `causal` needs as many queries as keys.
    """
    if _uses_cpu_kernel(q):
        queries = q.shape[2]
        if causal or queries >= MIN_QUERIES:
            return flash_attention(q, k, v, causal)
        out, lse = flash_attention(F.pad(q, (0, 0, 0, MIN_QUERIES - queries)), k, v, causal)
        return out[:, :, :queries], lse[:, :, :queries].contiguous()
    scores = torch.matmul(q, k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1])
    if causal:
        masked = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(masked, -math.inf)
    lse = scores.logsumexp(dim=-1)
    return torch.matmul((scores - lse.unsqueeze(-1)).exp().to(v.dtype), v), lse


def short_attention(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Attention of one query per row over few keys: q (rows, heads, dim), k and v (keys, rows, heads, dim).

    Returns (rows, heads, dim) and the log-sum-exp (rows, heads).
    """
    scores = (k * q).sum(dim=-1).mul_(1.0 / math.sqrt(q.shape[-1]))
    lse = scores.logsumexp(dim=0)
    weights = (scores - lse).exp_()
    return (weights.unsqueeze(-1) * v).sum(dim=0), lse


def merge_attention(first: Tensor, first_lse: Tensor, second: Tensor, second_lse: Tensor) -> Tensor:
    """Attention over the union of two sets of keys: outputs (…, dim) and log-sum-exps (…)."""
    # Not torch.sigmoid and torch.lerp: on the CPU their last bit depends on an element's place in memory,
    # hence on the batch; that of exp and the plain operations does not.
    share = (second_lse - first_lse).exp_().add_(1.0).reciprocal_().unsqueeze(-1)
    return (first - second).mul_(share.to(first.dtype)).add_(second)


def _uses_cpu_kernel(q: Tensor) -> bool:
    return q.device.type == "cpu" and q.dtype == torch.float32
