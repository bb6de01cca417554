"""Training is deterministic, resumes after a kill to identical weights, and refuses what cannot work."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assets.forecasting.chronos2.inputs import Chronos2Inputs
from assets.training.acceptance import loss_not_above_base
from assets.training.data.dataset import WindowArrays
from assets.training.fit import chronos2 as chronos
from assets.training.fit.base_weights import WEIGHTS
from assets.training.fit.chronos2_series import training_inputs, training_parts, validation_inputs
from assets.training.fit.finetune import adapt, merge_adapters
from assets.training.fit.lr_schedule import TrainingSchedule, evenly_spaced
from assets.training.fit.trainer import Trainer
from assets.training.worker.job import JobKind
from kronos import Kronos, KronosTokenizer, Normalisation
from kronos.errors import KronosError
from resources.compute import Compute
from resources.errors import CandlecastError
from resources.settings import (
    Chronos2Settings,
    ComputeSettings,
    FitSettings,
    PredictorSettings,
    Settings,
    TokenizerSettings,
)
from resources.settings_training import PACKAGED_INPUTS
from tests.training.training_setup import (
    CHRONOS,
    FIT_COMPUTE,
    PREDICTOR,
    TOKENIZER,
    WINDOWS,
    read_weights,
    run_here,
    same_weights,
    trained,
    training_job,
)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(arrays: Path, tmp_path: Path) -> None:
    first, again, other = (
        trained("kronos_tokenizer", arrays, tmp_path / name, seed=seed) for name, seed in (("a", 7), ("b", 7), ("c", 8))
    )
    assert same_weights(first, again)
    assert not same_weights(first, other)


@pytest.mark.parametrize("kind", ["kronos_tokenizer", "kronos_predictor"])
@pytest.mark.parametrize(
    "moment", [3, pytest.param(4, marks=pytest.mark.slow), 6, pytest.param(9, marks=pytest.mark.slow)]
)
def test_a_killed_fit_resumes_to_identical_weights_and_curves(
    kind: JobKind, moment: int, arrays: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = {"tokenizer": tokenizer} if kind == "kronos_predictor" else {}
    undisturbed = trained(kind, arrays, tmp_path / "whole", **frozen)
    update = Trainer.training_step

    def dying(trainer: Trainer, windows: np.ndarray) -> None:
        if trainer.state.step == moment:
            raise KeyboardInterrupt
        update(trainer, windows)

    monkeypatch.setattr(Trainer, "training_step", dying)
    with pytest.raises(KeyboardInterrupt):
        trained(kind, arrays, tmp_path / "killed", **frozen)
    monkeypatch.setattr(Trainer, "training_step", update)
    torch.manual_seed(99)
    resumed = trained(kind, arrays, tmp_path / "killed", **frozen)
    assert same_weights(undisturbed, resumed)
    ours, theirs = (json.loads((folder.parent / "result.json").read_text()) for folder in (undisturbed, resumed))
    assert ours["curves"]["train"] == theirs["curves"]["train"]
    assert ours["curves"]["validation"] == theirs["curves"]["validation"]


def test_a_state_is_flushed_before_it_is_renamed(arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: set[int] = set()
    real = os.fsync

    def fsync(handle: int) -> None:
        flushed.add(os.fstat(handle).st_ino)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    trained("kronos_tokenizer", arrays, tmp_path)
    (state,) = (tmp_path / "work").glob("state-*")
    assert {file.stat().st_ino for file in state.rglob("*") if file.is_file()} <= flushed


@pytest.mark.parametrize("what", ["assets.training.fit.checkpointing.save_file", "accelerate.Accelerator.save_state"])
def test_a_full_disk_is_reported_with_folder_and_free_space(
    what: str, arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    monkeypatch.setattr(what, full)
    with pytest.raises(CandlecastError, match=r"work could not be written \([\d,.]+ MiB free\)"):
        trained("kronos_tokenizer", arrays, tmp_path)


def test_the_weights_kept_are_those_of_the_best_validation_loss(arrays: Path, tmp_path: Path) -> None:
    wild = TOKENIZER.model_copy(update={"learning_rate": 0.9, "epochs": 4, "patience": None})
    trained("kronos_tokenizer", arrays, tmp_path, tokenizer_settings=wild)
    result = json.loads((tmp_path / "out/result.json").read_text())
    losses = {int(e["step"]): e["loss"] for e in result["curves"]["validation"]}
    assert losses[result["curves"]["best_step"]] == min(losses.values()) == result["scores"]["loss"]
    model = KronosTokenizer.from_pretrained(tmp_path / "out/model")
    from assets.training.fit.tokenizer import TokenizerTask

    task = TokenizerTask(WindowArrays(arrays), Normalisation(), wild, torch.device("cpu"), 7)
    with torch.no_grad():
        assert task.validate(model)["loss"] == pytest.approx(min(losses.values()), rel=1e-6)


def test_a_fit_stops_when_validation_gets_no_better(arrays: Path, tmp_path: Path) -> None:
    base = trained("kronos_tokenizer", arrays, tmp_path / "base")
    hopeless = TOKENIZER.model_copy(update={"learning_rate": 1e-30, "epochs": 9, "patience": 2})
    trained("kronos_tokenizer", arrays, tmp_path / "more", base=str(base), tokenizer_settings=hopeless)
    curves = json.loads((tmp_path / "more/out/result.json").read_text())["curves"]
    assert curves["stopped_early"] and len(curves["validation"]) == 3


def test_without_epochs_the_base_is_unchanged_and_measured(arrays: Path, tokenizer: Path, tmp_path: Path) -> None:
    still = TOKENIZER.model_copy(update={"epochs": 0})
    copied = trained("kronos_tokenizer", arrays, tmp_path, base=str(tokenizer), tokenizer_settings=still)
    assert same_weights(copied, tokenizer)
    assert json.loads((tmp_path / "out/result.json").read_text())["scores"]["codebook"]["s1"]["used"] > 0


def test_gradients_of_micro_batches_add_up_to_those_of_the_batch(arrays: Path, tokenizer: Path, tmp_path: Path) -> None:
    still = PREDICTOR.model_copy(update={"ffn_dropout_p": 0.0, "resid_dropout_p": 0.0})
    full_batch = trained("kronos_predictor", arrays, tmp_path / "a", tokenizer=tokenizer, predictor_settings=still)
    parts = still.model_copy(update={"micro_batch": 5})
    split = trained("kronos_predictor", arrays, tmp_path / "b", tokenizer=tokenizer, predictor_settings=parts)
    for name, tensor in read_weights(full_batch).items():
        torch.testing.assert_close(read_weights(split)[name], tensor, rtol=2e-3, atol=2e-4)


def test_an_out_of_memory_error_halves_the_micro_batch_and_changes_no_weight(
    arrays: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = PREDICTOR.model_copy(update={"ffn_dropout_p": 0.0, "resid_dropout_p": 0.0, "micro_batch": 8})
    small = trained("kronos_predictor", arrays, tmp_path / "a", tokenizer=tokenizer, predictor_settings=still)
    from assets.training.fit.predictor import PredictorTask

    real = PredictorTask.loss

    def scarce(task: PredictorTask, model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        if len(batch[0]) > 8:
            raise torch.cuda.OutOfMemoryError
        return real(task, model, batch)

    monkeypatch.setattr(PredictorTask, "loss", scarce)
    wide = still.model_copy(update={"micro_batch": None})
    survived = trained("kronos_predictor", arrays, tmp_path / "b", tokenizer=tokenizer, predictor_settings=wide)
    assert same_weights(small, survived)
    assert json.loads((tmp_path / "b/out/result.json").read_text())["curves"]["micro_batch"] == 8


@pytest.mark.parametrize("changes", [{"adapt": "lora", "lora_rank": 2}, {"adapt": "last_layers", "last_layers": 1}])
def test_adapted_weights_are_merged_into_plain_weights(
    changes: dict[str, Any], arrays: Path, tokenizer: Path, tmp_path: Path
) -> None:
    deep = PREDICTOR.model_copy(update={"n_layers": 3})
    base = trained("kronos_predictor", arrays, tmp_path / "a", tokenizer=tokenizer, predictor_settings=deep)
    tuned = deep.model_copy(update={**changes, "learning_rate": 0.02})
    fitted = trained(
        "kronos_predictor", arrays, tmp_path / "b", tokenizer=tokenizer, base=str(base), predictor_settings=tuned
    )
    before, after = read_weights(base), read_weights(fitted)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys() and moved
    assert Kronos.from_pretrained(fitted).config == Kronos.from_pretrained(base).config
    if changes["adapt"] == "lora":
        assert all("proj" in name or ".ffn." in name for name in moved)
    else:
        assert not any(name.startswith(("transformer.0", "transformer.1", "embedding")) for name in moved)
        assert any(name.startswith("transformer.2") for name in moved)


def test_a_width_without_even_cross_attention_heads_is_refused_before_any_fit() -> None:
    with pytest.raises(ValueError, match="d_model 100 must be a multiple of 8"):
        PredictorSettings(d_model=100, n_heads=2)


def test_more_last_layers_than_there_are_is_refused() -> None:
    from assets.training.fit.tokenizer import new_tokenizer

    with pytest.raises(CandlecastError, match="last_layers = 5, but the base has 1 blocks"):
        adapt(new_tokenizer(TOKENIZER), TOKENIZER.model_copy(update={"adapt": "last_layers", "last_layers": 5}), 7)


def test_merging_a_model_without_adapters_changes_nothing() -> None:
    from assets.training.fit.tokenizer import new_tokenizer

    model = new_tokenizer(TOKENIZER)
    assert merge_adapters(adapt(model, TOKENIZER, 7)) is model


def test_a_base_with_other_bits_than_the_tokenizer_is_refused(arrays: Path, tokenizer: Path, tmp_path: Path) -> None:
    wide = TOKENIZER.model_copy(update={"s1_bits": 5, "s2_bits": 3})
    other = trained("kronos_tokenizer", arrays, tmp_path / "a", tokenizer_settings=wide)
    base = trained("kronos_predictor", arrays, tmp_path / "b", tokenizer=other)
    with pytest.raises(CandlecastError, match=r"reads tokens of 5 \+ 3 bits, the tokenizer writes 4 \+ 4"):
        trained("kronos_predictor", arrays, tmp_path / "c", tokenizer=tokenizer, base=str(base))


def test_a_base_of_another_family_is_refused(arrays: Path, tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(KronosError):
        trained("kronos_predictor", arrays, tmp_path, tokenizer=tokenizer, base=str(tokenizer))


def test_a_base_prepared_by_another_normalisation_is_refused(arrays: Path, tokenizer: Path, tmp_path: Path) -> None:
    other = WINDOWS.model_copy(update={"clip": 3.0})
    with pytest.raises(KronosError, match="was prepared with"):
        trained("kronos_tokenizer", arrays, tmp_path, base=str(tokenizer), windows_settings=other)


def test_a_batch_larger_than_the_data_is_refused_with_both_numbers() -> None:
    with pytest.raises(CandlecastError, match=r"batch_size 64 in 2 process\(es\) needs 128 windows per step.* has 100"):
        TrainingSchedule.from_settings(FitSettings(batch_size=64), ComputeSettings(processes=2), 100, 7)


def test_a_loss_that_is_not_finite_stops_the_fit(arrays: Path, tmp_path: Path) -> None:
    wild = TokenizerSettings(**{**TOKENIZER.model_dump(), "learning_rate": 1.0, "zeta": 1e38, "max_grad_norm": 1e30})
    with pytest.raises(CandlecastError, match=r"not finite|validation loss is"):
        trained("kronos_tokenizer", arrays, tmp_path, tokenizer_settings=wild)


def test_an_epoch_uses_every_window_once_before_any_twice() -> None:
    schedule = TrainingSchedule.from_settings(PredictorSettings(batch_size=5, epochs=3), FIT_COMPUTE, 53, 7)
    shown = schedule.epoch(0).ravel()
    assert len(set(shown.tolist())) == len(shown) == 50
    assert not np.array_equal(schedule.epoch(0), schedule.epoch(1))
    assert schedule.used_windows().tolist() == sorted({int(n) for e in range(3) for n in schedule.epoch(e).ravel()})
    assert evenly_spaced(10, 4).tolist() == [0, 3, 6, 9]


def test_the_learning_rate_warms_up_and_decays_to_zero() -> None:
    schedule = TrainingSchedule.from_settings(FitSettings(batch_size=1, epochs=10, warmup=0.1), FIT_COMPUTE, 100, 7)
    rates = [schedule.learning_rate_factor(step) for step in range(schedule.steps)]
    assert rates[0] < 0.02 and max(rates) == rates[100] == 1.0 and rates[-1] < 1e-4
    assert all(a <= b for a, b in itertools.pairwise(rates[:101]))


def test_too_little_memory_is_refused_before_the_start() -> None:
    with pytest.raises(CandlecastError, match=r"a test needs about .* GiB, cpu has .* GiB free: lower batch_size"):
        Compute(FIT_COMPUTE).require_memory(2**60, "a test")


def test_a_missing_device_is_refused() -> None:
    missing = torch.cuda.device_count()
    with pytest.raises(CandlecastError, match=f'compute.device = "cuda:{missing}", but this machine has'):
        Compute(ComputeSettings(device=f"cuda:{missing}")).device()


def test_chronos_2_with_lora_is_merged_and_moves_nothing_else(arrays: Path, tmp_path: Path) -> None:
    from chronos import Chronos2Pipeline

    base = trained("chronos2_model", arrays, tmp_path / "a")
    lora = CHRONOS.model_copy(update={"mode": "lora", "lora_rank": 2, "learning_rate": 0.02})
    fitted = trained("chronos2_model", arrays, tmp_path / "b", base=str(base), chronos2_settings=lora)
    before, after = read_weights(base), read_weights(fitted)
    assert before.keys() == after.keys(), "an adapter that was not merged has keys of its own"
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all("self_attention" in name or "output_patch_embedding" in name for name in moved)
    Chronos2Pipeline.from_pretrained(fitted)


def test_chronos_2_is_fitted_to_the_same_weights_twice_and_zero_shot_leaves_it(arrays: Path, tmp_path: Path) -> None:
    first, again = (trained("chronos2_model", arrays, tmp_path / name) for name in ("a", "b"))
    assert same_weights(first, again)
    still = CHRONOS.model_copy(update={"mode": "zero-shot"})
    left = trained("chronos2_model", arrays, tmp_path / "c", base=str(first), chronos2_settings=still)
    assert same_weights(first, left)


def test_chronos_2_is_fitted_to_the_covariates_of_the_settings(arrays: Path, tmp_path: Path) -> None:
    plain = trained("chronos2_model", arrays, tmp_path / "a")
    rich = CHRONOS.model_copy(
        update={
            "targets": ("log_return", "volume"),
            "past_covariates": ("market_return", "range"),
            "future_covariates": ("weekday", "days_to_holiday"),
        }
    )
    fitted, again = (trained("chronos2_model", arrays, tmp_path / n, chronos2_settings=rich) for n in ("b", "c"))
    assert same_weights(fitted, again) and not same_weights(plain, fitted)
    inputs = Chronos2Inputs.of(Settings(chronos2=rich), lambda: WindowArrays(arrays).market)
    windows = WindowArrays(arrays)
    series, validation = training_inputs(windows, inputs, 21), validation_inputs(windows, inputs)
    assert len(series) == len(windows.symbols), "not mirrored: a weekday has no negative"
    assert all(one["context"].shape[0] == 6 and torch.isfinite(one["context"][2:, 1:]).all() for one in series)
    closes = windows.log_closes(*training_parts(windows, 21)[0][1:])
    np.testing.assert_allclose(series[0]["context"][0, 1:].numpy(), np.diff(closes), atol=1e-6)
    assert validation[0]["context"].shape[1] == windows.shape.length


def test_reflected_series_change_the_sign_of_returns_alone(arrays: Path) -> None:
    windows = WindowArrays(arrays)
    chosen = Chronos2Settings(targets=("close", "volume"), past_covariates=("market_return",))
    inputs = Chronos2Inputs.of(Settings(chronos2=chosen), lambda: windows.market)
    first, reflected = training_inputs(windows, inputs, 21)[:2]
    signs = np.array([[-1], [1], [-1]])
    np.testing.assert_array_equal(reflected["context"].numpy(), signs * first["context"].numpy())


@pytest.mark.parametrize(
    ("mode", "moment"),
    [("full", 6), *(pytest.param(*one, marks=pytest.mark.slow) for one in (("full", 3), ("full", 11), ("lora", 9)))],
)
def test_a_killed_fit_of_chronos_2_resumes_to_identical_weights_and_curves(
    mode: str, moment: int, arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = CHRONOS.model_copy(update={"steps": 12, "mode": mode})
    base = {"base": str(trained("chronos2_model", arrays, tmp_path / "base"))} if mode == "lora" else {}
    undisturbed = trained("chronos2_model", arrays, tmp_path / "whole", chronos2_settings=settings, **base)
    steps = []

    def dying(*given: Any, **_: Any) -> None:
        steps.append(given[2].global_step)
        if given[2].global_step == moment and steps.count(moment) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(chronos.LossHistory, "on_step_end", dying)
    killed = training_job("chronos2_model", arrays, tmp_path / "killed", chronos2_settings=settings, **base)
    with pytest.raises(KeyboardInterrupt):
        run_here(killed)
    half = killed.work / "trainer" / "checkpoint-11"
    half.mkdir(parents=True)
    (half / "trainer_state.json").write_text('{"global_step": 1')
    torch.manual_seed(99)
    resumed = run_here(killed)
    assert steps == [*range(1, moment + 1), *range(moment // 4 * 4 + 1, 13)]
    assert same_weights(undisturbed, resumed)
    ours, theirs = (json.loads((folder.parent / "result.json").read_text()) for folder in (undisturbed, resumed))
    assert ours["curves"]["train"] == theirs["curves"]["train"]
    assert ours["curves"]["validation"] == theirs["curves"]["validation"]
    assert ours["scores"] == theirs["scores"]


@pytest.mark.slow
def test_a_fit_of_chronos_2_killed_after_its_last_step_ends_with_identical_weights(
    arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = trained("chronos2_model", arrays, tmp_path / "whole")
    killed = training_job("chronos2_model", arrays, tmp_path / "killed")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(chronos.LossHistory, "on_train_end", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        run_here(killed)
    assert (killed.work / "trainer" / "checkpoint-8").is_dir()
    assert same_weights(undisturbed, run_here(killed))


def test_chronos_2_keeps_its_base_if_the_fitted_weights_are_worse(arrays: Path, tmp_path: Path) -> None:
    base = WEIGHTS / "chronos2_model"
    harmful = CHRONOS.model_copy(update={"learning_rate": 0.9, **PACKAGED_INPUTS})
    for name, mode in (("a", "full"), ("b", "lora")):
        settings = harmful.model_copy(update={"mode": mode})
        fitted = trained("chronos2_model", arrays, tmp_path / name, base=str(base), chronos2_settings=settings)
        result = json.loads((fitted.parent / "result.json").read_text())
        before, *after = (entry["loss"] for entry in result["curves"]["validation"])
        assert min(after) > before
        assert same_weights(base, fitted)
        assert (result["curves"]["best_step"], result["scores"]) == (0, {"loss": before, "base_loss": before})


def test_the_loss_of_chronos_2_is_that_of_the_weights_written(arrays: Path, tmp_path: Path) -> None:
    harmful = CHRONOS.model_copy(update={"learning_rate": 0.9})
    fitted = trained("chronos2_model", arrays, tmp_path, chronos2_settings=harmful)
    result = json.loads((fitted.parent / "result.json").read_text())
    before, *after = (entry["loss"] for entry in result["curves"]["validation"])
    assert result["scores"] == {"loss": min(after), "base_loss": before} and result["curves"]["best_step"] > 0
    outcome = loss_not_above_base({"scores": result["scores"]})
    assert outcome.passed is (min(after) <= before + 1e-4)
    assert loss_not_above_base({"scores": {}}).passed
