"""Training the Kronos tokenizer: an autoencoder of bars with a code of a few bits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from assets.training.data.dataset import Augmentation, WindowArrays
from assets.training.fit.lr_schedule import evenly_spaced
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
    """A tokenizer of the shape in the settings, initialised from torch's random generator."""
    return KronosTokenizer(TokenizerConfig(**{key: getattr(settings, key) for key in SHAPE_KEYS}))


class TokenizerTask:
    """The tokenizer's training and validation losses over the windows of a folder.

    Attributes:
        chunk: validation windows per forward pass; the trainer lowers it where memory is short.
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
        self.augmentation = Augmentation.draw(len(self.train), settings, seed)
        validation = arrays.windows("validation")[:, 1]
        self.validation = validation[evenly_spaced(len(validation), settings.validation_windows)]

    def batch(self, windows: np.ndarray) -> tuple[Tensor, ...]:
        """Normalised bars (n, length, 6) of the training windows with these numbers."""
        return (self._bars(self.train[windows], self.augmentation[windows]),)

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """The mean training loss of a batch."""
        return tokenizer_loss(model, *batch).total  # type: ignore[arg-type]

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Mean losses over the validation windows, by name; `loss` is the total."""
        sums = np.zeros(len(TokenizerLoss._fields))
        for first in range(0, len(self.validation), self.chunk):
            part = self.validation[first : first + self.chunk]
            sums += np.array([float(value) for value in self._loss(model, part)]) * len(part)
        losses = dict(zip(TokenizerLoss._fields, sums / len(self.validation), strict=True))
        return {"loss": losses.pop("total"), **losses}

    def _loss(self, model: nn.Module, starts: np.ndarray) -> TokenizerLoss:
        return tokenizer_loss(model, self._bars(starts, None).to(self.device))  # type: ignore[arg-type]

    def _bars(self, starts: np.ndarray, augmentation: Augmentation | None) -> Tensor:
        return torch.from_numpy(self.arrays.normalised(starts, self.rule, augmentation))
