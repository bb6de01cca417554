"""Transformer blocks as they are decoded: few fused products, no modules, no copies.

Norm weights are multiplied into the products that follow them, query and key projections are interleaved so that
a rotation is one complex product, and activation, gate and residual are epilogues of their matrix product. Only
the order of float operations changes: logits stay within 1e-5 of those of `kronos.model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from kronos.inference.kv_cache import LayerCache, PrefixStore, attention
from kronos.inference.packed_linear import Precision, SharedInputLinear, pack_linear
from kronos.layers import RMS_EPSILON, Attention, TransformerBlock, rotary_frequencies


def rms_normalise(x: Tensor) -> Tensor:
    """Root-mean-square normalisation over the last dimension, without weight."""
    return x * torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + RMS_EPSILON)


def interleave(weight: Tensor, heads: int) -> Tensor:
    """Reorder a projection's rows so that the two halves of each rotary pair are neighbours.

    Applied to queries and keys alike, it does not change their products.
    """
    halves: Tensor = weight.unflatten(0, (heads, 2, -1))
    return halves.transpose(1, 2).reshape(weight.shape)


def rotary_table(head_dim: int, length: int, device: torch.device) -> Tensor:
    """Complex rotations of positions 0…length-1: (length, 1, head_dim / 2)."""
    angle = torch.outer(torch.arange(length, dtype=torch.float32), rotary_frequencies(head_dim))
    return torch.polar(torch.ones_like(angle), angle).unsqueeze(1).to(device)


class FusedBlock:
    """One transformer block over rows x (rows, d)."""

    def __init__(self, block: TransformerBlock, precision: Precision) -> None:
        attn, ffn = block.self_attn, block.ffn
        self.heads, self.head_dim = attn.n_heads, attn.head_dim
        g1, g2 = block.norm1.weight.detach(), block.norm2.weight.detach()
        qk_weight, qk_bias = _rotary_projections(attn)
        v_weight, v_bias = attn.v_proj.weight.detach(), attn.v_proj.bias.detach()
        self.qk_v = SharedInputLinear([(qk_weight * g1, qk_bias), (v_weight * g1, v_bias)], precision)
        self.out = pack_linear(attn.out_proj.weight, attn.out_proj.bias, precision)
        self.w1_w3 = SharedInputLinear([(w.weight.detach() * g2, None) for w in (ffn.w1, ffn.w3)], precision)
        self.w2 = pack_linear(ffn.w2.weight, None, precision)

    def project(self, x: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys, and values, each (rows, heads, dim); rotation (rows, 1, dim / 2)."""
        qk, v = self.qk_v(rms_normalise(x))
        qk = qk.unflatten(-1, (2 * self.heads, self.head_dim // 2, 2))
        torch.view_as_complex(qk).mul_(rotation)
        qk = qk.flatten(-2)
        return qk[:, : self.heads], qk[:, self.heads :], v.unflatten(-1, (self.heads, self.head_dim))

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The block's output: residual and feed-forward network after attention; both (rows, d)."""
        x = self.out(attended, add=x)
        return self.w2(self.w1_w3.gated(rms_normalise(x)), add=x)


def _rotary_projections(attn: Attention) -> tuple[Tensor, Tensor]:
    projections = attn.q_proj, attn.k_proj
    weight = torch.cat([interleave(p.weight.detach(), attn.n_heads) for p in projections])
    bias = torch.cat([interleave(p.bias.detach(), attn.n_heads) for p in projections])
    return weight, bias


class FusedStack:
    """A stack of fused blocks, with three ways to run it: `prefill`, `step` and `block_step`."""

    def __init__(self, blocks: nn.ModuleList, precision: Precision) -> None:
        self.blocks = [FusedBlock(cast(TransformerBlock, block), precision) for block in blocks]

    def new_caches(self, series: int, paths: int, prefix: int, steps: int, like: Tensor) -> list[LayerCache]:
        return [LayerCache(series, paths, prefix, steps, block.heads, block.head_dim, like) for block in self.blocks]

    def prefill(
        self,
        x: Tensor,
        rotation: Tensor,
        caches: Sequence[PrefixStore] | None = None,
        first: int = 0,
        keys_only: bool = False,
    ) -> Tensor:
        """Causal pass over whole sequences x (series, length, d), filling `caches` from series `first` on.

        Returns (series, length, d). With `keys_only` the last block stops once its keys are stored, for callers
        that need the caches only.
        """
        series, length, width = x.shape
        rows = x.reshape(-1, width)
        rotation = rotation[:length].repeat(series, 1, 1)
        for depth, block in enumerate(self.blocks):
            q, k, v = (part.unflatten(0, (series, length)) for part in block.project(rows, rotation))
            if caches is not None:
                caches[depth].fill(first, k, v)
                if keys_only and depth == len(self.blocks) - 1:
                    break
            heads = attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), causal=True)
            rows = block.finish(rows, heads.transpose(1, 2).reshape(-1, width))
        return rows.view(series, length, width)

    def step(self, x: Tensor, rotation: Tensor, groups: Sequence[Sequence[LayerCache]]) -> Tensor:
        """One new position of every path: x (rows, d) → same; rows ordered by `groups`, then series, then path."""
        counts = [caches[0].series * caches[0].paths for caches in groups]
        for depth, block in enumerate(self.blocks):
            q, k, v = block.project(x, rotation)
            attended = []
            for caches, q_g, k_g, v_g in zip(groups, q.split(counts), k.split(counts), v.split(counts), strict=True):
                caches[depth].append(k_g, v_g)
                attended.append(caches[depth].attend(q_g))
            joined = attended[0] if len(attended) == 1 else torch.cat(attended)
            x = block.finish(x, joined.reshape(x.shape))
        return x

    def block_step(self, x: Tensor, rotation: Tensor, caches: Sequence[LayerCache], *, keep: bool) -> Tensor:
        """The first positions of every path at once, after a prefill: x (series · paths, steps, d) → same.

        `rotation` (steps, 1, dim / 2) is that of the steps; `keep` stores their keys for later steps.
        """
        rows, steps, width = x.shape
        flat = x.reshape(-1, width)
        rotation = rotation.repeat(rows, 1, 1)
        for depth, block in enumerate(self.blocks):
            q, k, v = (part.unflatten(0, (rows, steps)) for part in block.project(flat, rotation))
            if keep:
                caches[depth].append_block(k, v)
            attended = caches[depth].attend_block(q, k, v)
            flat = block.finish(flat, attended.reshape(-1, width))
        return flat.view(rows, steps, width)
