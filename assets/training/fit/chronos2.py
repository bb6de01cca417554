"""Chronos-2: the published model unchanged, or a model fitted with chronos-forecasting's own `fit`.

It is trained on log adjusted closes, or on the targets and covariates of the settings, and their negatives: the
negatives remove the market's upward drift from the training set. Traps of `fit` that are handled here: dropout stays active without validation inputs; the seed is only an
argument; LoRA without peft silently trains every weight; adapters are saved unmerged; one value that is not finite
makes all weights NaN; its own split of the training series differs from ours.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import TrainerCallback

from assets.forecasting.chronos2_inputs import Chronos2Inputs, MarketReturns, inputs_recipe
from assets.market.history import CLOSE
from assets.training.data.dataset import WindowArrays
from assets.training.diagnostics import draw_losses
from assets.training.fit.chronos2_resume import STATES_KEPT, resuming
from assets.training.fit.curves import peak_memory
from assets.training.fit.lr_schedule import evenly_spaced
from assets.training.worker.job import MODEL, TrainingJob, TrainingResult
from assets.training.worker.pipes_reporting import ReportMetrics, ignore_metrics
from resources.compute import Compute, versions_used
from resources.errors import CandlecastError
from resources.progress import Progress
from resources.settings import Chronos2Settings

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline
    from chronos.chronos2.dataset import PreparedInput

QUANTILES = [0.01, *(round(0.05 * i, 2) for i in range(1, 20)), 0.99]
LOG_EVERY = 20
VALIDATION_SERIES = 512
LORA_TARGETS = [
    "self_attention.q",
    "self_attention.v",
    "self_attention.k",
    "self_attention.o",
    "output_patch_embedding.output_layer",
]


def new_chronos2(settings: Chronos2Settings, horizon: int) -> Chronos2Pipeline:
    """A compact Chronos-2 of the shape in the settings, initialised from torch's random generator."""
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


def training_series(arrays: WindowArrays, shortest: int) -> list[np.ndarray]:
    """Log adjusted closes of the training range and their negatives: two (n,) float32 arrays per symbol.

    Raises:
        CandlecastError: a value is not finite, or every series is shorter than `shortest`.
    """
    series: list[np.ndarray] = []
    for symbol, first, last in training_parts(arrays, shortest):
        closes = arrays.log_closes(first, last).astype(np.float32)
        if not np.isfinite(closes).all():
            raise CandlecastError(f"{symbol}: a close of the training range is not finite or not positive")
        series += [closes, -closes]
    return series


def training_parts(arrays: WindowArrays, shortest: int) -> list[tuple[str, int, int]]:
    """Symbol, first row and row after the last of each series of the training range.

    Raises:
        CandlecastError: every series is shorter than `shortest`.
    """
    windows = arrays.windows("train")
    parts: list[tuple[str, int, int]] = []
    for number, symbol in enumerate(arrays.symbols):
        own = windows[windows[:, 0] == number, 1]
        if not len(own):
            continue
        # Events that training leaves out cut the series; a smaller weight has no meaning here.
        is_cut = arrays.manifest.get("events") == "drop"
        for part in np.split(own, np.flatnonzero(np.diff(own) > 1) + 1) if is_cut else [own]:
            first, last = int(part[0]), int(part[-1]) + arrays.shape.length
            if last - first >= shortest:
                parts.append((symbol, first, last))
    if not parts:
        raise CandlecastError(
            f"no symbol has {shortest} bars in the training range: lower chronos2.context_length or widen windows.train"
        )
    return parts


def training_inputs(arrays: WindowArrays, inputs: Chronos2Inputs, shortest: int) -> list[PreparedInput]:
    """The rows of targets and covariates of the training range: one or two series per symbol or part of it.

    Raises:
        CandlecastError: a row has no value, or every series is shorter than `shortest`.
    """
    series: list[np.ndarray] = []
    for symbol, first, last in training_parts(arrays, shortest):
        stamps = np.asarray(arrays.timestamps[first:last])
        rows = inputs.training_rows(symbol, stamps, arrays.adjusted_rows(first, last), len(stamps))
        mirrored = inputs.mirrored(rows)
        series += [rows] if mirrored is None else [rows, mirrored]
    return [_prepared(rows, inputs, arrays.shape.horizon) for rows in series]


def validation_inputs(arrays: WindowArrays, inputs: Chronos2Inputs) -> list[PreparedInput]:
    """The rows of validation windows, whose last part is the horizon."""
    windows, length = arrays.windows("validation"), arrays.shape.length
    chosen = windows[evenly_spaced(len(windows), VALIDATION_SERIES)].tolist()
    found = []
    for number, first in chosen:
        stamps, bars = (
            np.asarray(arrays.timestamps[first : first + length]),
            arrays.adjusted_rows(first, first + length),
        )
        rows = inputs.training_rows(arrays.symbols[number], stamps, bars, arrays.shape.lookback)
        found.append(_prepared(rows, inputs, arrays.shape.horizon))
    return found


def _prepared(rows: np.ndarray, inputs: Chronos2Inputs, horizon: int) -> PreparedInput:
    """Rows as `fit` takes them; it cuts the horizon, and what is known over it, out of them."""
    return {
        "context": torch.from_numpy(rows),
        "future_covariates": torch.full((len(rows), horizon), torch.nan),
        "n_targets": len(inputs.targets),
        "n_covariates": len(rows) - len(inputs.targets),
        "n_future_covariates": len(inputs.future),
    }


def market_in(arrays: WindowArrays) -> MarketReturns:
    """The market of the symbols that are trained on."""
    rows = zip(arrays.offsets[:-1].tolist(), arrays.offsets[1:].tolist(), strict=True)
    parts = [(arrays.timestamps[first:last], arrays.adjusted_rows(first, last)) for first, last in rows]
    return MarketReturns.of([(np.asarray(stamps), bars[:, CLOSE]) for stamps, bars in parts])


def validation_series(arrays: WindowArrays, most: int = VALIDATION_SERIES) -> list[np.ndarray]:
    """Log adjusted closes of validation windows: (length,) float32 each, whose last part is the horizon."""
    starts = arrays.windows("validation")[:, 1]
    chosen = starts[evenly_spaced(len(starts), most)]
    return [arrays.log_closes(int(s), int(s) + arrays.shape.length).astype(np.float32) for s in chosen]


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
    shortest = settings.context_length // 2 + horizon
    rows, series, validation = 1, training_series(arrays, shortest), validation_series(arrays)
    if inputs_recipe(job.settings):
        inputs = Chronos2Inputs.of(job.settings, lambda: market_in(arrays))
        series, validation = training_inputs(arrays, inputs, shortest), validation_inputs(arrays, inputs)
        rows = len(series[0]["context"])
    with resuming(scratch, settings.steps, job.seed) as first:
        fitted = pipeline.fit(
            series,
            prediction_length=horizon,
            validation_inputs=validation,
            finetune_mode="lora" if settings.mode == "lora" else "full",
            lora_config=lora if settings.mode == "lora" else None,
            context_length=settings.context_length,
            min_past=settings.context_length // 2,
            learning_rate=settings.learning_rate,
            num_steps=settings.steps,
            # `fit` counts the rows of a batch.
            batch_size=settings.batch_size * rows,
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
