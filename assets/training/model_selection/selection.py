"""Which weights of a predictor's training are used: those whose forecasts of the validation range score best.

A lower token loss is no better forecast, so the evaluations of lowest loss, and the base, forecast the same origins at
top_p = 1, and the lowest CRPS is taken. Their token loss, rank correlation and interval against the base stand beside
it. Not here: whether what is chosen takes over from what is in use (promotion).
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
from assets.training.fit.finetune import merged
from assets.training.fit.trainer import Curves, weights_at
from assets.training.model_selection.candidates import TrialStore, summary, trial_scores
from assets.training.model_selection.scoring import compare
from assets.training.worker.job import Job
from kronos import Kronos
from kronos.normalisation import Normalisation
from resources.checkpoints import Checkpoint
from resources.layout import Home
from resources.settings import Settings

BASE = "base"


def select(job: Job, learner: nn.Module, curves: Curves, rule: Normalisation, out: Path) -> dict[str, Any]:
    """Write the weights that are chosen to `out`; returns the scores for the card.

    Args:
        learner: the trained module, as `curves.kept` were saved from it, on the CPU.

    Returns:
        `loss` and `base_loss` (validation, nats a token), and where forecasts were tried: `chosen`, its `crps` (per
        cent of the close) and `rank_ic`, and `candidates`, the same of every one tried.
    """
    settings = job.predictor_settings
    losses = {int(entry["step"]): float(entry["loss"]) for entry in curves.validation}
    if not settings.select_origins or job.tokenizer is None:
        _write(learner, job, curves.best_step, rule, out)
        return {"loss": curves.best, "base_loss": losses[0]}
    # Weights that lost token loss against their base would be refused later: they are not tried.
    steps = [step for step in curves.kept if losses[step] <= losses[0] and not (job.base and step == 0)]
    folders = {f"step {step}": job.work / "candidates" / str(step) for step in steps}
    for step, folder in zip(steps, folders.values(), strict=True):
        _write(learner, job, step, rule, folder)
    told: dict[str, dict[str, Any]] = {f"step {step}": {"loss": losses[step]} for step in steps}
    if job.base:
        folders[BASE], told[BASE] = job.work / "candidates" / BASE, {"loss": losses[0]}
        Kronos.from_pretrained(job.base, revision=job.revision).save_pretrained(folders[BASE], normalisation=rule)
    found = {name: _forecasts(job, folder) for name, folder in folders.items()}
    for name, scores in found.items():
        told[name] |= summary(scores)
        if BASE in found and name != BASE:
            against = compare(scores, found[BASE], job.seed)
            told[name] |= {"skill": against.skill, "low": against.low, "high": against.high}
    chosen = min(told, key=lambda name: told[name]["crps"])
    shutil.copytree(folders[chosen], out, dirs_exist_ok=True)
    best = told[chosen]
    return {
        "loss": best["loss"],
        "base_loss": losses[0],
        "crps": best["crps"],
        "rank_ic": best["rank_ic"],
        "chosen": chosen,
        "candidates": told,
    }


def _write(learner: nn.Module, job: Job, step: int, rule: Normalisation, out: Path) -> None:
    own = copy.deepcopy(learner)
    own.load_state_dict(load_file(weights_at(job.work, step)))
    cast(Kronos, merged(own)).eval().save_pretrained(out, normalisation=rule)


def _forecasts(job: Job, folder: Path) -> pd.DataFrame:
    assert job.tokenizer is not None
    settings = job.predictor_settings
    tokenizer = Checkpoint("kronos_tokenizer", "tokenizer", job.tokenizer, {"cutoff": None})
    candidate = Checkpoint("kronos_predictor", "candidate", folder, {"tokenizer": "tokenizer", "cutoff": None})
    ours = Settings(windows=job.windows, compute=job.compute, seed=job.seed)
    store = TrialStore(Home(job.work), candidate, tokenizer)
    return trial_scores(store, ours, WindowArrays(job.arrays), settings.select_origins, settings.select_paths)
