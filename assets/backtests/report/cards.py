"""Table of a checkpoint's card. Keys that a card lacks are left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from assets.backtests.report.formatting import TextTable, number
from assets.backtests.report.tables import pairs
from resources.checkpoints import Checkpoint, cutoff_text, weights_in_use

PLAIN = (("licence", "Licence"), ("data_hash", "Training data"), ("tokenizer", "Tokenizer"), ("seed", "Seed"))
CODE_HALVES = {"s1": "coarse", "s2": "fine"}
# Titles of scores whose key is not a readable name.
SCORES = {"crps": "CRPS on validation origins, % of price", "rank_ic": "RankIC on validation origins"}


def checkpoint_table(checkpoint: Checkpoint) -> TextTable:
    """Origin of the weights, training data and scores of a checkpoint."""
    return pairs(
        [("Digest", checkpoint.digest), *_provenance(checkpoint.card), *_scores(checkpoint.card.get("scores"))]
    )


def _provenance(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    base, training = card.get("base") or {}, card.get("training") or {}
    if isinstance(card.get("parameters"), int):
        yield "Parameters", f"{card['parameters']:,}"
    yield "Training cutoff", cutoff_text(card)
    if base.get("weights"):
        revision = f", revision {base['revision']}" if base.get("revision") else ""
        yield "Base weights", f"{base['weights']}{revision}"
    for key, name in PLAIN:
        if card.get(key) is not None:
            yield name, str(card[key])
    if card.get("curves"):
        yield "Weights in use", weights_in_use(card)
    for key, name in (("train", "Trained on"), ("validation", "Validated on")):
        if span := training.get(key):
            yield name, f"{span['windows']:,} windows, {span['first']} … {span['last']}"


def _scores(scores: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    for key, value in (scores or {}).items():
        if isinstance(value, (int, float)):
            yield SCORES.get(key, key.replace("_", " ").capitalize()), number(float(value))
    for half, use in ((scores or {}).get("codebook") or {}).items():
        if isinstance(use, Mapping) and "used" in use:
            text = f"{number(use['used'], 'percent')} used, perplexity {number(use.get('perplexity'))}"
            yield f"Codebook, {CODE_HALVES.get(half, half)}", text
    errors = (scores or {}).get("reconstruction") or {}
    fields = [f"{field} {number(error['rmse'])}" for field, error in errors.items() if "rmse" in error]
    if fields:
        yield "Reconstruction RMSE (normalised)", ", ".join(fields)
