"""What a child process says while it works, through Dagster Pipes: progress, measures, and at last why it failed.

https://docs.dagster.io/guides/build/external-pipelines. The child's side; the parent's is
assets.training.worker.pipes_client. A
process under torchrun speaks if it is the first of all; the others' output reaches the parent as lines of text, and
so does that of a process started by hand, which has nobody to speak to.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from threading import Thread

from dagster_pipes import PipesContext, PipesEnvVarParamsLoader, open_dagster_pipes

from kronos.errors import KronosError
from resources.errors import CandlecastError

PROGRESS, MEASURES, ERROR = "progress", "measures", "error"
Measures = Mapping[str, float]


def unheard(measures: Measures) -> None:
    """Measures that nobody reads."""


def tell(done: int, total: int, note: str = "") -> None:
    """Progress of the work; a `resources.progress.Progress`."""
    _say({PROGRESS: [done, total, note]})


def tell_measures(measures: Measures) -> None:
    """Losses and the like at one step, for the asset's plots."""
    _say({MEASURES: dict(measures)})


def speak_of(work: Callable[[], None]) -> int:
    """Do the work of a child process; 0 on success, 1 with the error told on failure.

    Should the parent end, however it does, the process ends too: its work goes on with the parent's next run.
    """
    has_parent = PipesEnvVarParamsLoader().is_dagster_pipes_process()
    if has_parent:
        Thread(target=_end_with_the_parent, daemon=True).start()
    speaks = has_parent and int(os.environ.get("RANK", "0")) == 0
    try:
        with open_dagster_pipes() if speaks else nullcontext():
            try:
                work()
            except Exception as error:
                # Told in words, and left to Pipes too: the run's log then holds the whole traceback.
                _say({ERROR: _words(error)})
                raise
    except Exception as error:
        return _failed(error)
    return 0


def _end_with_the_parent() -> None:
    """Wait for the end of the standard input, which the parent holds open for as long as it lives."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def _failed(error: Exception) -> int:
    if not isinstance(error, CandlecastError | KronosError):
        traceback.print_exception(error)
    else:
        print(error, flush=True)  # noqa: T201
    return 1


def _words(error: Exception) -> str:
    if isinstance(error, CandlecastError | KronosError):
        return str(error)
    told = f"{type(error).__name__}: {error}"
    return f"{told}. The last good checkpoint is untouched" if isinstance(error, OSError) else told


def _say(message: Mapping[str, object]) -> None:
    if PipesContext.is_initialized():
        PipesContext.get().report_custom_message(message)
