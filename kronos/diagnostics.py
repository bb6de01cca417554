"""Diagnostics of a tokenizer: codebook use, token drift and reconstruction error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from kronos.features import FEATURES
from kronos.tokenizer import KronosTokenizer


@dataclass(frozen=True)
class CodebookUse:
    """How evenly one codebook (coarse or fine) is used.

    `used` is the share of codes that occur; `entropy` is in bits, at most `bits`; `perplexity` = 2**entropy is the
    number of equally likely codes with that entropy; `bit_means` (bits,) are the shares of ones, 0.5 for a bit of
    maximal information.
    """

    bits: int
    used: float
    entropy: float
    perplexity: float
    bit_means: NDArray[np.float64]


def token_histogram(tokens: ArrayLike | Tensor, bits: int) -> NDArray[np.int64]:
    """Counts (2**bits,) of token ids of any shape. Ids outside the codebook raise ValueError."""
    ids = np.asarray(tokens.cpu() if isinstance(tokens, Tensor) else tokens).ravel().astype(np.int64)
    if len(ids) and (ids.min() < 0 or ids.max() >= 2**bits):
        raise ValueError(f"token ids must lie in 0…{2**bits - 1}, found {ids.min()}…{ids.max()}")
    return np.bincount(ids, minlength=2**bits)


def codebook_use(tokens: ArrayLike | Tensor, bits: int) -> CodebookUse:
    """Use of one codebook by token ids of any shape. Raises ValueError if there are none."""
    counts = token_histogram(tokens, bits)
    total = counts.sum()
    if total == 0:
        raise ValueError("codebook_use needs at least one token")
    p = counts[counts > 0] / total
    entropy = float(-(p * np.log2(p)).sum())
    ones = (np.arange(2**bits)[:, None] >> np.arange(bits)) & 1
    return CodebookUse(bits, float((counts > 0).mean()), entropy, 2.0**entropy, counts @ ones / total)


@torch.inference_mode()
def reconstruction_error(tokenizer: KronosTokenizer, x: Tensor, *, batch_size: int = 64) -> dict[str, dict[str, float]]:
    """Root-mean-square and mean absolute error of each field, in units of normalised bars.

    `x` (windows, time, 6) is normalised. Returns {field: {"rmse", "mae", "coarse_rmse"}}; "coarse_rmse" is that of the
    reconstruction from the coarse token only.
    """
    was_training = tokenizer.training
    tokenizer.eval()
    square, absolute, coarse = (torch.zeros(x.shape[-1], dtype=torch.float64) for _ in range(3))
    try:
        for part in x.split(batch_size):
            pre, full = tokenizer(part).reconstructions
            square += (full - part).double().square().sum(dim=(0, 1)).cpu()
            absolute += (full - part).double().abs().sum(dim=(0, 1)).cpu()
            coarse += (pre - part).double().square().sum(dim=(0, 1)).cpu()
    finally:
        tokenizer.train(was_training)
    n = x.shape[0] * x.shape[1]
    return {
        field: {
            "rmse": float((square[i] / n).sqrt()),
            "mae": float(absolute[i] / n),
            "coarse_rmse": float((coarse[i] / n).sqrt()),
        }
        for i, field in enumerate(FEATURES)
    }
