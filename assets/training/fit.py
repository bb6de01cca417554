"""One fitting process: `python -m assets.training.fit JOB.json`, alone or under torchrun.

It reads training arrays and a job, and leaves a model folder and a result. On its standard output it writes lines of
JSON: progress, and at last an error if there was one. It opens no warehouse and publishes nothing.
"""

from __future__ import annotations

import json
import shutil
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from assets.training.job import MODEL, RESULT, Job, Result
from kronos.errors import KronosError
from resources.compute import Compute, training_memory, versions_used
from resources.errors import CandlecastError
from resources.publish import publish_bytes
from resources.settings import Settings

if TYPE_CHECKING:
    from accelerate import Accelerator

    from kronos import Kronos, KronosTokenizer
    from kronos.normalisation import Normalisation

PROGRESS, ERROR = "progress", "error"
# Training windows that drift is measured against when nothing is learnt.
MEASURED = 2048


def main(argv: list[str]) -> int:
    """Run the job named on the command line; 0 on success, 1 with an error line on failure."""
    job = Job.model_validate_json(Path(argv[0]).read_text())
    try:
        run(job)
    except (CandlecastError, KronosError) as error:
        _say({ERROR: str(error)})
        return 1
    except OSError as error:
        traceback.print_exc()
        _say({ERROR: f"{type(error).__name__}: {error}. The last good checkpoint is untouched"})
        return 1
    except Exception as error:
        traceback.print_exc()
        _say({ERROR: f"{type(error).__name__}: {error}"})
        return 1
    return 0


def run(job: Job) -> None:
    """Make the model and write `job.out`."""
    result = _fit_chronos(job) if job.kind == "chronos2_model" else _fit_kronos(job)
    if result is not None:
        publish_bytes(job.out / RESULT, result.model_dump_json(indent=1).encode())


def tell(done: int, total: int, note: str = "") -> None:
    """Progress as a line that the parent reads."""
    _say({PROGRESS: [done, total, note]})


def _fit_chronos(job: Job) -> Result | None:
    from assets.training.chronos import fit_chronos

    return fit_chronos(job, tell)


def _fit_kronos(job: Job) -> Result | None:
    from kronos.normalisation import Normalisation

    rule = Normalisation(clip=job.windows.clip)
    return _fit_tokenizer(job, rule) if job.kind == "kronos_tokenizer" else _fit_predictor(job, rule)


def _fit_tokenizer(job: Job, rule: Normalisation) -> Result | None:
    import torch

    from assets.forecasts.threads import use_threads
    from assets.training import loop
    from assets.training.adapters import adapt, merged
    from assets.training.arrays import WindowArrays
    from assets.training.health import draw_tokenizer, tokenizer_health
    from assets.training.schedule import Schedule
    from assets.training.tokenizer import TokenizerTask, new_tokenizer
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
    curves = loop.fit(learner, task, schedule, accelerator, job.work, tell if accelerator.is_main_process else _mute)
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

    from assets.forecasts.threads import use_threads
    from assets.training import loop
    from assets.training.adapters import adapt, merged
    from assets.training.arrays import WindowArrays
    from assets.training.health import draw_predictor
    from assets.training.predictor import PredictorTask, new_predictor
    from assets.training.schedule import Schedule, spread
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
    curves = loop.fit(learner, task, schedule, accelerator, job.work, tell if accelerator.is_main_process else _mute)
    if not accelerator.is_main_process:
        return None
    model = merged(learner).cpu().eval()  # type: ignore[assignment]
    model.save_pretrained(job.out / MODEL, normalisation=rule)
    scores: dict[str, object] = {"loss": curves.best, "base_loss": curves.validation[0]["loss"]}
    scores |= _chosen(job, rule)
    draw_predictor(job.out / MODEL, curves)
    scores["drift"] = task.drift_reference(tokenizer.s1_bits)
    return _result(job, asdict(curves), scores, parameters)


def _chosen(job: Job, rule: Normalisation) -> dict[str, object]:
    """Put the base's weights back where they forecast better than the tuned ones; returns what both scored."""
    from assets.training.arrays import WindowArrays
    from assets.training.trial import TrialStore, summary, trial_scores
    from kronos import Kronos
    from resources.checkpoints import Checkpoint
    from resources.layout import Home

    settings = job.predictor_settings
    if not settings.select_origins or job.tokenizer is None:
        return {}
    tokenizer = Checkpoint("kronos_tokenizer", "tokenizer", job.tokenizer, {"cutoff": None})
    folders = {"tuned": job.out / MODEL}
    if job.base and settings.epochs:
        folders["base"] = job.work / "base"
        Kronos.from_pretrained(job.base, revision=job.revision).save_pretrained(folders["base"], normalisation=rule)
    told = {}
    for name, folder in folders.items():
        candidate = Checkpoint("kronos_predictor", "candidate", folder, {"tokenizer": "tokenizer", "cutoff": None})
        store = TrialStore(Home(job.work), candidate, tokenizer)
        ours = Settings(windows=job.windows, compute=job.compute, seed=job.seed)
        told[name] = summary(
            trial_scores(store, ours, WindowArrays(job.arrays), settings.select_origins, settings.select_paths)
        )
    keep = min(told, key=lambda name: told[name]["crps"])
    if keep == "base":
        shutil.copytree(folders["base"], job.out / MODEL, dirs_exist_ok=True)
    return {"forecasts": told, "chosen": keep, **told[keep]}


def _accelerator(job: Job) -> Accelerator:
    from accelerate import Accelerator

    device = Compute(job.compute).device()
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
    from assets.training.schedule import Schedule

    assert isinstance(schedule, Schedule)
    needed = training_memory(parameters, schedule.micro_batch, length, width, layers)
    Compute(job.compute).require_memory(needed, f"a training step of {job.kind}")


def _count(model: Kronos | KronosTokenizer) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _mute(done: int, total: int, note: str = "") -> None:
    return None


def _say(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
