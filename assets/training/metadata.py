"""Metadata of the assets of checkpoints: card, scores, candidates and pictures.

Not here: what the card contains (build_checkpoint, model_card).
"""

from __future__ import annotations

from typing import Any

import dagster as dg
import pandas as pd

from assets.metadata import home_path, picture, table
from assets.training.model_card import card_text, skill_text
from resources.checkpoints import PICTURES, Checkpoint, cutoff_text, weights_in_use
from resources.layout import Home

PICTURE_KEYS = dict(zip(PICTURES, ("curves", "codebook", "reconstruction"), strict=True))


def skill_by_step(scores: dict[str, Any]) -> pd.DataFrame:
    """The scores of the volatility model, one row per step."""
    return pd.DataFrame([{"step": number, **one} for number, one in enumerate(scores["steps"], start=1)])


def checkpoint_metadata(checkpoint: Checkpoint, home: Home) -> dict[str, Any]:
    """What the page of a checkpoint's asset shows: its card, scores and pictures."""
    card, folder = checkpoint.card, checkpoint.folder
    curves, scores = card["curves"], card["scores"]
    metadata: dict[str, Any] = {
        "checkpoint": checkpoint.digest,
        "folder": home_path(folder, home),
        "parameters": card["parameters"],
        "cutoff": cutoff_text(card),
        "base": card["base"]["weights"],
        "data_hash": card["data_hash"] or "none: the unchanged base",
        "seed": card["seed"],
        "card": dg.MetadataValue.md(card_text((folder / "README.md").read_text())),
    }
    if card["tokenizer"]:
        metadata["tokenizer"] = card["tokenizer"]
    if curves:
        metadata["windows_per_second"] = float(curves["windows_per_second"])
        metadata["peak_memory_mib"] = curves["peak_memory_bytes"] / 2**20
        metadata["step_of_lowest_loss"] = curves["best_step"]
        metadata["in_use"] = weights_in_use(card)
    metadata |= {name: float(value) for name, value in scores.items() if isinstance(value, int | float)}
    if "candidates" in scores:
        metadata["candidates"] = table(_candidates(scores))
    pictures = {key: folder / name for name, key in PICTURE_KEYS.items() if (folder / name).is_file()}
    return metadata | {key: picture(file.read_bytes(), home) for key, file in pictures.items()}


def _candidates(scores: dict[str, Any]) -> pd.DataFrame:
    """One row per evaluated candidate; the chosen one is marked."""
    rows = [
        {
            "weights": name + (", chosen" if name == scores["chosen"] else ""),
            "token loss": one["loss"],
            "CRPS, % of close": one["crps"],
            "RankIC": one["rank_ic"],
            "skill against the base": skill_text(one),
        }
        for name, one in scores["candidates"].items()
    ]
    return pd.DataFrame(rows)
