"""Embeddings of token pairs and calendar features, and the output heads of both tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kronos.linear import Linear

CALENDAR_SIZES = {"minute": 60, "hour": 24, "weekday": 7, "day": 32, "month": 13}
"""Rows of the calendar tables, in the order of `kronos.features.TIME_FEATURES`."""


class HierarchicalEmbedding(nn.Module):
    """Coarse (s1) and fine (s2) token of a bar, embedded separately and fused by one linear layer."""

    def __init__(self, s1_bits: int, s2_bits: int, d_model: int) -> None:
        super().__init__()
        self.d_model = d_model
        self.s2_bits = s2_bits
        self.emb_s1 = nn.Embedding(2**s1_bits, d_model)
        self.emb_s2 = nn.Embedding(2**s2_bits, d_model)
        self.fusion_proj = Linear(2 * d_model, d_model)

    def forward(self, s1: Tensor, s2: Tensor) -> Tensor:
        """Token ids (…) and (…) → (…, d_model)."""
        both = torch.cat((self.emb_s1(s1), self.emb_s2(s2)), dim=-1)
        fused: Tensor = self.fusion_proj(both * math.sqrt(self.d_model))
        return fused


class SinusoidalTable(nn.Module):
    """A constant table of sines and cosines, for models with `learn_te` false."""

    def __init__(self, rows: int, d_model: int) -> None:
        super().__init__()
        position = torch.arange(rows).float().unsqueeze(1)
        frequency = torch.exp(torch.arange(0, d_model, 2).float() * (-math.log(10000.0) / d_model))
        table = torch.zeros(rows, d_model)
        table[:, 0::2] = torch.sin(position * frequency)
        table[:, 1::2] = torch.cos(position * frequency)
        self.emb = nn.Embedding.from_pretrained(table, freeze=True)

    def forward(self, index: Tensor) -> Tensor:
        rows: Tensor = self.emb(index)
        return rows


class TemporalEmbedding(nn.Module):
    """Embedding of a timestamp: the sum of five tables, one per calendar feature."""

    def __init__(self, d_model: int, learned: bool) -> None:
        super().__init__()
        for name, rows in CALENDAR_SIZES.items():
            table = nn.Embedding(rows, d_model) if learned else SinusoidalTable(rows, d_model)
            setattr(self, f"{name}_embed", table)

    def forward(self, stamps: Tensor) -> Tensor:
        """Calendar features (…, 5), integers in any dtype → (…, d_model)."""
        parts = dict(zip(CALENDAR_SIZES, stamps.long().unbind(-1), strict=True))
        first, *others = (
            self.get_submodule(f"{name}_embed")(parts[name])
            for name in ("hour", "weekday", "day", "month", "minute")  # the authors' order of summation
        )
        total: Tensor = sum(others, start=first)
        return total


class DualHead(nn.Module):
    """Logits of the coarse token from the hidden state, of the fine token from the conditioned state."""

    def __init__(self, s1_bits: int, s2_bits: int, d_model: int) -> None:
        super().__init__()
        self.proj_s1 = Linear(d_model, 2**s1_bits)
        self.proj_s2 = Linear(d_model, 2**s2_bits)
