"""Fits of the two Kronos models, from a job to a model folder and its scores.

`fit_kronos` holds the steps that both share; `TokenizerFit` and `PredictorFit` what differs. Chronos-2 is fitted by
chronos-forecasting itself (assets.training.fit.chronos2).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import nn

from assets.training.data.dataset import WindowArrays
from assets.training.diagnostics import draw_predictor, draw_tokenizer, tokenizer_diagnostics
from assets.training.fit.base_weights import different_tokens
from assets.training.fit.curves import TrainingCurves
from assets.training.fit.finetune import adapt, merge_adapters
from assets.training.fit.lr_schedule import TrainingSchedule, evenly_spaced
from assets.training.fit.predictor import PredictorTask, new_predictor
from assets.training.fit.tokenizer import TokenizerTask, new_tokenizer
from assets.training.fit.trainer import Trainer, TrainingTask
from assets.training.model_selection.selection import select_weights
from assets.training.worker.job import MODEL, TrainingJob, TrainingResult
from assets.training.worker.pipes_reporting import ReportMetrics, ignore_metrics
from kronos import Kronos, KronosTokenizer
from kronos.normalisation import Normalisation
from resources.compute import Compute, training_memory, versions_used
from resources.errors import CandlecastError
from resources.progress import Progress, silent
from resources.settings import FitSettings

# Training windows in the drift reference of a base that is used without training.
REFERENCE_WINDOWS = 2048


class KronosFit(ABC):
    """The steps of a fit that depend on the model.

    Attributes:
        settings: the section of the settings for this model.
        keep: number of evaluations whose weights are kept.
    """

    settings: FitSettings
    keep = 1

    def __init__(self, job: TrainingJob) -> None:
        self.job = job
        self.rule = Normalisation(clip=job.windows.clip, missing_volume=job.windows.missing_volume)

    @abstractmethod
    def load_model(self) -> Kronos | KronosTokenizer:
        """The base, or a new model initialised from torch's random generator."""

    @abstractmethod
    def layers(self, model: Any) -> int:
        """The number of layers whose activations a training step holds, for the estimate of memory."""

    @abstractmethod
    def task(self, arrays: WindowArrays, schedule: TrainingSchedule, accelerator: Accelerator) -> TrainingTask:
        """The training task."""

    @abstractmethod
    def write(self, trained: nn.Module, curves: TrainingCurves, task: Any) -> dict[str, Any]:
        """Write the model folder with its pictures and return the scores for the card."""


class TokenizerFit(KronosFit):
    """Trains the tokenizer."""

    def __init__(self, job: TrainingJob) -> None:
        super().__init__(job)
        self.settings = job.tokenizer_settings

    def load_model(self) -> KronosTokenizer:
        job = self.job
        if job.base:
            return KronosTokenizer.from_pretrained(job.base)
        return new_tokenizer(job.tokenizer_settings)

    def layers(self, model: KronosTokenizer) -> int:
        return model.config.n_enc_layers * 3

    def task(self, arrays: WindowArrays, schedule: TrainingSchedule, accelerator: Accelerator) -> TokenizerTask:
        return TokenizerTask(arrays, self.rule, self.job.tokenizer_settings, accelerator.device, self.job.seed)

    def write(self, trained: nn.Module, curves: TrainingCurves, task: TokenizerTask) -> dict[str, Any]:
        folder = self.job.out / MODEL
        model = cast(KronosTokenizer, merge_adapters(trained).cpu().eval())
        model.save_pretrained(folder, normalisation=self.rule)
        diagnostics = tokenizer_diagnostics(model, task)
        draw_tokenizer(folder, curves, diagnostics)
        return {"loss": curves.best_loss, "base_loss": curves.validation[0]["loss"], **diagnostics.scores()}


class PredictorFit(KronosFit):
    """Trains the predictor on the tokens of a frozen tokenizer."""

    def __init__(self, job: TrainingJob) -> None:
        super().__init__(job)
        if job.tokenizer is None:
            raise CandlecastError("a predictor needs its tokenizer: materialise `kronos_tokenizer` first")
        self.tokenizer = KronosTokenizer.from_pretrained(job.tokenizer)
        self._require_same_preparation()
        self.settings = job.predictor_settings
        self.keep = job.predictor_settings.select_candidates if job.predictor_settings.select_origins else 1

    def _require_same_preparation(self) -> None:
        found = self.tokenizer.normalisation
        if found is not None and found != self.rule:
            raise CandlecastError(
                f"kronos_tokenizer was fitted with {found}, and [windows] now says {self.rule}: "
                "materialise kronos_tokenizer again"
            )

    def load_model(self) -> Kronos:
        job = self.job
        if not job.base:
            return new_predictor(job.predictor_settings, self.tokenizer)
        model = Kronos.from_pretrained(job.base)
        model_bits = (model.s1_bits, model.s2_bits)
        tokenizer_bits = (self.tokenizer.s1_bits, self.tokenizer.s2_bits)
        if model_bits != tokenizer_bits:
            raise CandlecastError(f"the base {job.base} {different_tokens(model_bits, tokenizer_bits)}")
        return model

    def layers(self, model: Kronos) -> int:
        return model.config.n_layers

    def task(self, arrays: WindowArrays, schedule: TrainingSchedule, accelerator: Accelerator) -> PredictorTask:
        return PredictorTask(
            arrays,
            self.tokenizer.to(accelerator.device),
            self.rule,
            self.job.predictor_settings,
            schedule.used_windows() if schedule.steps else evenly_spaced(schedule.windows, REFERENCE_WINDOWS),
            self.job.work / f"tokens-{accelerator.process_index}",
            accelerator.device,
            self.job.seed,
        )

    def write(self, trained: nn.Module, curves: TrainingCurves, task: PredictorTask) -> dict[str, Any]:
        folder = self.job.out / MODEL
        scores = select_weights(self.job, trained.cpu(), curves, self.rule, folder)
        draw_predictor(folder, curves)
        return scores | {"drift": task.drift_reference(self.tokenizer.s1_bits)}


def fit_kronos(
    fit: KronosFit, progress: Progress = silent, report_metrics: ReportMetrics = ignore_metrics
) -> TrainingResult | None:
    """Train a Kronos model and write its folder; returns none in all but the main process.

    Raises:
        CandlecastError: the base does not fit the settings, memory is short, or training failed.
    """
    job = fit.job
    accelerator = _accelerator(job)
    torch.manual_seed(job.seed)
    model = fit.load_model()
    Compute(job.compute).use_threads(model)
    if model.normalisation is not None:
        if model.normalisation.missing_volume != fit.rule.missing_volume:
            raise CandlecastError(
                f'the base {job.base} was prepared with missing_volume = "{model.normalisation.missing_volume}", and '
                f'windows.missing_volume = "{fit.rule.missing_volume}": set it to that of the base, or train from '
                'scratch with base = "none"'
            )
        fit.rule.require(model.normalisation, owner=f"the base {job.base}")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    arrays = WindowArrays(job.arrays)
    schedule = TrainingSchedule.from_settings(fit.settings, job.compute, len(arrays.windows("train")), job.seed)
    memory = training_memory(
        parameters, schedule.micro_batch, arrays.shape.length, model.config.d_model, fit.layers(model)
    )
    Compute(job.compute).require_memory(memory, f"a training step of {job.kind}")
    task = fit.task(arrays, schedule, accelerator)
    module = adapt(model, fit.settings, job.seed).to(accelerator.device)
    trainer = Trainer(
        module,
        task,
        schedule,
        accelerator,
        job.work,
        progress=progress,
        report_metrics=report_metrics,
        keep=fit.keep,
    )
    curves = trainer.fit()
    if not accelerator.is_main_process:
        return None
    return TrainingResult(
        scores=fit.write(module, curves, task),
        curves=asdict(curves),
        parameters=parameters,
        versions=versions_used(),
        device=str(Compute(job.compute).device()),
    )


def _accelerator(job: TrainingJob) -> Accelerator:
    device = Compute(job.compute).device()
    if device.type == "cuda":
        # Accelerate uses the current device, which is the first one by default.
        torch.cuda.set_device(device)
    precision = "bf16" if job.compute.dtype == "bfloat16" else "no"
    return Accelerator(cpu=device.type == "cpu", mixed_precision=precision)
