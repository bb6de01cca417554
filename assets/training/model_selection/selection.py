"""Selects the weights of a predictor's training: those with the best forecasts of the validation range.

A lower token loss does not imply better forecasts. The evaluations with the lowest loss, and the base, forecast the
same origins at top_p = 1, and the lowest CRPS is selected. Not here: whether the result replaces the checkpoint in use
(promotion).
"""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any, cast

import pandas as pd
from safetensors.torch import load_file
from torch import nn

from assets.training.data.dataset import WindowArrays
from assets.training.fit.checkpointing import weights_file
from assets.training.fit.curves import TrainingCurves
from assets.training.fit.finetune import merge_adapters
from assets.training.model_selection.candidates import CandidateStore, candidate_scores, mean_scores
from assets.training.model_selection.scoring import compare_skill
from assets.training.worker.job import TrainingJob
from kronos import Kronos
from kronos.normalisation import Normalisation
from resources.checkpoints import Checkpoint
from resources.layout import Home

BASE = "base"


def select_weights(
    job: TrainingJob, trained: nn.Module, curves: TrainingCurves, rule: Normalisation, out: Path
) -> dict[str, Any]:
    """Write the selected weights to `out` and return the scores for the card.

    Args:
        trained: the trained module on the CPU, whose parameter names are those of the kept weights.

    Returns:
        `loss` and `base_loss` (validation, nats per token). If forecasts were compared, also `chosen`, its `crps` (in
        percent of the close) and `rank_ic`, and `candidates` with the same for each candidate.
    """
    settings = job.predictor_settings
    losses = {int(entry["step"]): float(entry["loss"]) for entry in curves.validation}
    if not settings.select_origins or job.tokenizer is None:
        _write_weights(trained, job, curves.best_step, rule, out)
        return {"loss": curves.best_loss, "base_loss": losses[0]}
    folders, candidates = _write_candidates(job, trained, curves, losses, rule)
    scores = {name: _candidate_scores(job, folder) for name, folder in folders.items()}
    for name, own in scores.items():
        candidates[name] |= mean_scores(own)
        if BASE in scores and name != BASE:
            comparison = compare_skill(own, scores[BASE], job.seed)
            candidates[name] |= {"skill": comparison.skill, "low": comparison.low, "high": comparison.high}
    chosen = min(candidates, key=lambda name: candidates[name]["crps"])
    shutil.copytree(folders[chosen], out, dirs_exist_ok=True)
    best = candidates[chosen]
    return {
        "loss": best["loss"],
        "base_loss": losses[0],
        "crps": best["crps"],
        "rank_ic": best["rank_ic"],
        "chosen": chosen,
        "candidates": candidates,
    }


def _write_candidates(
    job: TrainingJob, trained: nn.Module, curves: TrainingCurves, losses: dict[int, float], rule: Normalisation
) -> tuple[dict[str, Path], dict[str, dict[str, Any]]]:
    """The model folder and the token loss of each candidate, by name.

    Weights with a higher loss than their base would fail the acceptance check: they are no candidates.
    """
    root = job.work / "candidates"
    steps = [step for step in curves.kept if losses[step] <= losses[0] and not (job.base and step == 0)]
    folders = {f"step {step}": root / str(step) for step in steps}
    candidates: dict[str, dict[str, Any]] = {f"step {step}": {"loss": losses[step]} for step in steps}
    for step, folder in zip(steps, folders.values(), strict=True):
        _write_weights(trained, job, step, rule, folder)
    if job.base:
        folders[BASE], candidates[BASE] = root / BASE, {"loss": losses[0]}
        Kronos.from_pretrained(job.base).save_pretrained(folders[BASE], normalisation=rule)
    return folders, candidates


def _write_weights(trained: nn.Module, job: TrainingJob, step: int, rule: Normalisation, out: Path) -> None:
    module = copy.deepcopy(trained)
    module.load_state_dict(load_file(weights_file(job.work, step)))
    cast(Kronos, merge_adapters(module)).eval().save_pretrained(out, normalisation=rule)


def _candidate_scores(job: TrainingJob, folder: Path) -> pd.DataFrame:
    assert job.tokenizer is not None
    tokenizer = Checkpoint("kronos_tokenizer", "tokenizer", job.tokenizer, {"cutoff": None})
    candidate = Checkpoint("kronos_predictor", "candidate", folder, {"tokenizer": "tokenizer", "cutoff": None})
    store = CandidateStore(Home(job.work), candidate, tokenizer)
    origins, paths = job.predictor_settings.select_origins, job.predictor_settings.select_paths
    return candidate_scores(store, job.settings, WindowArrays(job.arrays), origins, paths)
