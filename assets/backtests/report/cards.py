"""A checkpoint's card as people read it. What a card does not say is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from assets.backtests.report.formatting import Table, number
from assets.backtests.report.tables import pairs
from resources.checkpoints import Checkpoint, weights_in_use

PLAIN = (("licence", "Licence"), ("data_hash", "Training data"), ("tokenizer", "Tokenizer"), ("seed", "Seed"))
HALVES = {"s1": "coarse", "s2": "fine"}
# Where a capital letter does not make a title of a score's name.
SCORES = {"crps": "CRPS on validation origins, % of the price", "rank_ic": "RankIC on validation origins"}


def checkpoint_table(checkpoint: Checkpoint) -> Table:
    """Where the weights come from, what they saw, and how they did."""
    return pairs([("Digest", checkpoint.digest), *_origin(checkpoint.card), *_scores(checkpoint.card.get("scores"))])


def _origin(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    base, training = card.get("base") or {}, card.get("training") or {}
    if isinstance(card.get("parameters"), int):
        yield "Parameters", f"{card['parameters']:,}"
    yield "Last day that reached the weights", str(card.get("cutoff") or "not known: all forecasts count as in-sample")
    if base.get("weights"):
        revision = f", revision {base['revision']}" if base.get("revision") else ""
        yield "Base", f"{base['weights']}{revision}"
    for key, name in PLAIN:
        if card.get(key) is not None:
            yield name, str(card[key])
    if card.get("curves"):
        yield "In use", weights_in_use(card)
    for key, name in (("train", "Trained on"), ("validation", "Held out, to choose by")):
        if span := training.get(key):
            yield name, f"{span['windows']:,} windows, {span['first']} … {span['last']}"


def _scores(scores: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    for key, value in (scores or {}).items():
        if isinstance(value, (int, float)):
            yield SCORES.get(key, key.replace("_", " ").capitalize()), number(float(value))
    for half, use in ((scores or {}).get("codebook") or {}).items():
        if isinstance(use, Mapping) and "used" in use:
            told = f"{number(use['used'], 'percent')} used, perplexity {number(use.get('perplexity'))}"
            yield f"Codebook, {HALVES.get(half, half)}", told
    errors = (scores or {}).get("reconstruction") or {}
    fields = [f"{field} {number(error['rmse'])}" for field, error in errors.items() if "rmse" in error]
    if fields:
        yield "Reconstruction error (deviations)", ", ".join(fields)
