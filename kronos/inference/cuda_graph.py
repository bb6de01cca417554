"""Decoding on CUDA: one step with constant shapes, captured as a CUDA graph and replayed for every bar.

A step of Kronos-small is some 480 small operations, counted at the dispatcher. Python launches them one by one;
replaying a graph launches them all at once
(https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).

A graph needs every shape and address to stay the same. So the caches here, unlike those of
`kronos.inference.kv_cache`, have their final size, the position is a tensor on the device, and keys that a step
may not attend to are masked. `StaticDecode` runs on every device; `CapturedGenerate` captures it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor

from kronos.devices import out_of_memory_cause
from kronos.inference.engine import PredictorEngine
from kronos.inference.generate import Overflow, SeriesGroup, generate, orders_of_rows
from kronos.inference.progress import Progress, silent
from kronos.inference.sampling import Sampling, sample_tokens

logger = logging.getLogger(__name__)

PREFIX_MULTIPLE = 64
"""Prefixes are padded to a multiple of it, so that slightly longer histories reuse the captured step."""
SUFFIX_MULTIPLE = 8
"""Suffixes too: rows of attention scores then start at aligned addresses, which fast products need."""

KEPT_SHAPES = 2
"""Captured steps that are kept: that of full batches, and that of the rest that is left at the end."""


@dataclass(frozen=True)
class StaticShape:
    """What the sizes of the buffers depend on; `prefix` is padded."""

    series: int
    paths: int
    prefix: int
    horizon: int

    @classmethod
    def of(cls, groups: Sequence[SeriesGroup]) -> StaticShape:
        """Groups of any lengths, with the same number of paths and the same horizon."""
        prefix = -(-max(group.length for group in groups) // PREFIX_MULTIPLE) * PREFIX_MULTIPLE
        return cls(sum(group.series for group in groups), groups[0].paths, prefix, groups[0].uniform.shape[2])

    @property
    def suffix(self) -> int:
        """Steps that a path's cache holds, padded: all bars but the last are read again."""
        return -(-(self.horizon - 1) // SUFFIX_MULTIPLE) * SUFFIX_MULTIPLE


class StaticCache(NamedTuple):
    """One layer's keys and values at constant addresses."""

    keys: Tensor  # (series, heads, prefix, dim), shared by the paths of a series
    values: Tensor
    path_keys: Tensor  # (series, paths, heads, suffix, dim), those of each path
    path_values: Tensor

    @classmethod
    def zeros(cls, shape: StaticShape, heads: int, dim: int, like: Tensor) -> StaticCache:
        """Zeros, not uninitialised memory: a masked weight of 0 times a stray NaN would be NaN."""
        shared, own = (heads, shape.prefix, dim), (shape.paths, heads, shape.suffix, dim)
        return cls(*(like.new_zeros(shape.series, *size) for size in (shared, shared, own, own)))

    def of(self, series: slice) -> StaticCache:
        """The part of some series, in the same memory."""
        return StaticCache(*(tensor[series] for tensor in self))

    def fill(self, first: int, k: Tensor, v: Tensor) -> None:
        """Store the prefix of the series from `first` on: k and v (series, length, heads, dim)."""
        series, length = k.shape[:2]
        self.keys[first : first + series, :, :length] = k.transpose(1, 2)
        self.values[first : first + series, :, :length] = v.transpose(1, 2)

    def append(self, k: Tensor, v: Tensor, position: Tensor) -> None:
        """Store one step of every path at `position` (1,): k and v (series · paths, heads, dim)."""
        for stored, new in ((self.path_keys, k), (self.path_values, v)):
            stored.flatten(0, 1).index_copy_(2, position, new.unsqueeze(2))

    def attend(self, q: Tensor, bias: Tensor) -> Tensor:
        """q (series · paths, heads, dim) → same; `bias` (series, 1, 1, prefix + suffix) is -inf at masked keys."""
        prefix, (series, paths, heads, suffix, dim) = self.keys.shape[2], self.path_keys.shape
        q = (q * (1.0 / math.sqrt(dim))).view(series, paths, heads, dim)
        scores = q.new_empty(series, heads, paths, prefix + suffix)
        shared = torch.matmul(q.transpose(1, 2), self.keys.transpose(-1, -2))
        own = torch.matmul(self.path_keys, q.unsqueeze(-1)).squeeze(-1).transpose(1, 2)
        torch.add(shared, bias[..., :prefix], out=scores[..., :prefix])
        torch.add(own, bias[..., prefix:], out=scores[..., prefix:])
        weights = scores.softmax(dim=-1)
        own = torch.matmul(weights[..., prefix:].transpose(1, 2).unsqueeze(-2), self.path_values).squeeze(-2)
        shared = torch.matmul(weights[..., :prefix], self.values).transpose(1, 2)
        return (own + shared).view(series * paths, heads, dim)


class StaticDecode:
    """The buffers of one shape and the decoding step that works in them."""

    def __init__(self, engine: PredictorEngine, shape: StaticShape, sampling: Sampling) -> None:
        self.engine, self.shape, self.sampling = engine, shape, sampling
        like = engine.s1_table
        sizes = [*((b.heads, b.head_dim) for b in engine.stack.blocks), (engine.cross_heads, engine.cross_dim)]
        self.caches = [StaticCache.zeros(shape, *size, like) for size in sizes]
        self.bias = like.new_zeros(shape.series, 1, 1, shape.prefix + shape.suffix)
        self.times = like.new_zeros(shape.suffix, shape.series, engine.width)
        self.uniform = like.new_zeros(shape.horizon, shape.series * shape.paths, 2)
        self.tokens = torch.zeros_like(self.uniform, dtype=torch.long)
        self.order = self._order_of_ids()
        self.lengths = like.new_ones(shape.series, dtype=torch.long)
        self.slots = torch.arange(shape.suffix, device=like.device)
        self.position = like.new_zeros(1, dtype=torch.long)  # of the paths' newest bar; -1 before the first

    def run(self, groups: Sequence[SeriesGroup], step: Callable[[], None], report: Progress = silent) -> None:
        """Fill every group's `tokens` by calling `step`, this object's or a replay of it, horizon - 1 times."""
        rows = self.shape.series * self.shape.paths
        self._draw(self._load(groups))
        report(rows)
        for _ in range(self.shape.horizon - 1):
            step()
            report(rows)
        drawn = self.tokens.split([group.rows for group in groups], dim=1)
        for group, tokens in zip(groups, drawn, strict=True):
            group.tokens = tokens.unflatten(1, (group.series, group.paths)).permute(1, 2, 0, 3).contiguous()

    def step(self) -> None:
        """Read the newest bar of every path and draw the next one, without waiting for the device."""
        engine, shape = self.engine, self.shape
        self.position.add_(1)
        self._unmask_suffix()
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

    def _load(self, groups: Sequence[SeriesGroup]) -> Tensor:
        """Encode the histories; returns the hidden state (rows, d) of the last known bar, for every path."""
        for cache in self.caches:
            for tensor in cache:
                tensor.zero_()
        self.bias.fill_(-torch.inf)  # which masks the suffix, too
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
        order = orders_of_rows(groups)
        self.order.copy_(self._order_of_ids() if order is None else order)
        return torch.cat(last)

    def _order_of_ids(self) -> Tensor:
        """The order of coarse tokens of each row where the groups have none: (rows, 2**s1_bits)."""
        ids = torch.arange(len(self.engine.s1_table), device=self.tokens.device)
        return ids.repeat(self.shape.series * self.shape.paths, 1)

    def _unmask_suffix(self) -> None:
        bias = torch.zeros_like(self.slots, dtype=self.bias.dtype)
        self.bias[..., self.shape.prefix :] = bias.masked_fill_(self.slots > self.position, -torch.inf)

    def _draw(self, context: Tensor) -> None:
        """Draw the bar after the newest from its hidden states (rows, d)."""
        engine, following = self.engine, self.position + 1
        uniform = self.uniform.index_select(0, following).squeeze(0)
        s1 = sample_tokens(engine.s1_logits(context), uniform[:, 0], self.sampling, self.order)
        attended = self.caches[-1].attend(engine.s2_queries(s1), self.bias)
        s2 = sample_tokens(engine.s2_logits_from(context, attended), uniform[:, 1], self.sampling)
        self.tokens.index_copy_(0, following, torch.stack((s1, s2), dim=-1).unsqueeze(0))


def capture(decode: StaticDecode) -> Callable[[], None]:
    """Capture `decode.step` on its device; returns its replay. The contents of the buffers are overwritten."""
    with torch.cuda.device(decode.position.device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # lets libraries choose their kernels and allocate their workspaces
                decode.position.fill_(-1)
                decode.step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # torch's own default stream of captures belongs to the device of the first one. Other threads may use CUDA
        # meanwhile: only this thread's calls must be allowed during a capture.
        with torch.cuda.graph(graph, stream=torch.cuda.Stream(), capture_error_mode="thread_local"):
            decode.step()
    return graph.replay


class CapturedGenerate:
    """`kronos.inference.generate.generate` by replaying a captured step; one per pair of packed models.

    The buffers and graphs of the last KEPT_SHAPES shapes are kept for the next calls, and no others, so that memory
    stays bounded. Groups whose window has to slide, forecasts of one step, and all forecasts after a capture has failed
    use `generate` itself, with the same draws; the reason of the failure is logged. Too little memory is no failure of
    that kind: it frees the buffers and is raised, as a smaller forecast may fit.
    """

    def __init__(self, capture: Callable[[StaticDecode], Callable[[], None]] = capture) -> None:
        self._capture = capture
        self._captured: list[tuple[StaticDecode, Callable[[], None]]] = []
        """The last one used comes last."""
        self._failed = False
        self._lock = Lock()
        """Of the buffers: threads that share a predictor take turns."""

    def __call__(
        self,
        engine: PredictorEngine,
        groups: Sequence[SeriesGroup],
        *,
        max_context: int,
        sampling: Sampling,
        overflow: Overflow = "exact",
        report: Progress = silent,
    ) -> None:
        horizon = groups[0].uniform.shape[2]
        rest, fixed = list(groups), [group for group in groups if 1 < horizon <= max_context - group.length + 1]
        if fixed:
            with self._lock:
                if captured := self._prepare(engine, fixed, sampling):
                    decode, replay = captured
                    decode.run(fixed, replay, report)
                    rest = [group for group in groups if group.length > max_context - horizon + 1]
        if rest:
            generate(engine, rest, max_context=max_context, sampling=sampling, overflow=overflow, report=report)

    def _prepare(
        self, engine: PredictorEngine, groups: Sequence[SeriesGroup], sampling: Sampling
    ) -> tuple[StaticDecode, Callable[[], None]] | None:
        """Buffers and replay for these groups, kept ones where they fit; None after a failed capture."""
        if self._failed:
            return None
        wanted = engine, StaticShape.of(groups), sampling
        for place, (kept, _) in enumerate(self._captured):
            if (kept.engine, kept.shape, kept.sampling) == wanted:
                self._captured.append(self._captured.pop(place))
                return self._captured[-1]
        del self._captured[: len(self._captured) - KEPT_SHAPES + 1]  # frees old buffers before new ones are allocated
        try:
            decode = StaticDecode(*wanted)
            self._captured.append((decode, self._capture(decode)))
        except RuntimeError as error:  # CUDA's own errors are RuntimeErrors
            self._captured.clear()
            if cause := out_of_memory_cause(error):
                raise cause from None
            self._failed = True
            logger.warning("decoding without a CUDA graph: capturing the step failed: %s", error)
            return None
        return self._captured[-1]
