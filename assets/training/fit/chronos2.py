"""Chronos-2: the published model as it is, or one of its kind fitted through chronos-forecasting's own `fit`.

It learns log adjusted closes and their negatives: the negatives take the market's rise out of what it learns. The
traps of `fit` that are closed here: dropout stays on without validation inputs, its seed is an argument alone, LoRA
without peft silently moves every weight, adapters are saved unmerged, a value that is not finite spoils all weights,
and its own cut of the training series is not ours.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import TrainerCallback

from assets.forecasting.threads import use_threads
from assets.training.data.dataset import WindowArrays
from assets.training.diagnostics import draw_losses
from assets.training.fit.chronos2_resume import KEPT, going_on
from assets.training.fit.lr_schedule import spread
from assets.training.fit.trainer import peak_memory
from assets.training.worker.job import MODEL, Job, Result
from assets.training.worker.pipes_reporting import Measures, unheard
from resources.compute import Compute, versions_used
from resources.errors import CandlecastError
from resources.progress import Progress
from resources.settings import Chronos2Settings

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline

QUANTILES = [0.01, *(round(0.05 * i, 2) for i in range(1, 20)), 0.99]
LOG_EVERY = 20
VALIDATION_SERIES = 512


def new_chronos(settings: Chronos2Settings, horizon: int) -> Chronos2Pipeline:
    """A compact Chronos-2 of the settings' shape, with fresh weights from torch's generator."""
    from chronos import Chronos2Pipeline
    from chronos.chronos2.config import Chronos2CoreConfig
    from chronos.chronos2.model import Chronos2Model

    patch = settings.patch_size
    config = Chronos2CoreConfig(
        d_model=settings.d_model,
        d_kv=settings.d_model // settings.num_heads,
        d_ff=settings.d_ff,
        num_layers=settings.num_layers,
        num_heads=settings.num_heads,
        architectures=["Chronos2Model"],
        chronos_pipeline_class="Chronos2Pipeline",
        chronos_config={
            "context_length": settings.context_length,
            "input_patch_size": patch,
            "input_patch_stride": patch,
            "output_patch_size": patch,
            "max_output_patches": math.ceil(horizon / patch),
            "quantiles": QUANTILES,
            "use_arcsinh": True,
            "use_reg_token": True,
            "time_encoding_scale": settings.context_length,
        },
    )
    return Chronos2Pipeline(model=Chronos2Model(config))


def fit_chronos(job: Job, progress: Progress, measured: Callable[[Measures], None] = unheard) -> Result:
    """Make the model of a job and write it to `job.out`: what it learnt, or its base where that is better held out.

    Raises:
        CandlecastError: LoRA without peft; a series that is not finite; weights that are not; a base that is no
            Chronos-2, or that cannot be reached.
    """
    settings = job.chronos2_settings
    torch.manual_seed(job.seed)
    device = Compute(job.compute).device()
    pipeline = _base(job, device) if job.base else new_chronos(settings, job.windows.predict_window)
    use_threads(Compute(job.compute), pipeline.model)
    parameters = sum(p.numel() for p in pipeline.model.parameters())
    curves: dict[str, Any] = {}
    scores: dict[str, Any] = {}
    if settings.mode != "zero-shot" and settings.steps:
        history = _History(settings.steps, progress, measured)
        fitted = _fitted(pipeline, job, history, WindowArrays(job.arrays))
        _require_finite(fitted)
        # `fit` takes the best of what it saved, and what it started from is not among that.
        if not job.base or history.best["loss"] <= history.base_loss:
            pipeline, best_step, loss = fitted, int(history.best["step"]), history.best["loss"]
        else:
            best_step, loss = 0, history.base_loss
        curves = {"train": history.train, "validation": history.validation, "best_step": best_step}
        curves["peak_memory_bytes"] = peak_memory(device)
        curves["windows_per_second"] = history.per_second
        scores = {"loss": loss, "base_loss": history.base_loss}
    else:
        _require_finite(pipeline)
    pipeline.model.eval()
    pipeline.model.cpu().save_pretrained(job.out / MODEL)
    if curves:
        losses = [(int(entry["step"]), entry["loss"]) for entry in curves["validation"]]
        draw_losses(
            job.out / MODEL, "Chronos-2: quantile loss", curves["train"], losses, curves["best_step"], name="held out"
        )
    return Result(curves=curves, scores=scores, parameters=parameters, versions=versions_used(), device=str(device))


def training_series(arrays: WindowArrays, shortest: int) -> list[np.ndarray]:
    """Log adjusted closes of the training range and their negatives, one pair a symbol, float32.

    Raises:
        CandlecastError: a value is not finite, or every series is shorter than `shortest`.
    """
    windows = arrays.windows("train")
    series: list[np.ndarray] = []
    for number, symbol in enumerate(arrays.symbols):
        own = windows[windows[:, 0] == number, 1]
        if not len(own):
            continue
        closes = arrays.log_closes(int(own[0]), int(own[-1]) + arrays.shape.length).astype(np.float32)
        if not np.isfinite(closes).all():
            raise CandlecastError(f"{symbol}: a close of the training range is not finite or not positive")
        if len(closes) >= shortest:
            series += [closes, -closes]
    if not series:
        raise CandlecastError(
            f"no symbol has {shortest} bars in the training range: lower chronos2.context_length or widen windows.train"
        )
    return series


def validation_series(arrays: WindowArrays, most: int = VALIDATION_SERIES) -> list[np.ndarray]:
    """Log adjusted closes of windows of the validation range; the horizon of each is its last part."""
    starts = arrays.windows("validation")[:, 1]
    chosen = starts[spread(len(starts), most)]
    return [arrays.log_closes(int(s), int(s) + arrays.shape.length).astype(np.float32) for s in chosen]


def _base(job: Job, device: torch.device) -> Chronos2Pipeline:
    from chronos import Chronos2Pipeline

    assert job.base is not None
    try:
        pipeline = Chronos2Pipeline.from_pretrained(job.base, revision=job.revision, device_map=str(device))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise CandlecastError(
            f"chronos2.base = {job.base!r} is no folder and no reachable hub name of a Chronos-2 model: {error}"
        ) from error
    if type(pipeline) is not Chronos2Pipeline:
        raise CandlecastError(f"chronos2.base = {job.base!r} holds a {type(pipeline).__name__}, not a Chronos-2")
    return pipeline


def _fitted(pipeline: Chronos2Pipeline, job: Job, history: _History, arrays: WindowArrays) -> Chronos2Pipeline:
    from chronos import Chronos2Pipeline

    settings, horizon = job.chronos2_settings, arrays.shape.horizon
    if settings.mode == "lora" and find_spec("peft") is None:
        raise CandlecastError('chronos2.mode = "lora" needs peft, which is not installed: pip install peft')
    scratch = job.work / "trainer"
    lora = {"r": settings.lora_rank, "lora_alpha": 2 * settings.lora_rank, "target_modules": _lora_targets(pipeline)}
    with going_on(scratch, settings.steps, job.seed) as first:
        fitted = pipeline.fit(
            training_series(arrays, settings.context_length // 2 + horizon),
            prediction_length=horizon,
            validation_inputs=validation_series(arrays),
            finetune_mode="lora" if settings.mode == "lora" else "full",
            lora_config=lora if settings.mode == "lora" else None,
            context_length=settings.context_length,
            min_past=settings.context_length // 2,
            learning_rate=settings.learning_rate,
            num_steps=settings.steps,
            batch_size=settings.batch_size,
            output_dir=scratch,
            callbacks=[history],
            remove_printer_callback=True,
            seed=job.seed,
            lr_scheduler_type="cosine",
            weight_decay=0.0,
            disable_tqdm=True,
            # Every look ends a mean of losses, so that a state has no half of one.
            logging_steps=math.gcd(LOG_EVERY, settings.evaluate_every),
            eval_steps=settings.evaluate_every,
            save_steps=settings.evaluate_every,
            eval_on_start=not first,
            save_only_model=False,
            save_total_limit=KEPT,
            ignore_data_skip=True,
        )
    merge = getattr(fitted.model, "merge_and_unload", None)
    shutil.rmtree(scratch, ignore_errors=True)
    return Chronos2Pipeline(model=merge()) if merge is not None else fitted


def _lora_targets(pipeline: Chronos2Pipeline) -> list[str]:
    names = ("self_attention.q", "self_attention.v", "self_attention.k", "self_attention.o")
    return [*names, "output_patch_embedding.output_layer"]


def _require_finite(pipeline: Chronos2Pipeline) -> None:
    for name, tensor in pipeline.model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CandlecastError(f"Chronos-2's weights are not finite ({name}): lower chronos2.learning_rate")


class _History(TrainerCallback):
    """Collects losses, and tells them and the progress."""

    def __init__(self, steps: int, progress: Progress, measured: Callable[[Measures], None]) -> None:
        self.steps, self.progress, self.measured = steps, progress, measured
        self.train: list[tuple[int, float]] = []
        self.validation: list[dict[str, float]] = []
        self.per_second = 0.0

    @property
    def base_loss(self) -> float:
        """Before the first step."""
        return self.validation[0]["loss"]

    @property
    def best(self) -> dict[str, float]:
        """The look at what was learnt that `fit` returns the weights of."""
        return min(self.validation[1:], key=lambda entry: entry["loss"])

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for logs in state.log_history:
            self._keep(logs, int(logs["step"]))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        logs = logs or {}
        step = int(state.global_step)
        self._keep(logs, step)
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise CandlecastError(f"Chronos-2's loss is not finite at step {step}: lower chronos2.learning_rate")
            self.progress(step, self.steps, f"loss {logs['loss']:.4f}")
        if "eval_loss" in logs:
            trained = {"train_loss": self.train[-1][1]} if self.train else {}
            self.measured({"step": step, "validation_loss": logs["eval_loss"], **trained})
        self.per_second = logs.get("train_samples_per_second", self.per_second)

    def _keep(self, logs: dict[str, float], step: int) -> None:
        if "loss" in logs:
            self.train.append((step, logs["loss"]))
        if "eval_loss" in logs:
            self.validation.append({"step": step, "loss": logs["eval_loss"]})
