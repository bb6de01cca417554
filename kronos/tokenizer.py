"""The tokenizer: normalised bars to pairs of binary tokens and back. Both directions are causal."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, overload

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kronos import checkpoints
from kronos.bsq import TokenQuantiser, pack_bits, unpack_bits
from kronos.config import TokenizerConfig
from kronos.layers import TransformerBlock
from kronos.linear import Linear
from kronos.normalisation import Normalisation


class TokenizerOutput(NamedTuple):
    """The result of one forward pass, in the order of the authors' tuple."""

    reconstructions: tuple[Tensor, Tensor]
    """From the coarse token only and from both, each (batch, time, d_in)."""
    bsq_loss: Tensor
    quantised: Tensor
    """(batch, time, bits), ±1/√bits with a straight-through gradient."""
    indices: Tensor
    """(batch, time), both tokens in one integer: s1 + s2 · 2**s1_bits."""


class KronosTokenizer(nn.Module):
    """Auto-encoder of normalised bars with a binary spherical bottleneck.

    Keyword arguments are those of the published config.json (see TokenizerConfig); `config=` takes the
    dataclass instead. `n_enc_layers` and `n_dec_layers` are one more than the number of blocks, as published.
    """

    def __init__(self, config: TokenizerConfig | None = None, **keywords: Any) -> None:
        super().__init__()
        if config is not None and keywords:
            raise TypeError("pass a config or its keywords, not both")
        self.config = c = config or TokenizerConfig.from_dict(keywords, source="KronosTokenizer's arguments")
        self.normalisation: Normalisation | None = None
        self.gradient_checkpointing = False
        self.embed = Linear(c.d_in, c.d_model)
        self.head = Linear(c.d_model, c.d_in)
        self.encoder = nn.ModuleList(self._block() for _ in range(c.n_enc_layers - 1))
        self.decoder = nn.ModuleList(self._block() for _ in range(c.n_dec_layers - 1))
        self.quant_embed = Linear(c.d_model, c.s1_bits + c.s2_bits)
        self.post_quant_embed_pre = Linear(c.s1_bits, c.d_model)
        self.post_quant_embed = Linear(c.s1_bits + c.s2_bits, c.d_model)
        self.tokenizer = TokenQuantiser(c.s1_bits, c.s2_bits, c.beta, c.gamma0, c.gamma, c.zeta, c.group_size)

    def _block(self) -> TransformerBlock:
        c = self.config
        return TransformerBlock(c.d_model, c.n_heads, c.ff_dim, c.ffn_dropout_p, c.attn_dropout_p, c.resid_dropout_p)

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> Self:
        """Load a folder or a hub repository; options as for `kronos.checkpoints.load`. In eval mode."""
        return checkpoints.load(cls, TokenizerConfig, source, **options)

    def save_pretrained(self, folder: str | Path, *, normalisation: Normalisation | None = None) -> Path:
        """Write config.json and model.safetensors, readable by the authors' package; returns the folder."""
        return checkpoints.save(self, folder, normalisation=normalisation)

    @property
    def s1_bits(self) -> int:
        return self.config.s1_bits

    @property
    def s2_bits(self) -> int:
        return self.config.s2_bits

    def forward(self, x: Tensor) -> TokenizerOutput:
        """Normalised bars (batch, time, d_in) → reconstructions, quantiser loss, codes and token ids."""
        bsq_loss, quantised = self.tokenizer(self._latent(x))
        coarse = self._run(self.decoder, self.post_quant_embed_pre(quantised[..., : self.s1_bits]))
        full = self._run(self.decoder, self.post_quant_embed(quantised))
        indices = pack_bits(quantised.detach() >= 0)
        return TokenizerOutput((self.head(coarse), self.head(full)), bsq_loss, quantised, indices)

    @overload
    def encode(self, x: Tensor, half: Literal[False] = False) -> Tensor: ...

    @overload
    def encode(self, x: Tensor, half: Literal[True]) -> tuple[Tensor, Tensor]: ...

    def encode(self, x: Tensor, half: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Normalised bars (batch, time, d_in) → token ids (batch, time), or (s1, s2) with `half`."""
        s1, s2 = self.tokenizer.indices(self._latent(x))
        return (s1, s2) if half else s1 + (s2 << self.s1_bits)

    def decode(self, tokens: Tensor | tuple[Tensor, Tensor], half: bool = False) -> Tensor:
        """Token ids as `encode` returns them → normalised bars (batch, time, d_in)."""
        hidden = self._run(self.decoder, self.post_quant_embed(self.indices_to_bits(tokens, half)))
        bars: Tensor = self.head(hidden)
        return bars

    def indices_to_bits(self, tokens: Tensor | tuple[Tensor, Tensor], half: bool = False) -> Tensor:
        """Token ids → codes ±1/√bits (…, bits)."""
        if half:
            s1, s2 = tokens
            return self.tokenizer.codes(s1, s2)
        if not isinstance(tokens, Tensor):
            raise TypeError("tokens must be one tensor; pass half=True for a pair (s1, s2)")
        bits = unpack_bits(tokens, self.s1_bits + self.s2_bits)
        return (bits.float() * 2 - 1) * self.tokenizer.bsq.scale

    def _latent(self, x: Tensor) -> Tensor:
        latent: Tensor = self.quant_embed(self._run(self.encoder, self.embed(x)))
        return latent

    def _run(self, blocks: nn.ModuleList, x: Tensor) -> Tensor:
        for block in blocks:
            if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x
