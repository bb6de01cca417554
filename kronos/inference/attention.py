"""Attention of many paths over one shared prefix, in two parts that are merged exactly.

All paths of a series have the same history. Its keys and values are stored once a series; the paths' (and
steps') queries are folded into one matrix that reads them once, instead of once a path. What the paths
themselves generated is attended to apart, and the two partial softmaxes are merged by their log-sum-exp,
which is exact up to rounding (as in FlashAttention's split-K, arXiv 2205.14135 and 2402.05099).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# Of fewer queries, the last bits of the kernel's products depend on where its scratch memory lies, hence on the batch.
FEWEST_QUERIES = 4
# Below this many keys one elementwise pass beats per-path kernels, whose cost is their launch (measured).
SHORT_SUFFIX = 16


def partial_attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> tuple[Tensor, Tensor]:
    """Softmax attention and its log-sum-exp, so that parts over different keys can be merged.

    q (batch, heads, queries, dim), k and v (batch, heads, keys, dim) → (batch, heads, queries, dim) and
    (batch, heads, queries). `causal` needs as many queries as keys.
    """
    if q.device.type == "cpu" and q.dtype == torch.float32:
        queries = q.shape[2]
        if causal or queries >= FEWEST_QUERIES:
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal)
        more = F.pad(q, (0, 0, 0, FEWEST_QUERIES - queries))
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(more, k, v, 0.0, causal)
        return out[:, :, :queries], lse[:, :, :queries].contiguous()
    scores = torch.matmul(q, k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1])
    if causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(hidden, -math.inf)
    lse = scores.logsumexp(dim=-1)
    return torch.matmul((scores - lse.unsqueeze(-1)).exp().to(v.dtype), v), lse


def attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    """Plain softmax attention, shapes as for `partial_attention`."""
    if q.device.type == "cpu" and q.dtype == torch.float32:
        return partial_attention(q, k, v, causal=causal)[0]
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def short_attention(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """One query a row over few keys: q (rows, heads, dim), k and v (keys, rows, heads, dim).

    Returns (rows, heads, dim) and the log-sum-exp (rows, heads).
    """
    scores = (k * q).sum(dim=-1).mul_(1.0 / math.sqrt(q.shape[-1]))
    lse = scores.logsumexp(dim=0)
    weights = (scores - lse).exp_()
    return (weights.unsqueeze(-1) * v).sum(dim=0), lse


def merge(first: Tensor, first_lse: Tensor, second: Tensor, second_lse: Tensor) -> Tensor:
    """Attention over the union of two sets of keys: outputs (…, dim) and log-sum-exps (…)."""
    # Not torch.sigmoid and torch.lerp: on the CPU their last bit depends on where in memory an element lies,
    # hence on the batch; exp and the plain operations do not.
    share = (second_lse - first_lse).exp_().add_(1.0).reciprocal_().unsqueeze(-1)
    return (first - second).mul_(share.to(first.dtype)).add_(second)
