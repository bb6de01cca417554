"""Learning the Kronos predictor: which token pair comes next. The tokenizer is frozen, and every window is
tokenised once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from assets.forecasting.drift import Reference, reference
from assets.training.data.dataset import Augmented, LearntSplit, WindowArrays
from assets.training.fit.lr_schedule import spread
from assets.training.fit.tokenizer import CHUNK
from kronos import Kronos, KronosConfig, KronosTokenizer
from kronos.losses import PredictorLoss, predictor_loss
from kronos.normalisation import Normalisation
from resources.settings import PredictorSettings

# Origins that drift is calibrated on: so many, and more where the symbols are few.
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
    """A predictor of the settings' shape for this tokenizer's tokens, with fresh weights from torch's generator."""
    shape = {key: getattr(settings, key) for key in SHAPE_KEYS}
    return Kronos(KronosConfig(s1_bits=tokenizer.s1_bits, s2_bits=tokenizer.s2_bits, **shape))


@dataclass(frozen=True)
class Tokens:
    """Token pairs of some windows: two (n, length) uint16 arrays, memory-mapped when they were put in a folder."""

    s1: np.ndarray
    s2: np.ndarray


def tokenise(
    tokenizer: KronosTokenizer,
    arrays: WindowArrays,
    starts: np.ndarray,
    rule: Normalisation,
    folder: Path,
    changed: Augmented | None = None,
) -> Tokens:
    """Encode windows with the frozen tokenizer, on the device that it is on, into files of `folder`."""
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
            values = arrays.normalised(starts[rows], rule, None if changed is None else changed[rows])
            coarse, fine = tokenizer.encode(torch.from_numpy(values).to(device), half=True)
            s1[rows], s2[rows] = coarse.cpu().numpy(), fine.cpu().numpy()
    return Tokens(s1, s2)


class PredictorTask:
    """The predictor's losses over tokenised windows.

    Args:
        drawn: the numbers of the training windows that will be asked for; only these are tokenised.
        folder: where the tokens go.
    """

    def __init__(
        self,
        arrays: WindowArrays,
        tokenizer: KronosTokenizer,
        rule: Normalisation,
        settings: PredictorSettings,
        drawn: np.ndarray,
        folder: Path,
        device: torch.device,
        seed: int,
    ) -> None:
        self.arrays, self.device, self.settings = arrays, device, settings
        self.tokenizer, self.rule, self.folder, self.chunk = tokenizer, rule, folder, CHUNK
        starts = arrays.windows("train")[:, 1]
        changed = Augmented.drawn(len(starts), settings, seed)
        self.place = np.full(len(starts), -1, dtype=np.int64)
        self.place[drawn] = np.arange(len(drawn))
        self.train_starts, self.plain = starts[drawn], ~changed.mirrored[drawn]
        self.train = tokenise(tokenizer, arrays, self.train_starts, rule, folder / "train", changed[drawn])
        self.validation_starts = self._held_out("validation")
        self.validation = tokenise(tokenizer, arrays, self.validation_starts, rule, folder / "validation")

    def drift_reference(self, s1_bits: int) -> Reference:
        """What the input of later forecasts is compared with: validation origins, each with all symbols."""
        lookback = self.arrays.shape.lookback
        starts = self.arrays.windows("validation")[:, 1]
        origins = np.asarray(self.arrays.stamps)[starts + lookback - 1]
        days, symbols = np.unique(origins, return_counts=True)
        some = days[spread(len(days), max(DRIFT_ORIGINS, DRIFT_WINDOWS // symbols.max()))]
        chosen = np.isin(origins, some)
        tokens = tokenise(self.tokenizer, self.arrays, starts[chosen], self.rule, self.folder / "drift")
        usual = self.train.s1[self.plain] if self.plain.any() else self.train.s1
        return reference(usual, tokens.s1[:, :lookback], origins[chosen], 2**s1_bits)

    def _held_out(self, split: LearntSplit) -> np.ndarray:
        starts = self.arrays.windows(split)[:, 1]
        return starts[spread(len(starts), self.settings.validation_windows)]

    def loss(self, model: nn.Module, windows: np.ndarray) -> Tensor:
        rows = self.place[windows]
        return self._loss(model, self.train, self.train_starts, rows, self.settings.s1_sampling).total

    def validate(self, model: nn.Module) -> dict[str, float]:
        sums = np.zeros(len(PredictorLoss._fields))
        for first in range(0, len(self.validation_starts), self.chunk):
            rows = np.arange(first, min(first + self.chunk, len(self.validation_starts)))
            losses = self._loss(model, self.validation, self.validation_starts, rows, "teacher")
            sums += np.array([float(value) for value in losses]) * len(rows)
        named = dict(zip(PredictorLoss._fields, sums / len(self.validation_starts), strict=True))
        return {"loss": named.pop("total"), **named}

    def _loss(
        self, model: nn.Module, tokens: Tokens, starts: np.ndarray, rows: np.ndarray, sampling: str
    ) -> PredictorLoss:
        s1, s2 = (torch.from_numpy(part[rows].astype(np.int64)).to(self.device) for part in (tokens.s1, tokens.s2))
        stamps = torch.from_numpy(self.arrays.stamp_features(starts[rows]).astype(np.int64)).to(self.device)
        return predictor_loss(model, s1, s2, stamps, s1_sampling=sampling)  # type: ignore[arg-type]
