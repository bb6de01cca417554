"""Random models in the authors' implementation and in ours with the same weights, and random input."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from kronos import Kronos, KronosPredictor, KronosTokenizer
from kronos.config import KronosConfig, TokenizerConfig

TINY = KronosConfig(
    s1_bits=6, s2_bits=6, n_layers=2, d_model=48, n_heads=4, ff_dim=80,
    ffn_dropout_p=0.0, attn_dropout_p=0.0, resid_dropout_p=0.0, token_dropout_p=0.0,
)  # fmt: skip
TINY_TOKENIZER = TokenizerConfig(
    d_model=32, n_heads=2, ff_dim=48, n_enc_layers=3, n_dec_layers=3, s1_bits=6, s2_bits=6, group_size=4
)


class Pair(NamedTuple):
    """The same weights in both implementations."""

    their_model: Any
    their_tokenizer: Any
    model: Kronos
    tokenizer: KronosTokenizer

    def predictors(self, max_context: int = 512, **options: Any) -> tuple[Any, KronosPredictor]:
        authors = pytest.importorskip("model", reason="kronos-model-arch is not installed")
        theirs = authors.KronosPredictor(self.their_model, self.their_tokenizer, device="cpu", max_context=max_context)
        ours = KronosPredictor(self.model, self.tokenizer, device="cpu", max_context=max_context, **options)
        return theirs, ours


def make_pair(config: KronosConfig, tokenizer: TokenizerConfig, seed: int = 0) -> Pair:
    """Random weights; norms and biases differ from their initial ones and zeros, so that errors in them show."""
    authors = pytest.importorskip("model", reason="kronos-model-arch is not installed")
    torch.manual_seed(seed)
    theirs = authors.Kronos(**config.to_dict()).eval(), authors.KronosTokenizer(**tokenizer.to_dict()).eval()
    with torch.no_grad():
        for module in theirs:
            for parameter in module.parameters():
                if parameter.ndim == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    ours = Kronos(**config.to_dict()).eval(), KronosTokenizer(**tokenizer.to_dict()).eval()
    for mine, their in zip(ours, theirs, strict=True):
        mine.load_state_dict(their.state_dict(), strict=True)
    return Pair(*theirs, *ours)


def random_bars(length: int, seed: int = 0) -> pd.DataFrame:
    """A random walk of plausible bars on business days, indexed by day."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, length)))
    opening = close * np.exp(rng.normal(0, 0.005, length))
    volume = rng.lognormal(10, 1, length)
    return pd.DataFrame(
        {
            "open": opening,
            "high": np.maximum(opening, close) * 1.003,
            "low": np.minimum(opening, close) * 0.997,
            "close": close,
            "volume": volume,
            "amount": volume * close,
        },
        index=pd.bdate_range("2020-01-01", periods=length),
    )


def random_stamps(*shape: int, seed: int = 0) -> NDArray[np.int64]:
    """Calendar features (*shape, 5)."""
    rng = np.random.default_rng(seed)
    bounds = ((0, 60), (0, 24), (0, 7), (1, 32), (1, 13))
    return np.stack([rng.integers(low, high, shape) for low, high in bounds], axis=-1)
