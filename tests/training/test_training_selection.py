"""The weights with the best forecasts are selected, not those with the lowest token loss."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from assets.training.fit.checkpointing import weights_file
from assets.training.fit.curves import TrainingCurves
from assets.training.fit.trainer import Trainer
from assets.training.model_selection.selection import select_weights
from assets.training.worker.pipes_client import run_job
from kronos import Kronos, Normalisation
from resources.settings import BacktestSettings
from tests.training.training_setup import PREDICTOR, read_weights, run_here, same_weights, trained, training_job

ORIGINS = {"select_origins": 6, "select_paths": 30}


def test_better_forecasts_are_preferred_to_a_lower_token_loss(arrays: Path, tokenizer: Path, tmp_path: Path) -> None:
    long = PREDICTOR.model_copy(update={"steps_per_epoch": 60, "epochs": 2})
    base = trained("kronos_predictor", arrays, tmp_path / "a", tokenizer=tokenizer)
    tuned = trained("kronos_predictor", arrays, tmp_path / "b", tokenizer=tokenizer, predictor_settings=long)
    settings = PREDICTOR.model_copy(update=ORIGINS)
    wanted = training_job(
        "kronos_predictor", arrays, tmp_path / "c", tokenizer=tokenizer, base=str(base), predictor_settings=settings
    )
    wanted.work.mkdir(parents=True)
    good = load_file(tuned / "model.safetensors")
    wild = {name: torch.randn_like(tensor) for name, tensor in good.items()}
    save_file(good, weights_file(wanted.work, 6))
    save_file(wild, weights_file(wanted.work, 12))
    losses = {0: 4.0, 6: 3.0, 12: 1.0, 18: 5.0}
    curves = TrainingCurves(
        validation=[{"step": step, "loss": loss} for step, loss in losses.items()], best_step=12, kept=[12, 6, 18]
    )
    scores = select_weights(wanted, Kronos.from_pretrained(base), curves, Normalisation(), wanted.out / "model")
    assert set(scores["candidates"]) == {"step 6", "step 12", "base"}, (
        "weights with a higher loss than the base are no candidates"
    )
    crps = {name: one["crps"] for name, one in scores["candidates"].items()}
    assert scores["chosen"] == min(crps, key=crps.__getitem__) != "step 12"
    assert scores["loss"] == losses[6] if scores["chosen"] == "step 6" else scores["loss"] == losses[0]
    assert crps["step 12"] > crps["step 6"]
    chosen = read_weights(tuned if scores["chosen"] == "step 6" else base)
    assert all(torch.equal(tensor, chosen[name]) for name, tensor in read_weights(wanted.out / "model").items())
    worst = scores["candidates"]["step 12"]
    assert worst["skill"] < 0 and worst["low"] <= worst["skill"] <= worst["high"]


def test_a_killed_fit_compares_the_same_candidates(
    arrays: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = PREDICTOR.model_copy(update={**ORIGINS, "epochs": 3, "patience": None})
    whole, killed = (
        training_job("kronos_predictor", arrays, tmp_path / name, tokenizer=tokenizer, predictor_settings=settings)
        for name in ("whole", "killed")
    )
    run_here(whole)
    update = Trainer.training_step

    def dying(trainer: Trainer, windows: np.ndarray) -> None:
        if trainer.state.step == 15:
            raise KeyboardInterrupt
        update(trainer, windows)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", dying)
        with pytest.raises(KeyboardInterrupt):
            run_here(killed)
    run_here(killed)
    ours, theirs = (json.loads((wanted.out / "result.json").read_text())["scores"] for wanted in (whole, killed))
    assert ours == theirs and len(ours["candidates"]) == 3


def test_a_fit_is_that_of_its_settings_whatever_the_environment_holds(
    arrays: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = PREDICTOR.model_copy(update=ORIGINS)
    here, child = (
        training_job(
            "kronos_predictor",
            arrays,
            tmp_path / name,
            tokenizer=tokenizer,
            predictor_settings=chosen,
            backtest_settings=BacktestSettings(topk=4, n_drop=3),
        )
        for name in ("here", "child")
    )
    run_here(here)
    # Overrides that contradict the defaults of the keys beside them, and the rank of a launcher that has gone.
    monkeypatch.setenv("CANDLECAST__BACKTEST__N_DROP", "3")
    monkeypatch.setenv("CANDLECAST__SEED", "8")
    launcher = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29541"}
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    child.out.mkdir(parents=True)
    result = run_job(child)
    assert same_weights(child.out / "model", here.out / "model")
    assert result.scores == json.loads((here.out / "result.json").read_text())["scores"]
