"""Decoding in which every shape and address stays the same from step to step, as a CUDA graph needs.

The caches of `kronos.inference.kv_cache` grow and the host counts the steps. Here the caches have their final size, the
position is a tensor on the device, and what a step may not see yet is masked, so that the host only starts
the same work again. It runs on every device; `kronos.inference.cuda_graph` captures it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kronos.inference.engine import PredictorEngine
from kronos.inference.generate import Group
from kronos.inference.sampling import Sampling, choose

PREFIX_MULTIPLE = 64  # slightly longer histories find the captured step again
STEP_MULTIPLE = 8  # rows of attention scores start at aligned addresses, which fast products need


@dataclass(frozen=True)
class StaticShape:
    """All that the buffers' sizes depend on; `prefix` is padded."""

    series: int
    paths: int
    prefix: int
    horizon: int

    @classmethod
    def of(cls, groups: Sequence[Group]) -> StaticShape:
        """Groups of any lengths, with the same number of paths and the same horizon."""
        prefix = -(-max(group.length for group in groups) // PREFIX_MULTIPLE) * PREFIX_MULTIPLE
        return cls(sum(group.series for group in groups), groups[0].paths, prefix, groups[0].uniform.shape[2])

    @property
    def room(self) -> int:
        """Steps that a path's cache has room for: all bars but the last are read again. Padded, too."""
        return -(-(self.horizon - 1) // STEP_MULTIPLE) * STEP_MULTIPLE


class StaticCache(NamedTuple):
    """One layer's keys and values at fixed addresses."""

    keys: Tensor  # (series, heads, prefix, dim), shared by a series' paths
    values: Tensor
    path_keys: Tensor  # (series, paths, heads, room, dim), a path's own
    path_values: Tensor

    @classmethod
    def zeros(cls, shape: StaticShape, heads: int, dim: int, like: Tensor) -> StaticCache:
        """Zeros, not whatever was there: a masked weight of 0 times a stray NaN would be NaN."""
        shared, own = (heads, shape.prefix, dim), (shape.paths, heads, shape.room, dim)
        return cls(*(like.new_zeros(shape.series, *size) for size in (shared, shared, own, own)))

    def of(self, series: slice) -> StaticCache:
        """The part of some series, in the same memory."""
        return StaticCache(*(tensor[series] for tensor in self))

    def fill(self, first: int, k: Tensor, v: Tensor) -> None:
        """Store the prefix of series `first`…: k and v (series, length, heads, dim)."""
        series, length = k.shape[:2]
        self.keys[first : first + series, :, :length] = k.transpose(1, 2)
        self.values[first : first + series, :, :length] = v.transpose(1, 2)

    def append(self, k: Tensor, v: Tensor, position: Tensor) -> None:
        """Store one step of every path at `position` (1,): k and v (series · paths, heads, dim)."""
        for stored, new in ((self.path_keys, k), (self.path_values, v)):
            stored.flatten(0, 1).index_copy_(2, position, new.unsqueeze(2))

    def attend(self, q: Tensor, bias: Tensor) -> Tensor:
        """q (series · paths, heads, dim) → same; `bias` (series, 1, 1, prefix + room) is -inf where a key is hidden."""
        prefix, (series, paths, heads, room, dim) = self.keys.shape[2], self.path_keys.shape
        q = (q * (1.0 / math.sqrt(dim))).view(series, paths, heads, dim)
        scores = q.new_empty(series, heads, paths, prefix + room)
        shared = torch.matmul(q.transpose(1, 2), self.keys.transpose(-1, -2))
        own = torch.matmul(self.path_keys, q.unsqueeze(-1)).squeeze(-1).transpose(1, 2)
        torch.add(shared, bias[..., :prefix], out=scores[..., :prefix])
        torch.add(own, bias[..., prefix:], out=scores[..., prefix:])
        weights = scores.softmax(dim=-1)
        own = torch.matmul(weights[..., prefix:].transpose(1, 2).unsqueeze(-2), self.path_values).squeeze(-2)
        shared = torch.matmul(weights[..., :prefix], self.values).transpose(1, 2)
        return (own + shared).view(series * paths, heads, dim)


class StaticDecode:
    """The buffers of one shape and the step that works in them."""

    def __init__(self, engine: PredictorEngine, shape: StaticShape, sampling: Sampling) -> None:
        self.engine, self.shape, self.sampling = engine, shape, sampling
        like = engine.s1_table
        sizes = [*((b.heads, b.head_dim) for b in engine.stack.blocks), (engine.cross_heads, engine.cross_dim)]
        self.caches = [StaticCache.zeros(shape, *size, like) for size in sizes]
        self.bias = like.new_zeros(shape.series, 1, 1, shape.prefix + shape.room)
        self.times = like.new_zeros(shape.room, shape.series, engine.width)
        self.uniform = like.new_zeros(shape.horizon, shape.series * shape.paths, 2)
        self.tokens = torch.zeros_like(self.uniform, dtype=torch.long)
        self.lengths = like.new_ones(shape.series, dtype=torch.long)
        self.slots = torch.arange(shape.room, device=like.device)
        self.position = like.new_zeros(1, dtype=torch.long)  # the newest own bar's place, -1 before the first

    def run(self, groups: Sequence[Group], step: Callable[[], None]) -> None:
        """Fill every group's `tokens` by calling `step`, this object's or a replay of it, horizon - 1 times."""
        self._draw(self._load(groups))
        for _ in range(self.shape.horizon - 1):
            step()
        drawn = self.tokens.split([group.rows for group in groups], dim=1)
        for group, tokens in zip(groups, drawn, strict=True):
            group.tokens = tokens.unflatten(1, (group.series, group.paths)).permute(1, 2, 0, 3).contiguous()

    def step(self) -> None:
        """Read the newest bar of every path and draw the next one. Nothing here waits for the device."""
        engine, shape = self.engine, self.shape
        self.position.add_(1)
        self._show_own_bars()
        newest = self.tokens.index_select(0, self.position).view(shape.series, shape.paths, 2)
        time = self.times.index_select(0, self.position).view(shape.series, 1, -1)
        rotation = engine.rotation.index_select(0, self.lengths + self.position).repeat_interleave(shape.paths, dim=0)
        x = engine.embed(newest[..., 0], newest[..., 1], time).flatten(0, 1)
        for block, cache in zip(engine.stack.blocks, self.caches[:-1], strict=True):
            q, k, v = block.project(x, rotation)
            cache.append(k, v, self.position)
            x = block.finish(x, cache.attend(q, self.bias).reshape(x.shape))
        context = engine.normed(x)
        self.caches[-1].append(*engine.cross_keys_values(context), self.position)
        self._draw(context)

    def _load(self, groups: Sequence[Group]) -> Tensor:
        """Encode the histories; returns every path's hidden state (rows, d) of its last known bar."""
        for cache in self.caches:
            for tensor in cache:
                tensor.zero_()
        self.bias.fill_(-torch.inf)  # and so the paths' own bars are hidden
        self.position.fill_(-1)
        last, first, steps = [], 0, self.shape.horizon - 1
        for group in groups:
            own, first = slice(first, first + group.series), first + group.series
            time = self.engine.time_emb(group.stamps)
            parts = [cache.of(own) for cache in self.caches]
            context = self.engine.prefill(group.s1, group.s2, time[:, : group.length], parts)
            last.append(context.repeat_interleave(group.paths, dim=0))
            self.lengths[own] = group.length
            self.bias[own, ..., : group.length] = 0.0
            self.times[:steps, own] = time[:, group.length : group.length + steps].transpose(0, 1)
        self.uniform.copy_(torch.cat([group.uniform.flatten(0, 1) for group in groups]).transpose(0, 1))
        return torch.cat(last)

    def _show_own_bars(self) -> None:
        seen = torch.zeros_like(self.slots, dtype=self.bias.dtype)
        self.bias[..., self.shape.prefix :] = seen.masked_fill_(self.slots > self.position, -torch.inf)

    def _draw(self, context: Tensor) -> None:
        """Draw the bar after the newest from its hidden states (rows, d)."""
        engine, following = self.engine, self.position + 1
        uniform = self.uniform.index_select(0, following).squeeze(0)
        s1 = choose(engine.s1_logits(context), uniform[:, 0], self.sampling)
        attended = self.caches[-1].attend(engine.s2_queries(s1), self.bias)
        s2 = choose(engine.s2_logits_of(context, attended), uniform[:, 1], self.sampling)
        self.tokens.index_copy_(0, following, torch.stack((s1, s2), dim=-1).unsqueeze(0))
