"""Learning the Kronos tokenizer: bars in, the same bars out, through a code of a few bits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from assets.training.data.dataset import Augmented, WindowArrays
from assets.training.fit.lr_schedule import spread
from kronos import KronosTokenizer, TokenizerConfig
from kronos.losses import TokenizerLoss, tokenizer_loss
from kronos.normalisation import Normalisation
from resources.settings import TokenizerSettings

CHUNK = 256
SHAPE_KEYS = (
    "d_model",
    "n_heads",
    "ff_dim",
    "n_enc_layers",
    "n_dec_layers",
    "s1_bits",
    "s2_bits",
    "beta",
    "gamma0",
    "gamma",
    "zeta",
    "group_size",
)


def new_tokenizer(settings: TokenizerSettings) -> KronosTokenizer:
    """A tokenizer of the settings' shape, with fresh weights from torch's generator."""
    return KronosTokenizer(TokenizerConfig(**{key: getattr(settings, key) for key in SHAPE_KEYS}))


class TokenizerTask:
    """The tokenizer's losses over the windows of a folder.

    Attributes:
        chunk: validation windows at once; the loop lowers it where memory is short.
    """

    def __init__(
        self,
        arrays: WindowArrays,
        rule: Normalisation,
        settings: TokenizerSettings,
        device: torch.device,
        seed: int,
    ) -> None:
        self.arrays, self.rule, self.device = arrays, rule, device
        self.chunk = CHUNK
        self.train = arrays.windows("train")[:, 1]
        self.changed = Augmented.drawn(len(self.train), settings, seed)
        held_out = arrays.windows("validation")[:, 1]
        self.validation = held_out[spread(len(held_out), settings.validation_windows)]

    def loss(self, model: nn.Module, windows: np.ndarray) -> Tensor:
        return self._loss(model, self.train[windows], self.changed[windows]).total

    def validate(self, model: nn.Module) -> dict[str, float]:
        sums = np.zeros(len(TokenizerLoss._fields))
        for first in range(0, len(self.validation), self.chunk):
            part = self.validation[first : first + self.chunk]
            sums += np.array([float(value) for value in self._loss(model, part, None)]) * len(part)
        named = dict(zip(TokenizerLoss._fields, sums / len(self.validation), strict=True))
        return {"loss": named.pop("total"), **named}

    def _loss(self, model: nn.Module, starts: np.ndarray, changed: Augmented | None) -> TokenizerLoss:
        x = torch.from_numpy(self.arrays.normalised(starts, self.rule, changed)).to(self.device)
        return tokenizer_loss(model, x)  # type: ignore[arg-type]
