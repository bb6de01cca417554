"""The predictor: a causal transformer over token pairs, with logits of the next pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kronos import checkpoints
from kronos.config import KronosConfig
from kronos.embeddings import DualHead, HierarchicalEmbedding, TemporalEmbedding
from kronos.layers import DependencyAwareLayer, RMSNorm, TransformerBlock
from kronos.normalisation import Normalisation


class Kronos(nn.Module):
    """Decoder-only transformer with a coarse head and a fine head conditioned on the coarse token.

    Keyword arguments are those of the published config.json (see KronosConfig); `config=` takes the
    dataclass instead.
    """

    def __init__(self, config: KronosConfig | None = None, **keywords: Any) -> None:
        super().__init__()
        if config is not None and keywords:
            raise TypeError("pass a config or its keywords, not both")
        self.config = c = config or KronosConfig.from_dict(keywords, source="Kronos's arguments")
        self.normalisation: Normalisation | None = None
        self.gradient_checkpointing = False
        self.token_drop = nn.Dropout(c.token_dropout_p)
        self.embedding = HierarchicalEmbedding(c.s1_bits, c.s2_bits, c.d_model)
        self.time_emb = TemporalEmbedding(c.d_model, c.learn_te)
        self.transformer = nn.ModuleList(
            TransformerBlock(c.d_model, c.n_heads, c.ff_dim, c.ffn_dropout_p, c.attn_dropout_p, c.resid_dropout_p)
            for _ in range(c.n_layers)
        )
        self.norm = RMSNorm(c.d_model)
        self.dep_layer = DependencyAwareLayer(c.d_model)
        self.head = DualHead(c.s1_bits, c.s2_bits, c.d_model)
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding) and module.weight.requires_grad:
            nn.init.normal_(module.weight, mean=0.0, std=self.config.d_model**-0.5)

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> Self:
        """Load a folder or a hub repository; options as for `kronos.checkpoints.load`. In eval mode."""
        return checkpoints.load(cls, KronosConfig, source, **options)

    def save_pretrained(self, folder: str | Path, *, normalisation: Normalisation | None = None) -> Path:
        """Write config.json and model.safetensors, readable by the authors' package; returns the folder."""
        return checkpoints.save(self, folder, normalisation=normalisation)

    @property
    def s1_bits(self) -> int:
        return self.config.s1_bits

    @property
    def s2_bits(self) -> int:
        return self.config.s2_bits

    def forward(
        self,
        s1_ids: Tensor,
        s2_ids: Tensor,
        stamp: Tensor | None = None,
        padding_mask: Tensor | None = None,
        use_teacher_forcing: bool = False,
        s1_targets: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits of the next coarse and fine token at every position.

        `s1_ids`, `s2_ids` (batch, time); `stamp` (batch, time, 5) calendar features; `padding_mask` (batch, time),
        True at padding. The fine logits are conditioned on `s1_targets` (batch, time) under teacher forcing, else on
        coarse tokens sampled from the model. Both results are (batch, time, 2**bits). Causal in evaluation, too; in
        the authors' evaluation the fine head attends to later positions.
        """
        if use_teacher_forcing and s1_targets is None:
            raise ValueError("use_teacher_forcing needs s1_targets")
        s1_logits, context = self.decode_s1(s1_ids, s2_ids, stamp, padding_mask)
        sibling = s1_targets if use_teacher_forcing else _multinomial(s1_logits.detach())
        return s1_logits, self.decode_s2(context, sibling, padding_mask)

    def decode_s1(
        self, s1_ids: Tensor, s2_ids: Tensor, stamp: Tensor | None = None, padding_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Coarse logits (batch, time, 2**s1_bits) and hidden states (batch, time, d_model)."""
        context = self.hidden(s1_ids, s2_ids, stamp, padding_mask)
        return self.head.proj_s1(context), context

    def decode_s2(self, context: Tensor, s1_ids: Tensor | None, padding_mask: Tensor | None = None) -> Tensor:
        """Fine logits (batch, time, 2**s2_bits) given coarse tokens (batch, time), or (batch, 1) to decode."""
        sibling = self.embedding.emb_s1(s1_ids)
        logits: Tensor = self.head.proj_s2(self.dep_layer(context, sibling, padding_mask))
        return logits

    def hidden(
        self, s1_ids: Tensor, s2_ids: Tensor, stamp: Tensor | None = None, padding_mask: Tensor | None = None
    ) -> Tensor:
        """Hidden states (batch, time, d_model) after the last norm."""
        x = self.embedding(s1_ids, s2_ids)
        if stamp is not None:
            x = x + self.time_emb(stamp)
        x = self.token_drop(x)
        for block in self.transformer:
            if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(block, x, padding_mask, use_reentrant=False)
            else:
                x = block(x, padding_mask)
        hidden: Tensor = self.norm(x)
        return hidden


def _multinomial(logits: Tensor) -> Tensor:
    """Token ids (…) sampled from logits (…, vocabulary) with torch's global generator."""
    flat = logits.flatten(0, -2).softmax(dim=-1)
    return torch.multinomial(flat, 1).view(logits.shape[:-1])
