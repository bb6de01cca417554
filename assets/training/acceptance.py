"""Whether a published checkpoint may be used: the conditions behind the blocking checks, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import safe_open

from assets.acceptance import CheckOutcome
from assets.market.history import FIELDS, PRICES
from resources.checkpoints import Checkpoint
from resources.settings import TokenizerSettings

WEIGHTS_FILE = "model.safetensors"
LOSS_TOLERANCE = 1e-4


def check_checkpoint(made: Checkpoint, settings: TokenizerSettings) -> list[CheckOutcome]:
    """Everything that must hold of a checkpoint of its kind."""
    found = [weights_are_finite(made)]
    if made.kind == "kronos_tokenizer":
        found += [codebook_in_use(made.card, settings), reconstruction_is_close(made.card, settings)]
    else:
        found.append(no_worse_than_its_base(made.card))
    return found


def codebook_in_use(card: Mapping[str, Any], settings: TokenizerSettings) -> CheckOutcome:
    """Whether both halves of the codebook are used."""
    use = card["scores"]["codebook"]
    shares = {half: float(use[half]["used"]) for half in ("s1", "s2")}
    told = ", ".join(f"{half} {share:.1%} of {2 ** use[half]['bits']:,} codes" for half, share in shares.items())
    passed = min(shares.values()) >= settings.min_codebook_use
    advice = "" if passed else (
        f". Less than tokenizer.min_codebook_use = {settings.min_codebook_use:.1%}: train longer, with fewer bits, a "
        "higher tokenizer.zeta, or a lower learning_rate"
    )  # fmt: skip
    return CheckOutcome(passed, f"in use: {told}{advice}", shares)


def reconstruction_is_close(card: Mapping[str, Any], settings: TokenizerSettings) -> CheckOutcome:
    """Whether prices come back through the tokens."""
    errors = card["scores"]["reconstruction"]
    numbers = {field: float(errors[field]["rmse"]) for field in FIELDS}
    worst = max(FIELDS[PRICES], key=lambda field: numbers[field])
    passed = numbers[worst] <= settings.max_reconstruction
    advice = "" if passed else (
        f". More than tokenizer.max_reconstruction = {settings.max_reconstruction}: train longer, or with more bits"
    )  # fmt: skip
    told = f"worst price: {worst}, RMSE {numbers[worst]:.3f} standard deviations of the lookback{advice}"
    return CheckOutcome(passed, told, numbers)


def weights_are_finite(checkpoint: Checkpoint) -> CheckOutcome:
    """Whether every number of the weights is one."""
    with safe_open(checkpoint.folder / WEIGHTS_FILE, framework="numpy") as tensors:
        names = list(tensors.keys())
        wrong = [name for name in names if not np.isfinite(tensors.get_tensor(name)).all()]
    words = f"{len(names)} tensors" if not wrong else f"not finite: {', '.join(wrong[:5])}. Lower learning_rate"
    return CheckOutcome(not wrong, words, {"tensors": len(names), "not_finite": len(wrong)})


def no_worse_than_its_base(card: Mapping[str, Any]) -> CheckOutcome:
    """Whether the validation loss is not above that of the weights it started from."""
    scores = card["scores"]
    if "base_loss" not in scores:
        return CheckOutcome(True, "the base as it is", {})
    loss, base = float(scores["loss"]), float(scores["base_loss"])
    passed = loss <= base + LOSS_TOLERANCE
    return CheckOutcome(
        passed, f"validation loss {loss:.4f}, that of its base {base:.4f}", {"loss": loss, "base": base}
    )
