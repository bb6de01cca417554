"""One training process: `python -m assets.training.worker.worker JOB.json`, alone or under torchrun.

Reads training arrays and a job, writes a model folder and a result. It does not open the warehouse and publishes
nothing. It reports through Dagster Pipes (assets.training.worker.pipes_reporting).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from assets.training.worker.job import RESULT, TrainingJob, TrainingResult
from assets.training.worker.pipes_reporting import report_metrics, report_progress, run_and_report
from resources.publish import publish_bytes


def main(argv: Sequence[str]) -> int:
    """Run the job named on the command line; 0 on success, 1 with the error reported on failure."""
    return run_and_report(lambda: run(TrainingJob.model_validate_json(Path(argv[0]).read_text())))


def run(job: TrainingJob) -> None:
    """Train the model of a job and write it and its result to `job.out`."""
    result = _train(job)
    if result is not None:
        publish_bytes(job.out / RESULT, result.model_dump_json(indent=1).encode())


def _train(job: TrainingJob) -> TrainingResult | None:
    """The result, in the main process; none in the others of a distributed fit."""
    if job.kind == "chronos2_model":
        from assets.training.fit.chronos2 import fit_chronos2

        return fit_chronos2(job, report_progress, report_metrics)
    from assets.training.fit.kronos_fit import PredictorFit, TokenizerFit, fit_kronos

    fit = TokenizerFit(job) if job.kind == "kronos_tokenizer" else PredictorFit(job)
    return fit_kronos(fit, report_progress, report_metrics)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
