"""Kronos and its tokenizer with packed weights, and how to notice that a model's weights have changed."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from kronos.inference.blocks import FusedStack, rms_normalise, rotary_table
from kronos.inference.kv_cache import LayerCache, PrefixStore
from kronos.inference.packed_linear import Precision, pack_linear
from kronos.layers import DependencyAwareLayer
from kronos.model import Kronos
from kronos.tokenizer import KronosTokenizer

Model = TypeVar("Model", bound=nn.Module)
MAX_POSITIONS = 4096
PREFILL_ROWS = 4096
"""Rows of a prefill in one pass: enough to fill the cores, few enough to stay in the last-level cache."""
FULLY_READ_WEIGHTS = 4096
"""Size up to which a weight is read completely to notice a change."""
SAMPLED_VALUES = 64
"""Values read of a larger weight; a check takes 1 ms in all for Kronos-small."""


class PredictorEngine:
    """Kronos with packed weights, decoded step by step over shared-prefix caches."""

    def __init__(self, model: Kronos, precision: Precision = "fp32") -> None:
        config, embedding = model.config, model.embedding
        self.width = config.d_model
        self.layers = config.n_layers
        scale = math.sqrt(config.d_model)
        fusion = embedding.fusion_proj.weight.detach().float()
        first, second = fusion[:, : self.width], fusion[:, self.width :]
        s1_table = embedding.emb_s1.weight.detach().float()
        # The fusion layer is linear, so each token's part of it is a table of 2**bits rows.
        self.s1_table = (s1_table * scale) @ first.T + embedding.fusion_proj.bias.detach()
        self.s2_table = (embedding.emb_s2.weight.detach().float() * scale) @ second.T
        self.time_emb = copy.deepcopy(model.time_emb)
        self.stack = FusedStack(model.transformer, precision)
        self.norm_weight = model.norm.weight.detach().clone()
        cross = model.dep_layer.cross_attn
        self.cross_heads, self.cross_dim = DependencyAwareLayer.N_HEADS, cross.head_dim
        # One query at rotary position 0: the coarse token's query is a table too.
        self.queries = s1_table @ cross.q_proj.weight.detach().T + cross.q_proj.bias.detach()
        self.cross_kv = pack_linear(
            torch.cat((cross.k_proj.weight, cross.v_proj.weight)),
            torch.cat((cross.k_proj.bias, cross.v_proj.bias)),
            precision,
        )
        self.cross_out = pack_linear(cross.out_proj.weight, cross.out_proj.bias, precision)
        # The heads are 4 % of the weights, but their rounding reaches the draw directly: fp32 in every precision.
        self.s1_head = pack_linear(model.head.proj_s1.weight, model.head.proj_s1.bias)
        self.s2_head = pack_linear(model.head.proj_s2.weight * model.dep_layer.norm.weight, model.head.proj_s2.bias)
        head_dim = config.d_model // config.n_heads
        self.rotation = rotary_table(head_dim, MAX_POSITIONS, self.s1_table.device)

    def embed(self, s1: Tensor, s2: Tensor, time: Tensor) -> Tensor:
        """Token ids (…) and the embedding of their calendar features (…, d) → (…, d)."""
        return (self.s1_table[s1] + self.s2_table[s2]).add_(time)

    def new_caches(self, series: int, paths: int, prefix: int, steps: int) -> list[LayerCache]:
        """The self-attention caches, then that of the cross-attention."""
        like = self.s1_table
        cross = LayerCache(series, paths, prefix, steps, self.cross_heads, self.cross_dim, like)
        return [*self.stack.new_caches(series, paths, prefix, steps, like), cross]

    def cache_bytes(self, paths: int, prefix: int, steps: int) -> int:
        """Size of one series' caches in bytes."""
        return (self.layers + 1) * LayerCache.bytes_needed(1, paths, prefix, steps, self.width)

    def prefill(self, s1: Tensor, s2: Tensor, time: Tensor, caches: Sequence[PrefixStore]) -> Tensor:
        """Fill the caches with prefixes s1, s2 (series, length); time (series, length, d).

        Returns the last position's normed hidden state (series, d).
        """
        series, length = s1.shape
        at_once = max(1, PREFILL_ROWS // length)
        last = []
        for a in range(0, series, at_once):
            part = slice(a, a + at_once)
            x = self.embed(s1[part], s2[part], time[part])
            context = self.normed(self.stack.prefill(x, self.rotation, caches[:-1], first=a))
            caches[-1].fill(a, *self.cross_keys_values(context))
            last.append(context[:, -1])
        return torch.cat(last)

    def hidden(self, s1: Tensor, s2: Tensor, time: Tensor) -> Tensor:
        """Normed hidden states (series, length, d) of tokens s1, s2 (series, length); time (series, length, d)."""
        return self.normed(self.stack.prefill(self.embed(s1, s2, time), self.rotation))

    def block_step(self, s1: Tensor, s2: Tensor, time: Tensor, position: int, caches: Sequence[LayerCache]) -> Tensor:
        """The first tokens of the paths at once: s1, s2 (rows, steps), time (rows, steps, d), from `position` on.

        Returns the last position's normed hidden state (rows, d).
        """
        rotation = self.rotation[position : position + s1.shape[1]]
        context = self.normed(self.stack.block_step(self.embed(s1, s2, time), rotation, caches[:-1], keep=True))
        caches[-1].append_block(*self.cross_keys_values(context))
        return context[:, -1]

    def step(self, x: Tensor, rotation: Tensor, groups: Sequence[Sequence[LayerCache]]) -> Tensor:
        """One token of every path, embedded (rows, d); returns normed hidden states (rows, d)."""
        context = self.normed(self.stack.step(x, rotation, [caches[:-1] for caches in groups]))
        counts = [caches[-1].series * caches[-1].paths for caches in groups]
        k, v = self.cross_keys_values(context)
        for caches, k_g, v_g in zip(groups, k.split(counts), v.split(counts), strict=True):
            caches[-1].append(k_g, v_g)
        return context

    def s1_logits(self, context: Tensor) -> Tensor:
        """(rows, d) → (rows, 2**s1_bits)."""
        return self.s1_head(context)

    def s2_logits(self, context: Tensor, s1: Tensor, groups: Sequence[Sequence[LayerCache]]) -> Tensor:
        """Hidden states (rows, d) and the coarse tokens drawn from them (rows,) → (rows, 2**s2_bits)."""
        counts = [caches[-1].series * caches[-1].paths for caches in groups]
        queries = self.s2_queries(s1).split(counts)
        attended = [caches[-1].attend(q) for caches, q in zip(groups, queries, strict=True)]
        return self.s2_logits_from(context, torch.cat(attended) if len(attended) > 1 else attended[0])

    def s2_queries(self, s1: Tensor) -> Tensor:
        """Coarse tokens (rows,) → their queries of the cross-attention (rows, heads, dim)."""
        return self.queries[s1].view(-1, self.cross_heads, self.cross_dim)

    def s2_logits_from(self, context: Tensor, attended: Tensor) -> Tensor:
        """Hidden states (rows, d) and the attention output of their queries (rows, heads, dim) → (rows, 2**s2_bits)."""
        return self.s2_head(rms_normalise(self.cross_out(attended.reshape(context.shape), add=context)))

    def normed(self, x: Tensor) -> Tensor:
        return rms_normalise(x).mul_(self.norm_weight)

    def cross_keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (…, d) → the cross-attention's keys and values, each (…, heads, dim)."""
        kv = self.cross_kv(context.reshape(-1, self.width))
        kv = kv.view(*context.shape[:-1], 2, self.cross_heads, self.cross_dim)
        return kv.select(-3, 0), kv.select(-3, 1)


class TokenizerEngine:
    """KronosTokenizer with packed weights: encodes histories, decodes the paths' tokens over a shared history."""

    def __init__(self, tokenizer: KronosTokenizer, precision: Precision = "fp32") -> None:
        self.width = tokenizer.config.d_model
        self.layers = len(tokenizer.decoder)
        self.quantiser = tokenizer.tokenizer
        self.embed = pack_linear(tokenizer.embed.weight, tokenizer.embed.bias)
        self.encoder = FusedStack(tokenizer.encoder, precision)
        self.quant_embed = pack_linear(tokenizer.quant_embed.weight, tokenizer.quant_embed.bias)
        self.code_embed = pack_linear(tokenizer.post_quant_embed.weight, tokenizer.post_quant_embed.bias)
        self.decoder = FusedStack(tokenizer.decoder, precision)
        self.head = pack_linear(tokenizer.head.weight, tokenizer.head.bias)
        self.head_dim = self.width // tokenizer.config.n_heads
        self.rotation = rotary_table(self.head_dim, MAX_POSITIONS, tokenizer.embed.weight.device)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised bars (series, length, d_in) → token ids, each (series, length)."""
        series, length, fields = x.shape
        if length > len(self.rotation):
            self.rotation = rotary_table(self.head_dim, length, x.device)
        at_once = max(1, PREFILL_ROWS // length)
        tokens = []
        for a in range(0, series, at_once):
            part = x[a : a + at_once]
            latent = self.embed(part.reshape(-1, fields)).view(len(part), length, self.width)
            latent = self.encoder.prefill(latent, self.rotation)
            z = self.quant_embed(latent.reshape(-1, self.width)).view(len(part), length, -1)
            tokens.append(torch.stack(self.quantiser.indices(z)))
        s1, s2 = torch.cat(tokens, dim=1)
        return s1, s2

    def decode(self, s1: Tensor, s2: Tensor, path_s1: Tensor, path_s2: Tensor) -> Tensor:
        """Bars of the paths' tokens (series, paths, steps), given their history's tokens (series, prefix).

        Returns normalised bars (series, paths, steps, d_in). The history is decoded once per series.
        """
        series, paths, steps = path_s1.shape
        prefix = s1.shape[1]
        if paths == 1:
            both = [torch.cat(pair, dim=1) for pair in ((s1, path_s1[:, 0]), (s2, path_s2[:, 0]))]
            hidden = self.decoder.prefill(self._codes(*both), self.rotation)[:, prefix:]
        else:
            caches = self.decoder.new_caches(series, paths, prefix, 0, self.rotation.real)
            self.decoder.prefill(self._codes(s1, s2), self.rotation, caches, keys_only=True)
            x = self._codes(path_s1.flatten(0, 1), path_s2.flatten(0, 1))
            rotation = self.rotation[prefix : prefix + steps]
            hidden = self.decoder.block_step(x, rotation, caches, keep=False)
        return self.head(hidden.reshape(-1, self.width)).view(series, paths, steps, -1)

    def history_caches(self, s1: Tensor, s2: Tensor) -> list[LayerCache]:
        """The decoder's caches of histories (series, prefix), for `decode_first`."""
        caches = self.decoder.new_caches(len(s1), 2, s1.shape[1], 0, self.rotation.real)
        self.decoder.prefill(self._codes(s1, s2), self.rotation, caches, keys_only=True)
        return caches

    def decode_first(self, caches: Sequence[LayerCache], s1: Tensor, s2: Tensor) -> Tensor:
        """Normalised bars (series, n, d_in) of n ≥ 2 pairs of tokens (series, n), each the first after its history."""
        series, pairs = s1.shape
        prefix = caches[0].prefix
        x = self._codes(s1.reshape(-1, 1), s2.reshape(-1, 1))
        own = [cache.with_paths(pairs) for cache in caches]
        hidden = self.decoder.block_step(x, self.rotation[prefix : prefix + 1], own, keep=False)
        return self.head(hidden.reshape(-1, self.width)).view(series, pairs, -1)

    def _codes(self, s1: Tensor, s2: Tensor) -> Tensor:
        codes = self.quantiser.codes(s1, s2)
        return self.code_embed(codes.flatten(0, -2)).view(*s1.shape, self.width)


class WeightFingerprint:
    """Detects whether a weight has been replaced or written to since the fingerprint was taken.

    torch counts the writes to a tensor, but not those of fused optimisers or through `.data`. Therefore values are
    compared too: all of small weights (norms and biases), a sample of large ones. Only a write through `.data` to a
    few entries of one matrix, and to nothing else, can go unnoticed: create a new predictor after such a write.
    """

    def __init__(self, model: nn.Module) -> None:
        self._counts = _write_counts(model)
        # Kept as views of the live weights: creating them costs more than reading them.
        self._views = [_sample(p.detach()) for p in model.parameters()]
        self._values = self._read()

    def changed(self, model: nn.Module) -> bool:
        return _write_counts(model) != self._counts or self._read() != self._values

    def _read(self) -> bytes:
        """The values as bytes, which compare equal also where they are NaN."""
        with torch.inference_mode():
            values = torch.cat([view.flatten() for view in self._views]).cpu()
            return values.view(torch.uint8).numpy().tobytes()  # numpy has no bfloat16


def in_float32(model: Model) -> Model:
    """`model`, or a float32 copy of it if a weight has another type."""
    if all(weight.dtype == torch.float32 for weight in model.parameters()):
        return model
    return copy.deepcopy(model).float()


def _write_counts(model: nn.Module) -> list[tuple[int, int]]:
    """Address and number of writes of each weight. `model.parameters()` would take three times as long."""
    counts: list[tuple[int, int]] = []
    modules = [model]
    while modules:
        module = modules.pop()
        modules.extend(child for child in module._modules.values() if child is not None)
        weights = (p for p in module._parameters.values() if p is not None)
        counts.extend((p.data_ptr(), 0 if p.is_inference() else p._version) for p in weights)
    return counts


def _sample(weight: Tensor) -> Tensor:
    """A view of all of a small tensor, or of values spread evenly over a large one."""
    if weight.numel() <= FULLY_READ_WEIGHTS or not weight.is_contiguous():
        return weight
    step = weight.numel() // SAMPLED_VALUES | 1  # odd, so that the samples do not fall into one column
    return weight.as_strided((weight.numel() // step,), (step,))
