"""The transformer layers of tokenizer and predictor, with the parameter names of the published weights.

These modules are used for training and as the reference. Inference packs their weights into the fused blocks of
`kronos.inference.blocks` and does not call them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronos.linear import Linear

RMS_EPSILON = 1e-5
ROTARY_BASE = 10000.0


def rotary_frequencies(head_dim: int) -> Tensor:
    """Radians per position of each rotary pair: (head_dim / 2,)."""
    return 1.0 / (ROTARY_BASE ** (torch.arange(0, head_dim, 2).float() / head_dim))


class RMSNorm(nn.Module):
    """Root-mean-square normalisation of the last dimension, computed in float32."""

    def __init__(self, dim: int, eps: float = RMS_EPSILON) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)
        return (wide * scale).type_as(x) * self.weight


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) · w3 x)."""

    def __init__(self, d_model: int, ff_dim: int, dropout: float) -> None:
        super().__init__()
        self.w1 = Linear(d_model, ff_dim, bias=False)
        self.w3 = Linear(d_model, ff_dim, bias=False)
        self.w2 = Linear(ff_dim, d_model, bias=False)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.w2(F.silu(self.w1(x)) * self.w3(x)), self.dropout, self.training)


class Rotary(nn.Module):
    """Rotary position embedding over half-split pairs. `inv_freq` is part of the published state dict."""

    inv_freq: Tensor
    _table: Tensor

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.register_buffer("inv_freq", rotary_frequencies(head_dim))
        # A non-persistent buffer follows the module to its device, unlike a plain attribute.
        self.register_buffer("_table", torch.empty(0, 2, head_dim), persistent=False)

    def table(self, length: int) -> tuple[Tensor, Tensor]:
        """cos and sin of positions 0…length-1, each (length, head_dim)."""
        if self._table.shape[0] < length or self._table.device != self.inv_freq.device:
            with torch.inference_mode(False):  # a table created in inference mode could not be used in training
                steps = torch.arange(max(length, 512), device=self.inv_freq.device, dtype=torch.float32)
                angle = torch.outer(steps, self.inv_freq.float())
                angle = torch.cat((angle, angle), dim=-1)
                self._table = torch.stack((angle.cos(), angle.sin()), dim=1)
        return self._table[:length, 0], self._table[:length, 1]

    def forward(self, x: Tensor) -> Tensor:
        """Rotate (batch, heads, length, head_dim) by its positions."""
        cos, sin = self.table(x.shape[-2])
        low, high = x.chunk(2, dim=-1)
        return x * cos.to(x.dtype) + torch.cat((-high, low), dim=-1) * sin.to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention with rotary positions; queries may come from another sequence than the keys."""

    def __init__(self, d_model: int, n_heads: int, attn_dropout: float, resid_dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.head_dim = d_model // n_heads
        self.q_proj = Linear(d_model, d_model)
        self.k_proj = Linear(d_model, d_model)
        self.v_proj = Linear(d_model, d_model)
        self.out_proj = Linear(d_model, d_model)
        self.rotary = Rotary(self.head_dim)
        self.attn_dropout = attn_dropout
        self.resid_dropout = resid_dropout

    def forward(self, query: Tensor, context: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """(batch, queries, d), (batch, keys, d) → (batch, queries, d).

        As many queries as keys: each attends to its own and earlier positions, in training and in evaluation.
        One query: it attends to all keys, all at rotary position 0, as the published weights are decoded.
        Any other number of queries raises ValueError. `padding_mask` (batch, keys) is True where a key is padding.
        """
        batch, queries, width = query.shape
        q, k, v = (
            self._heads(projection(source))
            for projection, source in (
                (self.q_proj, query), (self.k_proj, context), (self.v_proj, context),
            )
        )  # fmt: skip
        if queries == k.shape[-2]:
            q, k = self.rotary(q), self.rotary(k)
            mask, causal = self._mask(padding_mask, queries), padding_mask is None
        elif queries == 1:
            mask = None if padding_mask is None else ~padding_mask[:, None, None, :]
            causal = False
        else:
            raise ValueError(f"{queries} queries for {k.shape[-2]} keys: pass one query or as many as keys")
        dropout = self.attn_dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal)
        out = self.out_proj(out.transpose(1, 2).reshape(batch, queries, width))
        return F.dropout(out, self.resid_dropout, self.training)

    def _heads(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(-1, (self.n_heads, self.head_dim))
        return heads.transpose(1, 2)

    @staticmethod
    def _mask(padding_mask: Tensor | None, length: int) -> Tensor | None:
        if padding_mask is None:
            return None
        causal = torch.ones(length, length, dtype=torch.bool, device=padding_mask.device).tril()
        own = torch.eye(length, dtype=torch.bool, device=padding_mask.device)
        return (causal & ~padding_mask[:, None, :] | own)[:, None]  # padded rows attend to themselves: no empty softmax


class TransformerBlock(nn.Module):
    """Pre-norm block: causal self-attention, then the feed-forward network."""

    def __init__(
        self, d_model: int, n_heads: int, ff_dim: int, ffn_dropout: float, attn_dropout: float, resid_dropout: float
    ) -> None:
        super().__init__()
        self.norm1 = RMSNorm(d_model)
        self.self_attn = Attention(d_model, n_heads, attn_dropout, resid_dropout)
        self.norm2 = RMSNorm(d_model)
        self.ffn = FeedForward(d_model, ff_dim, ffn_dropout)

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        normed = self.norm1(x)
        x = x + self.self_attn(normed, normed, padding_mask)
        out: Tensor = x + self.ffn(self.norm2(x))
        return out


class DependencyAwareLayer(nn.Module):
    """Conditions the fine token on the coarse one, whose embedding is the query over the hidden states."""

    N_HEADS = 4

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.cross_attn = Attention(d_model, self.N_HEADS, 0.0, 0.0)
        self.norm = RMSNorm(d_model)

    def forward(self, hidden: Tensor, sibling: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """hidden (batch, length, d), sibling (batch, length or 1, d) → (batch, length, d)."""
        out: Tensor = self.norm(hidden + self.cross_attn(sibling, hidden, padding_mask))
        return out
