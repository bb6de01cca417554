"""One fitting process: `python -m assets.training.worker.worker JOB.json`, alone or under torchrun.

It reads training arrays and a job, and leaves a model folder and a result. It opens no warehouse and publishes nothing.
Progress, losses and a failure it tells through Dagster Pipes (assets.training.worker.pipes_reporting).
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from assets.training.worker.job import MODEL, RESULT, Job, Result
from assets.training.worker.pipes_reporting import speak_of, tell, tell_measures
from resources.compute import Compute, training_memory, versions_used
from resources.errors import CandlecastError
from resources.publish import publish_bytes

if TYPE_CHECKING:
    from accelerate import Accelerator

    from kronos import Kronos, KronosTokenizer
    from kronos.normalisation import Normalisation

# Training windows that drift is measured against when nothing is learnt.
MEASURED = 2048


def main(argv: list[str]) -> int:
    """Run the job named on the command line; 0 on success, 1 with its error told on failure."""
    return speak_of(lambda: run(Job.model_validate_json(Path(argv[0]).read_text())))


def run(job: Job) -> None:
    """Make the model and write `job.out`."""
    result = _fit_chronos(job) if job.kind == "chronos2_model" else _fit_kronos(job)
    if result is not None:
        publish_bytes(job.out / RESULT, result.model_dump_json(indent=1).encode())


def _fit_chronos(job: Job) -> Result | None:
    from assets.training.fit.chronos2 import fit_chronos

    return fit_chronos(job, tell, tell_measures)


def _fit_kronos(job: Job) -> Result | None:
    from kronos.normalisation import Normalisation

    rule = Normalisation(clip=job.windows.clip)
    return _fit_tokenizer(job, rule) if job.kind == "kronos_tokenizer" else _fit_predictor(job, rule)


def _fit_tokenizer(job: Job, rule: Normalisation) -> Result | None:
    import torch

    from assets.forecasting.threads import use_threads
    from assets.training.data.dataset import WindowArrays
    from assets.training.diagnostics import draw_tokenizer, tokenizer_health
    from assets.training.fit import trainer as loop
    from assets.training.fit.finetune import adapt, merged
    from assets.training.fit.lr_schedule import Schedule
    from assets.training.fit.tokenizer import TokenizerTask, new_tokenizer
    from kronos import KronosTokenizer

    settings = job.tokenizer_settings
    accelerator = _accelerator(job)
    torch.manual_seed(job.seed)
    model = KronosTokenizer.from_pretrained(job.base, revision=job.revision) if job.base else new_tokenizer(settings)
    use_threads(Compute(job.compute), model)
    _require_rule(model, rule, job)
    parameters = _count(model)
    arrays = WindowArrays(job.arrays)
    schedule = Schedule.of(settings, job.compute, len(arrays.windows("train")), job.seed)
    _require_memory(job, parameters, schedule, arrays.shape.length, model.config.d_model, model.config.n_enc_layers * 3)
    task = TokenizerTask(arrays, rule, settings, accelerator.device, job.seed)
    learner = adapt(model, settings, job.seed).to(accelerator.device)
    curves = loop.fit(learner, task, schedule, accelerator, job.work, tell, tell_measures)
    if not accelerator.is_main_process:
        return None
    model = merged(learner).cpu().eval()  # type: ignore[assignment]
    model.save_pretrained(job.out / MODEL, normalisation=rule)
    health = tokenizer_health(model, task)
    draw_tokenizer(job.out / MODEL, curves, health)
    scores = {"loss": curves.best, "base_loss": curves.validation[0]["loss"], **health.scores()}
    return _result(job, asdict(curves), scores, parameters)


def _fit_predictor(job: Job, rule: Normalisation) -> Result | None:
    import torch

    from assets.forecasting.threads import use_threads
    from assets.training.data.dataset import WindowArrays
    from assets.training.diagnostics import draw_predictor
    from assets.training.fit import trainer as loop
    from assets.training.fit.finetune import adapt
    from assets.training.fit.lr_schedule import Schedule, spread
    from assets.training.fit.predictor import PredictorTask, new_predictor
    from assets.training.model_selection.selection import select
    from kronos import Kronos, KronosTokenizer

    settings = job.predictor_settings
    accelerator = _accelerator(job)
    if job.tokenizer is None:
        raise CandlecastError("a predictor needs its tokenizer: materialise `kronos_tokenizer` first")
    tokenizer = KronosTokenizer.from_pretrained(job.tokenizer)
    torch.manual_seed(job.seed)
    model = Kronos.from_pretrained(job.base, revision=job.revision) if job.base else new_predictor(settings, tokenizer)
    use_threads(Compute(job.compute), model)
    _require_rule(model, rule, job)
    _require_bits(model, tokenizer, job)
    parameters = _count(model)
    arrays = WindowArrays(job.arrays)
    schedule = Schedule.of(settings, job.compute, len(arrays.windows("train")), job.seed)
    _require_memory(job, parameters, schedule, arrays.shape.length, model.config.d_model, model.config.n_layers)
    task = PredictorTask(
        arrays,
        tokenizer.to(accelerator.device),
        rule,
        settings,
        schedule.drawn() if schedule.steps else spread(schedule.windows, MEASURED),
        job.work / f"tokens-{accelerator.process_index}",
        accelerator.device,
        job.seed,
    )
    learner = adapt(model, settings, job.seed).to(accelerator.device)
    keep = settings.select_candidates if settings.select_origins else 1
    curves = loop.fit(learner, task, schedule, accelerator, job.work, tell, tell_measures, keep)
    if not accelerator.is_main_process:
        return None
    scores = select(job, learner.cpu(), curves, rule, job.out / MODEL)
    draw_predictor(job.out / MODEL, curves)
    scores["drift"] = task.drift_reference(tokenizer.s1_bits)
    return _result(job, asdict(curves), scores, parameters)


def _accelerator(job: Job) -> Accelerator:
    import torch
    from accelerate import Accelerator

    device = Compute(job.compute).device()
    if device.type == "cuda":
        # Accelerate takes the current device, which is the first unless told otherwise.
        torch.cuda.set_device(device)
    precision = "bf16" if job.compute.dtype == "bfloat16" else "no"
    return Accelerator(cpu=device.type == "cpu", mixed_precision=precision)


def _result(job: Job, curves: dict[str, object], scores: dict[str, object], parameters: int) -> Result:
    device = str(Compute(job.compute).device())
    return Result(curves=curves, scores=scores, parameters=parameters, versions=versions_used(), device=device)


def _require_rule(model: Kronos | KronosTokenizer, rule: Normalisation, job: Job) -> None:
    if model.normalisation is not None:
        rule.require(model.normalisation, owner=f"the base {job.base}")


def _require_bits(model: Kronos, tokenizer: KronosTokenizer, job: Job) -> None:
    ours, theirs = (model.s1_bits, model.s2_bits), (tokenizer.s1_bits, tokenizer.s2_bits)
    if ours != theirs:
        raise CandlecastError(
            f"the base {job.base} reads tokens of {ours[0]} + {ours[1]} bits, the tokenizer makes {theirs[0]} + "
            f"{theirs[1]}: set predictor.base and tokenizer.base to weights of one family"
        )


def _require_memory(job: Job, parameters: int, schedule: object, length: int, width: int, layers: int) -> None:
    from assets.training.fit.lr_schedule import Schedule

    assert isinstance(schedule, Schedule)
    needed = training_memory(parameters, schedule.micro_batch, length, width, layers)
    Compute(job.compute).require_memory(needed, f"a training step of {job.kind}")


def _count(model: Kronos | KronosTokenizer) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
