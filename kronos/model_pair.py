"""Whether a predictor, its tokenizer and a normalisation belong together."""

from __future__ import annotations

from kronos.errors import MismatchError
from kronos.features import FEATURES, MissingVolume
from kronos.model import Kronos
from kronos.normalisation import Normalisation
from kronos.tokenizer import KronosTokenizer


def missing_volume_of(model: Kronos, tokenizer: KronosTokenizer) -> MissingVolume:
    """The rule for missing volume that the checkpoints state; "zero", the published one, where they state none."""
    stated = [part.normalisation for part in (model, tokenizer) if part.normalisation is not None]
    return stated[0].missing_volume if stated else "zero"


def check_pair(model: Kronos, tokenizer: KronosTokenizer, normalisation: Normalisation) -> None:
    """Raise MismatchError unless vocabularies and fields fit, and both were trained with this normalisation."""
    theirs, ours = (tokenizer.s1_bits, tokenizer.s2_bits), (model.s1_bits, model.s2_bits)
    if theirs != ours:
        raise MismatchError(
            f"tokenizer and predictor do not belong together: the tokenizer has s1/s2 bits {theirs[0]}/{theirs[1]}, "
            f"the predictor {ours[0]}/{ours[1]}"
        )
    if tokenizer.config.d_in != len(FEATURES):
        raise MismatchError(f"the tokenizer reads {tokenizer.config.d_in} fields, a bar has {len(FEATURES)}")
    for owner, part in (("the predictor", model), ("the tokenizer", tokenizer)):
        if part.normalisation is not None:
            normalisation.require(part.normalisation, owner=owner)
