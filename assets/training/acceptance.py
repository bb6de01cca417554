"""Acceptance checks of a published checkpoint: finite weights, codebook use, reconstruction error, validation loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import safe_open

from assets.acceptance import CheckOutcome
from assets.market.history import FIELDS, PRICES
from assets.training.data.dataset import WindowArrays
from assets.training.data.windows import FIT_SPLITS
from resources.checkpoints import Checkpoint
from resources.settings import TokenizerSettings

WEIGHTS_FILE = "model.safetensors"
LOSS_TOLERANCE = 1e-4


def check_checkpoint(checkpoint: Checkpoint, settings: TokenizerSettings) -> list[CheckOutcome]:
    """The outcomes of all acceptance checks for a checkpoint of its kind."""
    outcomes = [weights_are_finite(checkpoint)]
    if checkpoint.kind != "kronos_tokenizer":
        return [*outcomes, loss_not_above_base(checkpoint.card)]
    return [
        *outcomes,
        codebook_in_use(checkpoint.card, settings),
        reconstruction_is_accurate(checkpoint.card, settings),
    ]


def windows_in_range(arrays: WindowArrays) -> CheckOutcome:
    """The last bar of every window is in the range of its split, by the stored timestamps and the manifest.

    A session of an eastern exchange begins on the UTC day before, one of a western one may end on the day after.
    """
    problems, newest = [], []
    for split in FIT_SPLITS:
        windows = arrays.windows(split)
        if not len(windows):
            continue
        last = arrays.timestamps[windows[:, 1].astype(np.int64) + arrays.shape.length - 1].max()
        allowed = np.datetime64(arrays.manifest[split]["last"]) + np.timedelta64(1, "D")
        newest.append(f"{split} ends on {last.astype('datetime64[D]')}")
        if last.astype("datetime64[D]") > allowed:
            problems.append(f"{split} has a bar of {last}, after {arrays.manifest[split]['last']}")
    remedy = "; remove the folder windows/ of the home and materialise training_windows again"
    return CheckOutcome(not problems, "; ".join(problems) + remedy if problems else ", ".join(newest))


def codebook_in_use(card: Mapping[str, Any], settings: TokenizerSettings) -> CheckOutcome:
    """Both halves of the codebook are used: at least `min_codebook_use` of their codes."""
    use = card["scores"]["codebook"]
    shares = {half: float(use[half]["used"]) for half in ("s1", "s2")}
    passed = min(shares.values()) >= settings.min_codebook_use
    description = "codes in use: " + ", ".join(
        f"{half} {share:.1%} of {2 ** use[half]['bits']:,}" for half, share in shares.items()
    )
    if not passed:
        description += (
            f". Less than tokenizer.min_codebook_use = {settings.min_codebook_use:.1%}: train longer, with fewer bits, "
            "a higher tokenizer.zeta, or a lower learning_rate"
        )
    return CheckOutcome(passed, description, shares)


def reconstruction_is_accurate(card: Mapping[str, Any], settings: TokenizerSettings) -> CheckOutcome:
    """The reconstruction error of every price is at most `max_reconstruction`."""
    errors = card["scores"]["reconstruction"]
    rmse = {field: float(errors[field]["rmse"]) for field in FIELDS}
    worst = max(FIELDS[PRICES], key=lambda field: rmse[field])
    passed = rmse[worst] <= settings.max_reconstruction
    description = f"highest of the prices: {worst}, RMSE {rmse[worst]:.3f} standard deviations of the lookback"
    if not passed:
        description += (
            f". More than tokenizer.max_reconstruction = {settings.max_reconstruction}: train longer, or with more bits"
        )
    return CheckOutcome(passed, description, rmse)


def weights_are_finite(checkpoint: Checkpoint) -> CheckOutcome:
    """All weights are finite."""
    with safe_open(checkpoint.folder / WEIGHTS_FILE, framework="numpy") as tensors:
        names = list(tensors.keys())
        failing = [name for name in names if not np.isfinite(tensors.get_tensor(name)).all()]
    description = f"not finite: {', '.join(failing[:5])}. Lower learning_rate" if failing else f"{len(names)} tensors"
    return CheckOutcome(not failing, description, {"tensors": len(names), "not_finite": len(failing)})


def beats_the_random_walk(card: Mapping[str, Any]) -> CheckOutcome:
    """The volatility model's CRPS on the validation range is below that of a random walk with EWMA volatility.

    One whose weights are zero, for want of bars, is that random walk.
    """
    scores, note = card["scores"], card.get("note")
    text = (
        f"on validation, against {scores['baseline']}: {scores['text']}" if scores else "no validation origin to score"
    )
    if note:
        return CheckOutcome(False, f"{note} {text}")
    if not scores or scores["skill"] > 0:
        return CheckOutcome(True, text)
    other = "none" if card["base"]["digest"] != "none" else "packaged"
    return CheckOutcome(False, f'{text}. Try volatility.base = "{other}", or a longer windows.train')


def loss_not_above_base(card: Mapping[str, Any]) -> CheckOutcome:
    """The validation loss is not higher than that of the weights that training started from."""
    scores = card["scores"]
    if "base_loss" not in scores:
        return CheckOutcome(True, "base used without training")
    loss, base = float(scores["loss"]), float(scores["base_loss"])
    description = f"validation loss {loss:.4f}, {base:.4f} before training"
    return CheckOutcome(loss <= base + LOSS_TOLERANCE, description, {"loss": loss, "base": base})
