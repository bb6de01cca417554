"""Chronos-2: the published model unchanged, or a model fitted with chronos-forecasting's own `fit`.

Traps of `fit` that are handled here: dropout stays active without validation inputs; the seed is only an argument; LoRA
without peft silently trains every weight; adapters are saved unmerged; one value that is not finite makes all weights
NaN; its own split of the training series differs from ours. Not here: the series that it is trained on
(chronos2_series).
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from assets.forecasting.chronos2.compact import new_chronos2
from assets.training.data.dataset import WindowArrays
from assets.training.diagnostics import draw_losses
from assets.training.fit.chronos2_resume import STATES_KEPT, resuming
from assets.training.fit.chronos2_series import fit_series
from assets.training.fit.curves import peak_memory
from assets.training.worker.job import MODEL, TrainingJob, TrainingResult
from assets.training.worker.pipes_reporting import ReportMetrics, ignore_metrics
from resources.compute import Compute, versions_used
from resources.errors import CandlecastError
from resources.progress import Progress

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline

LOG_EVERY = 20
LORA_TARGETS = [
    "self_attention.q",
    "self_attention.v",
    "self_attention.k",
    "self_attention.o",
    "output_patch_embedding.output_layer",
]


def fit_chronos2(
    job: TrainingJob, progress: Progress, report_metrics: ReportMetrics = ignore_metrics
) -> TrainingResult:
    """Fit the model of a job and write it to `job.out`: the fitted weights, or the base if its loss is lower.

    Raises:
        CandlecastError: LoRA without peft; a series or weights that are not finite; a base that is not a Chronos-2
            or cannot be reached.
    """
    settings = job.chronos2_settings
    torch.manual_seed(job.seed)
    device = Compute(job.compute).device()
    pipeline = _load_base(job, device) if job.base else new_chronos2(settings, job.windows.predict_window)
    Compute(job.compute).use_threads(pipeline.model)
    parameters = sum(p.numel() for p in pipeline.model.parameters())
    curves: dict[str, Any] = {}
    scores: dict[str, Any] = {}
    if settings.mode != "zero-shot" and settings.steps:
        history = LossHistory(settings.steps, progress, report_metrics)
        fitted = _fit(pipeline, job, history, WindowArrays(job.arrays))
        _require_finite(fitted)
        best = history.best(has_base=bool(job.base))
        pipeline = fitted if best.step else pipeline
        curves = {"train": history.train, "validation": history.validation, "best_step": best.step}
        curves["peak_memory_bytes"] = peak_memory(device)
        curves["windows_per_second"] = history.windows_per_second
        scores = {"loss": best.loss, "base_loss": history.base_loss}
    else:
        _require_finite(pipeline)
    pipeline.model.eval()
    pipeline.model.cpu().save_pretrained(job.out / MODEL)
    if curves:
        losses = [(int(entry["step"]), entry["loss"]) for entry in curves["validation"]]
        draw_losses(
            job.out / MODEL, "Chronos-2: quantile loss", curves["train"], losses, curves["best_step"], name="validation"
        )
    return TrainingResult(
        curves=curves, scores=scores, parameters=parameters, versions=versions_used(), device=str(device)
    )


@dataclass(frozen=True)
class BestStep:
    """The step whose weights are used, and their validation loss. Step 0: the base."""

    step: int
    loss: float


class LossHistory(TrainerCallback):
    """Collects losses, and reports them and the progress."""

    def __init__(self, steps: int, progress: Progress, report_metrics: ReportMetrics) -> None:
        self.steps, self.progress, self.report_metrics = steps, progress, report_metrics
        self.train: list[tuple[int, float]] = []
        self.validation: list[dict[str, float]] = []
        self.windows_per_second = 0.0

    @property
    def base_loss(self) -> float:
        """The validation loss before the first step."""
        return self.validation[0]["loss"]

    def best(self, has_base: bool) -> BestStep:
        """The evaluation with the lowest loss.

        `fit` returns the best of the states that it saved, and the base is not among them. Without a base, step 0 has
        random weights and is not considered.
        """
        fitted = min(self.validation[1:], key=lambda entry: entry["loss"])
        if has_base and not fitted["loss"] <= self.base_loss:
            return BestStep(0, self.base_loss)
        return BestStep(int(fitted["step"]), fitted["loss"])

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for logs in state.log_history:
            self._append(logs, int(logs["step"]))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        logs = logs or {}
        step = int(state.global_step)
        self._append(logs, step)
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise CandlecastError(f"Chronos-2's loss is not finite at step {step}: lower chronos2.learning_rate")
            self.progress(step, self.steps, f"loss {logs['loss']:.4f}")
        if "eval_loss" in logs:
            train_loss = {"train_loss": self.train[-1][1]} if self.train else {}
            self.report_metrics({"step": step, "validation_loss": logs["eval_loss"], **train_loss})
        self.windows_per_second = logs.get("train_samples_per_second", self.windows_per_second)

    def _append(self, logs: dict[str, float], step: int) -> None:
        if "loss" in logs:
            self.train.append((step, logs["loss"]))
        if "eval_loss" in logs:
            self.validation.append({"step": step, "loss": logs["eval_loss"]})


def _load_base(job: TrainingJob, device: torch.device) -> Chronos2Pipeline:
    from chronos import Chronos2Pipeline

    assert job.base is not None
    try:
        pipeline = Chronos2Pipeline.from_pretrained(job.base, device_map=str(device))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise CandlecastError(f"chronos2.base = {job.base!r} holds no Chronos-2 that can be loaded: {error}") from error
    if type(pipeline) is not Chronos2Pipeline:
        raise CandlecastError(f"chronos2.base = {job.base!r} holds a {type(pipeline).__name__}, not a Chronos-2")
    return pipeline


def _fit(pipeline: Chronos2Pipeline, job: TrainingJob, history: LossHistory, arrays: WindowArrays) -> Chronos2Pipeline:
    from chronos import Chronos2Pipeline

    settings = job.chronos2_settings
    # Beyond the steps of its base a short fit leaves untrained outputs; the forecaster continues in blocks instead.
    horizon = min(arrays.shape.horizon, pipeline.model_prediction_length)
    if settings.mode == "lora" and find_spec("peft") is None:
        raise CandlecastError('chronos2.mode = "lora" needs peft, which is not installed: pip install peft')
    scratch = job.work / "trainer"
    lora = {"r": settings.lora_rank, "lora_alpha": 2 * settings.lora_rank, "target_modules": LORA_TARGETS}
    series = fit_series(arrays, job.settings, horizon)
    with resuming(scratch, settings.steps, job.seed) as first:
        fitted = pipeline.fit(
            series.train,
            prediction_length=horizon,
            validation_inputs=series.validation,
            finetune_mode="lora" if settings.mode == "lora" else "full",
            lora_config=lora if settings.mode == "lora" else None,
            context_length=settings.context_length,
            min_past=series.shortest,
            learning_rate=settings.learning_rate,
            num_steps=settings.steps,
            # `fit` counts the rows of a batch.
            batch_size=settings.batch_size * series.rows,
            output_dir=scratch,
            callbacks=[history],
            remove_printer_callback=True,
            seed=job.seed,
            lr_scheduler_type="cosine",
            weight_decay=0.0,
            disable_tqdm=True,
            # Every evaluation also ends a mean of training losses, so that a saved state contains no partial mean.
            logging_steps=math.gcd(LOG_EVERY, settings.evaluate_every),
            eval_steps=settings.evaluate_every,
            save_steps=settings.evaluate_every,
            eval_on_start=not first,
            save_only_model=False,
            save_total_limit=STATES_KEPT,
            ignore_data_skip=True,
        )
    merge = getattr(fitted.model, "merge_and_unload", None)
    shutil.rmtree(scratch, ignore_errors=True)
    return Chronos2Pipeline(model=merge()) if merge is not None else fitted


def _require_finite(pipeline: Chronos2Pipeline) -> None:
    for name, tensor in pipeline.model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CandlecastError(f"Chronos-2's weights are not finite ({name}): lower chronos2.learning_rate")
