"""What a training process reports through Dagster Pipes: progress, metrics, and why it failed.

https://docs.dagster.io/guides/build/external-pipelines. The child's side; the parent's side is
assets.training.worker.pipes_client. Under torchrun only the first process reports; the output of the others, and of a
process started by hand, reaches the parent or the terminal as lines of text.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext

from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, PipesContext, open_dagster_pipes

from kronos.errors import KronosError
from resources.child_process import exit_with_parent
from resources.errors import CandlecastError

PROGRESS, METRICS, ERROR = "progress", "metrics", "error"
Metrics = Mapping[str, float]
ReportMetrics = Callable[[Metrics], None]


def ignore_metrics(metrics: Metrics) -> None:
    """A `ReportMetrics` that does nothing."""


def report_progress(done: int, total: int, note: str = "") -> None:
    """Report progress to the parent; a `resources.progress.Progress`."""
    _report({PROGRESS: [done, total, note]})


def report_metrics(metrics: Metrics) -> None:
    """Report losses and the like at one step to the parent; they become an observation of the asset."""
    _report({METRICS: dict(metrics)})


def run_and_report(work: Callable[[], None]) -> int:
    """Run the work of a child process and return its exit code: 0 on success, 1 with the error reported on failure."""
    exit_with_parent()
    is_first = int(os.environ.get("RANK", "0")) == 0
    reports = is_first and DAGSTER_PIPES_CONTEXT_ENV_VAR in os.environ
    try:
        with open_dagster_pipes() if reports else nullcontext():
            try:
                work()
            except Exception as error:
                # Raised again for Pipes, which puts the whole traceback into the run's log.
                _report({ERROR: _error_text(error)})
                raise
    except Exception as error:
        _print(error)
        return 1
    return 0


def _print(error: Exception) -> None:
    if isinstance(error, CandlecastError | KronosError):
        print(error, flush=True)  # noqa: T201
    else:
        traceback.print_exception(error)


def _error_text(error: Exception) -> str:
    if isinstance(error, CandlecastError | KronosError):
        return str(error)
    text = f"{type(error).__name__}: {error}"
    return f"{text}. The last good checkpoint is untouched" if isinstance(error, OSError) else text


def _report(message: Mapping[str, object]) -> None:
    if PipesContext.is_initialized():
        PipesContext.get().report_custom_message(message)
