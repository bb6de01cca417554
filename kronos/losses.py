"""The training losses of tokenizer and predictor, as published."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor
from torch.nn import functional as F

from kronos.model import Kronos
from kronos.tokenizer import KronosTokenizer


class TokenizerLoss(NamedTuple):
    """`total` = (coarse + full + bsq) / 2; all scalars."""

    total: Tensor
    coarse: Tensor
    full: Tensor
    bsq: Tensor


class PredictorLoss(NamedTuple):
    """`total` = (s1 + s2) / 2; cross-entropies in nats per token; all scalars."""

    total: Tensor
    s1: Tensor
    s2: Tensor


def tokenizer_loss(tokenizer: KronosTokenizer, x: Tensor) -> TokenizerLoss:
    """Reconstruction losses from the coarse token and from both, and the quantiser's loss.

    `x` is (batch, time, 6), normalised.
    """
    output = tokenizer(x)
    coarse, full = (F.mse_loss(reconstruction, x) for reconstruction in output.reconstructions)
    return TokenizerLoss((coarse + full + output.bsq_loss) / 2, coarse, full, output.bsq_loss)


def predictor_loss(
    model: Kronos,
    s1: Tensor,
    s2: Tensor,
    stamps: Tensor,
    *,
    s1_sampling: Literal["teacher", "sampled"] = "teacher",
) -> PredictorLoss:
    """Next-token cross-entropy of windows `s1`, `s2` (batch, time) with `stamps` (batch, time, 5).

    Position t predicts t + 1, so a window of n tokens gives n - 1 predictions. The fine head is conditioned on the
    actual coarse token ("teacher"), or on one sampled from the model as in the authors' training ("sampled"). It
    never attends to later positions, not in evaluation either.

    Raises ValueError for an unknown `s1_sampling` and for windows of fewer than 2 tokens.
    """
    if s1_sampling not in ("teacher", "sampled"):
        raise ValueError(f"s1_sampling must be 'teacher' or 'sampled', got {s1_sampling!r}")
    if s1.shape[1] < 2:
        raise ValueError(f"a window needs at least 2 tokens, got {s1.shape[1]}")
    targets = s1[:, 1:], s2[:, 1:]
    logits = model(
        s1[:, :-1],
        s2[:, :-1],
        stamps[:, :-1],
        use_teacher_forcing=s1_sampling == "teacher",
        s1_targets=targets[0],
    )
    ce_s1, ce_s2 = (
        F.cross_entropy(value.flatten(0, 1), target.flatten()) for value, target in zip(logits, targets, strict=True)
    )
    return PredictorLoss((ce_s1 + ce_s2) / 2, ce_s1, ce_s2)
