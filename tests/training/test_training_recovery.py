"""Training recovers from too little memory and from damaged states."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from assets.training.fit.tokenizer import CHUNK, TokenizerTask
from assets.training.fit.trainer import Trainer
from assets.training.worker import worker as fit
from assets.training.worker.job import TrainingJob
from kronos.losses import TokenizerLoss
from resources.errors import CandlecastError
from tests.training.training_setup import FIT_COMPUTE, TOKENIZER, run_here, same_weights, trained, training_job


def kill_at(moment: int, wanted: TrainingJob) -> Path:
    """Interrupt a fit at a step and return its newest state."""
    update = Trainer.training_step

    def dying(trainer: Trainer, windows: np.ndarray) -> None:
        if trainer.state.step == moment:
            raise KeyboardInterrupt
        update(trainer, windows)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "training_step", dying)
        run_here(wanted)
    (state,) = wanted.work.glob("state-*")
    return state


def curves_of(model: Path) -> dict[str, object]:
    curves: dict[str, object] = json.loads((model.parent / "result.json").read_text())["curves"]
    return curves


def test_a_micro_batch_lowered_in_the_settings_applies_to_a_resumed_fit(
    arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = training_job("kronos_tokenizer", arrays, tmp_path)
    kill_at(6, wanted)
    sizes: set[int] = set()
    real = TokenizerTask.loss

    def seen(task: TokenizerTask, model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        sizes.add(len(batch[0]))
        return real(task, model, batch)

    monkeypatch.setattr(TokenizerTask, "loss", seen)
    lower = TOKENIZER.model_copy(update={"micro_batch": 2})
    model = run_here(wanted.model_copy(update={"settings": wanted.settings.model_copy(update={"tokenizer": lower})}))
    assert sizes == {2} and curves_of(model)["micro_batch"] == 2


def test_a_micro_batch_that_memory_halved_stays_halved_after_a_kill(arrays: Path, tmp_path: Path) -> None:
    wanted = training_job("kronos_tokenizer", arrays, tmp_path)
    lower = TOKENIZER.model_copy(update={"micro_batch": 4})
    kill_at(6, wanted.model_copy(update={"settings": wanted.settings.model_copy(update={"tokenizer": lower})}))
    assert curves_of(run_here(wanted))["micro_batch"] == 4


def test_validation_that_does_not_fit_in_memory_uses_smaller_chunks(
    arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = curves_of(trained("kronos_tokenizer", arrays, tmp_path / "plain"))
    real = TokenizerTask._loss
    sizes: list[int] = []

    def scarce(task: TokenizerTask, model: torch.nn.Module, starts: np.ndarray) -> TokenizerLoss:
        sizes.append(len(starts))
        if len(starts) > 16:
            raise torch.cuda.OutOfMemoryError
        return real(task, model, starts)

    monkeypatch.setattr(TokenizerTask, "_loss", scarce)
    found = curves_of(trained("kronos_tokenizer", arrays, tmp_path / "scarce"))
    assert sizes[0] == min(CHUNK, TOKENIZER.validation_windows) and 16 in sizes
    assert found["train"] == plain["train"]
    for ours, theirs in zip(found["validation"], plain["validation"], strict=True):  # type: ignore[call-overload]
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-2)


def test_a_validation_window_that_does_not_fit_in_memory_is_an_error(
    arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> TokenizerLoss:
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(TokenizerTask, "_loss", full)
    with pytest.raises(CandlecastError, match="validation windows do not fit on cpu: choose a smaller model"):
        trained("kronos_tokenizer", arrays, tmp_path)


SCARCE_IN_ONE = """
import os, sys
import torch
from assets.training.worker import worker as fit
from assets.training.fit.tokenizer import TokenizerTask

real = TokenizerTask.loss

def scarce(task, model, batch):
    loss = real(task, model, batch)
    if os.environ["RANK"] == "1" and len(batch[0]) > 8:
        raise torch.cuda.OutOfMemoryError
    return loss

TokenizerTask.loss = scarce
sys.exit(fit.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_if_one_process_of_two_runs_out_of_memory_both_halve_their_micro_batch(arrays: Path, tmp_path: Path) -> None:
    script = tmp_path / "scarce.py"
    script.write_text(SCARCE_IN_ONE)
    compute = FIT_COMPUTE.model_copy(update={"processes": 2})

    def curves(name: str, module: list[str]) -> dict[str, object]:
        wanted = training_job("kronos_tokenizer", arrays, tmp_path / name, compute_settings=compute)
        wanted.out.mkdir(parents=True)
        file = tmp_path / f"{name}.json"
        file.write_text(wanted.model_dump_json())
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
        root = Path(fit.__file__).parents[3]
        subprocess.run(
            [*torchrun, *module, str(file)],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            check=True,
            timeout=120,
        )
        return curves_of(wanted.out / "model")

    plain, scarce = curves("plain", ["-m", "assets.training.worker.worker"]), curves("scarce", [str(script)])
    assert (plain["micro_batch"], scarce["micro_batch"]) == (16, 8)
    ours, theirs = ([entry["loss"] for entry in one["validation"]] for one in (scarce, plain))  # type: ignore[attr-defined]
    assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.parametrize(
    "file", ["model.safetensors", "optimizer.bin", "run.json", "random_states_0.pkl", "weights-00000000.safetensors"]
)
def test_a_damaged_state_is_set_aside_and_training_restarts_to_identical_weights(
    file: str, arrays: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed = trained("kronos_tokenizer", arrays, tmp_path / "whole")
    wanted = training_job("kronos_tokenizer", arrays, tmp_path / "killed")
    state = kill_at(5, wanted)
    content = (state / file).read_bytes()
    (state / file).write_bytes(content[: len(content) // 2])
    assert same_weights(undisturbed, run_here(wanted))
    assert str(state) in caplog.text and "damaged" in caplog.text
    assert (wanted.work / f"damaged-{state.name}" / file).is_file()


def test_an_older_undamaged_state_is_resumed_before_a_restart(arrays: Path, tmp_path: Path) -> None:
    undisturbed = trained("kronos_tokenizer", arrays, tmp_path / "whole")
    wanted = training_job("kronos_tokenizer", arrays, tmp_path / "killed")
    state = kill_at(5, wanted)
    newer = state.with_name("state-00000008")
    newer.mkdir()
    (newer / "run.json").write_text('{"step": 8')
    steps: list[int] = []
    update = Trainer.training_step

    def counting(trainer: Trainer, windows: np.ndarray) -> None:
        steps.append(trainer.state.step)
        update(trainer, windows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "training_step", counting)
        assert same_weights(undisturbed, run_here(wanted))
    assert steps[0] == 4 and (wanted.work / "damaged-state-00000008").is_dir()
