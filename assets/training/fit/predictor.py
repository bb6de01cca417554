"""Training the Kronos predictor: the next token pair, given the token pairs before it.

The tokenizer is frozen, and every window is tokenised once, before the first step.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from assets.forecasting.drift import DriftReference, drift_reference
from assets.training.data.dataset import Augmentation, WindowArrays
from assets.training.fit.lr_schedule import evenly_spaced
from assets.training.fit.tokenizer import CHUNK
from kronos import Kronos, KronosConfig, KronosTokenizer
from kronos.losses import PredictorLoss, predictor_loss
from kronos.normalisation import Normalisation
from resources.settings import PredictorSettings

# Validation origins that drift limits are calibrated on: this many, and more where there are few symbols.
DRIFT_ORIGINS, DRIFT_WINDOWS = 24, 4096
SHAPE_KEYS = (
    "d_model",
    "n_heads",
    "ff_dim",
    "n_layers",
    "ffn_dropout_p",
    "attn_dropout_p",
    "resid_dropout_p",
    "token_dropout_p",
)


def new_predictor(settings: PredictorSettings, tokenizer: KronosTokenizer) -> Kronos:
    """A predictor of the shape in the settings for this tokenizer, initialised from torch's random generator."""
    shape = {key: getattr(settings, key) for key in SHAPE_KEYS}
    return Kronos(KronosConfig(s1_bits=tokenizer.s1_bits, s2_bits=tokenizer.s2_bits, **shape))


@dataclass(frozen=True)
class TokenArrays:
    """Token pairs of some windows: two memory-mapped (n, length) uint16 arrays."""

    s1: np.ndarray
    s2: np.ndarray


def tokenise(
    tokenizer: KronosTokenizer,
    arrays: WindowArrays,
    starts: np.ndarray,
    rule: Normalisation,
    folder: Path,
    augmentation: Augmentation | None = None,
) -> TokenArrays:
    """Encode windows with the frozen tokenizer, on its device, into files of `folder`.

    Args:
        starts: (n,) the row of each window's first bar.
    """
    device = next(tokenizer.parameters()).device
    folder.mkdir(parents=True, exist_ok=True)
    shape = (len(starts), arrays.shape.length)
    s1, s2 = (
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.uint16, shape=shape)
        for name in ("s1", "s2")
    )
    with torch.inference_mode():
        for first in range(0, len(starts), CHUNK):
            rows = slice(first, first + CHUNK)
            values = arrays.normalised(starts[rows], rule, None if augmentation is None else augmentation[rows])
            coarse, fine = tokenizer.encode(torch.from_numpy(values).to(device), half=True)
            s1[rows], s2[rows] = coarse.cpu().numpy(), fine.cpu().numpy()
    return TokenArrays(s1, s2)


class PredictorTask:
    """The predictor's training and validation losses over tokenised windows.

    Args:
        used: the numbers of the training windows that training will ask for; only these are tokenised.
        folder: where the token files are written.

    Attributes:
        chunk: validation windows per forward pass; the trainer lowers it where memory is short.
    """

    def __init__(
        self,
        arrays: WindowArrays,
        tokenizer: KronosTokenizer,
        rule: Normalisation,
        settings: PredictorSettings,
        used: np.ndarray,
        folder: Path,
        device: torch.device,
        seed: int,
    ) -> None:
        self.arrays, self.device, self.settings = arrays, device, settings
        self.tokenizer, self.rule, self.folder, self.chunk = tokenizer, rule, folder, CHUNK
        starts = arrays.windows("train")[:, 1]
        augmentation = Augmentation.draw(len(starts), settings, seed)
        self.row_of_window = np.full(len(starts), -1, dtype=np.int64)
        self.row_of_window[used] = np.arange(len(used))
        self.train_starts, self.is_unmirrored = starts[used], ~augmentation.mirrored[used]
        self.train = tokenise(tokenizer, arrays, self.train_starts, rule, folder / "train", augmentation[used])
        validation = arrays.windows("validation")[:, 1]
        self.validation_starts = validation[evenly_spaced(len(validation), settings.validation_windows)]
        self.validation = tokenise(tokenizer, arrays, self.validation_starts, rule, folder / "validation")

    def batch(self, windows: np.ndarray) -> tuple[Tensor, ...]:
        """Tokens s1, s2 (n, length) and calendar features (n, length, 5) of the training windows with these numbers."""
        return self._batch(self.train, self.train_starts, self.row_of_window[windows])

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """The mean training loss of a batch."""
        return predictor_loss(model, *batch, s1_sampling=self.settings.s1_sampling).total  # type: ignore[arg-type]

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Mean losses over the validation windows, by name; `loss` is the total."""
        sums = np.zeros(len(PredictorLoss._fields))
        for first in range(0, len(self.validation_starts), self.chunk):
            rows = np.arange(first, min(first + self.chunk, len(self.validation_starts)))
            batch = (part.to(self.device) for part in self._batch(self.validation, self.validation_starts, rows))
            losses = predictor_loss(model, *batch)  # type: ignore[arg-type]
            sums += np.array([float(value) for value in losses]) * len(rows)
        means = dict(zip(PredictorLoss._fields, sums / len(self.validation_starts), strict=True))
        return {"loss": means.pop("total"), **means}

    def drift_reference(self, s1_bits: int) -> DriftReference:
        """The token distribution that the input of later forecasts is compared with.

        Training tokens, and validation origins with all their symbols to calibrate the limits.
        """
        lookback = self.arrays.shape.lookback
        starts = self.arrays.windows("validation")[:, 1]
        origins = np.asarray(self.arrays.timestamps)[starts + lookback - 1]
        days, symbols = np.unique(origins, return_counts=True)
        sampled_days = days[evenly_spaced(len(days), max(DRIFT_ORIGINS, DRIFT_WINDOWS // symbols.max()))]
        is_sampled = np.isin(origins, sampled_days)
        tokens = tokenise(self.tokenizer, self.arrays, starts[is_sampled], self.rule, self.folder / "drift")
        training_tokens = self.train.s1[self.is_unmirrored] if self.is_unmirrored.any() else self.train.s1
        return drift_reference(training_tokens, tokens.s1[:, :lookback], origins[is_sampled], 2**s1_bits)

    def _batch(self, tokens: TokenArrays, starts: np.ndarray, rows: np.ndarray) -> tuple[Tensor, ...]:
        parts = tokens.s1[rows], tokens.s2[rows], self.arrays.time_features(starts[rows])
        return tuple(torch.from_numpy(part.astype(np.int64)) for part in parts)
