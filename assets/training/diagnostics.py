"""Diagnostics of trained models, in numbers and pictures: codebook use, reconstruction error, training curves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assets import plots
from assets.training.fit.curves import TrainingCurves
from assets.training.fit.tokenizer import TokenizerTask
from kronos import KronosTokenizer
from kronos.diagnostics import CodebookUse, codebook_use, reconstruction_error, token_histogram

CURVES_PNG, CODEBOOK_PNG, RECONSTRUCTION_PNG = "curves.png", "codebook.png", "reconstruction.png"


@dataclass(frozen=True)
class TokenizerDiagnostics:
    """Codebook use and reconstruction error of a tokenizer on the validation windows.

    Attributes:
        coarse: use of the s1 codebook.
        fine: use of the s2 codebook.
        errors: by field, in standard deviations of the lookback.
        histogram: (2**s1_bits,) counts of the coarse token.
    """

    coarse: CodebookUse
    fine: CodebookUse
    errors: dict[str, dict[str, float]]
    histogram: np.ndarray

    def scores(self) -> dict[str, Any]:
        """The numbers for the card, as JSON values."""
        return {
            "codebook": {
                name: {"used": use.used, "perplexity": use.perplexity, "entropy": use.entropy, "bits": use.bits}
                for name, use in (("s1", self.coarse), ("s2", self.fine))
            },
            "reconstruction": self.errors,
        }


def tokenizer_diagnostics(tokenizer: KronosTokenizer, task: TokenizerTask) -> TokenizerDiagnostics:
    """Codebook use and reconstruction error over the validation windows of a task."""
    x = torch.from_numpy(task.arrays.normalised(task.validation, task.rule))
    with torch.inference_mode():
        pairs = [tokenizer.encode(part, half=True) for part in torch.split(x, 256)]
    s1, s2 = (torch.cat([pair[half] for pair in pairs]) for half in (0, 1))
    return TokenizerDiagnostics(
        codebook_use(s1, tokenizer.s1_bits),
        codebook_use(s2, tokenizer.s2_bits),
        reconstruction_error(tokenizer, x, batch_size=256),
        token_histogram(s1, tokenizer.s1_bits),
    )


def draw_tokenizer(folder: Path, curves: TrainingCurves, diagnostics: TokenizerDiagnostics) -> None:
    """Write the three pictures of a tokenizer to a folder: curves, codebook, reconstruction."""
    _draw_curves(folder, curves, "Tokenizer: reconstruction and quantiser loss")
    with plots.figure(6.4, 2.6) as figure:
        axes = figure.subplots(1, 2, width_ratios=[2, 1])
        shares = np.sort(diagnostics.histogram)[::-1] / diagnostics.histogram.sum()
        axes[0].bar(np.arange(len(shares)), shares, width=1.0, color=plots.COLOURS["kronos"])
        axes[0].set(title="Coarse tokens by frequency", xlabel="token, most frequent first", ylabel="share")
        for number, (name, use) in enumerate((("s1", diagnostics.coarse), ("s2", diagnostics.fine))):
            axes[1].bar(
                np.arange(use.bits) + number * (use.bits + 1), use.bit_means, color=("#0072B2", "#56B4E9")[number],
                label=f"{name}: {use.used:.0%} of codes in use",
            )  # fmt: skip
        axes[1].axhline(0.5, color="#555555", linewidth=0.8)
        bits = [*range(diagnostics.coarse.bits), *(diagnostics.coarse.bits + 1 + np.arange(diagnostics.fine.bits))]
        names = [*range(1, diagnostics.coarse.bits + 1), *range(1, diagnostics.fine.bits + 1)]
        axes[1].set(title="Share of ones by bit", xlabel="bit of each half", ylim=(0, 1.4), yticks=[0, 0.5, 1])
        axes[1].set_xticks(bits, names)
        axes[1].legend(loc="upper right")
        (folder / CODEBOOK_PNG).write_bytes(plots.png(figure))
    with plots.figure(6.4, 2.4) as figure:
        axis = figure.subplots()
        fields = list(diagnostics.errors)
        positions = np.arange(len(fields))
        coarse, full = ([diagnostics.errors[f][key] for f in fields] for key in ("coarse_rmse", "rmse"))
        axis.bar(positions - 0.2, coarse, 0.4, color="#bbbbbb", label="coarse token only")
        axis.bar(positions + 0.2, full, 0.4, color=plots.COLOURS["kronos"], label="both tokens")
        axis.set(title="Reconstruction error (validation)", ylabel="RMSE, lookback deviations")
        axis.set_xticks(positions, fields)
        axis.set_ylim(0, 1.3 * max(*coarse, *full))
        axis.legend(ncols=2, loc="upper right")
        (folder / RECONSTRUCTION_PNG).write_bytes(plots.png(figure))


def draw_predictor(folder: Path, curves: TrainingCurves) -> None:
    """Write the training curves of a predictor to a folder."""
    _draw_curves(folder, curves, "Predictor: cross-entropy of the next token, nats")


def draw_losses(
    folder: Path,
    title: str,
    train: list[tuple[int, float]],
    validation: list[tuple[int, float]],
    best: int,
    name: str = "validation, causal",
) -> None:
    """Write a picture of training and validation loss by step, with the best step marked."""
    with plots.figure(6.4, 2.8) as figure:
        axis = figure.subplots()
        if train:
            axis.plot(*zip(*train, strict=True), color="#bbbbbb", label="training")
        if validation:
            axis.plot(
                *zip(*validation, strict=True), color=plots.COLOURS["kronos"], marker="o", markersize=3,
                label=name,
            )  # fmt: skip
        axis.axvline(best, color="#D55E00", linewidth=0.8, linestyle="--", label=f"lowest, step {best}")
        axis.set(title=title, xlabel="step", ylabel="loss")
        axis.legend()
        (folder / CURVES_PNG).write_bytes(plots.png(figure))


def _draw_curves(folder: Path, curves: TrainingCurves, title: str) -> None:
    validation = [(int(entry["step"]), entry["loss"]) for entry in curves.validation]
    draw_losses(folder, title, curves.train, validation, curves.best_step)
