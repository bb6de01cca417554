"""Runs a training process and receives its reports through Dagster Pipes: progress, metrics, logs, errors.

Training has a process of its own because chronos' `fit` resets global random generators, because torchrun starts the
processes of a distributed run, and because a process returns its memory when it ends. Outside Dagster (a benchmark, a
target of the Makefile) the same reports are received without a run to show them in. Not here: what the process does
(assets.training.worker.worker), its side of the protocol (assets.training.worker.pipes_reporting), how a child process
is started and stopped (resources.child_process).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import dagster as dg
from dagster_pipes import (
    DAGSTER_PIPES_CONTEXT_ENV_VAR,
    DAGSTER_PIPES_MESSAGES_ENV_VAR,
    PipesContextData,
    PipesParams,
    encode_param,
)

from assets.training.worker.job import RESULT, TrainingJob, TrainingResult
from assets.training.worker.pipes_reporting import ERROR, METRICS, PROGRESS
from resources.child_process import ChildExit, run_child
from resources.errors import CandlecastError
from resources.progress import Progress, silent
from resources.settings import ComputeSettings

MODULE = "assets.training.worker.worker"
# How the remaining workers report, in the messages of gloo and NCCL, that another one has gone.
LOST_WORKER = ("Connection reset by peer", "Connection closed by peer", "remote process exited")
ENVIRONMENT = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
Message = Mapping[str, Any]


def run_job(
    job: TrainingJob, progress: Progress = silent, context: dg.AssetExecutionContext | None = None
) -> TrainingResult:
    """Run a training job in a process of its own and return its result.

    Args:
        context: the run that shows the process's output; none outside Dagster.

    Raises:
        CandlecastError: the process failed, with its own error message, or was ended from outside.
    """
    job.work.mkdir(parents=True, exist_ok=True)
    file = job.work / "job.json"
    file.write_text(job.model_dump_json(indent=1))
    run_pipes_child([*_launcher(job.compute), MODULE, str(file)], job.kind, progress, context)
    if not (job.out / RESULT).is_file():
        raise CandlecastError(f"{job.kind}: the training process wrote no {RESULT} to {job.out}: run it again")
    return TrainingResult.model_validate_json((job.out / RESULT).read_text())


def run_pipes_child(
    command: Sequence[str], name: str, progress: Progress = silent, context: dg.AssetExecutionContext | None = None
) -> None:
    """Run a command that reports through Dagster Pipes to its end.

    Its progress is passed to `progress`, its metrics become observations of the asset, its output goes to the run's
    log.

    Raises:
        CandlecastError: the process failed, with its own error message, or was ended from outside.
    """
    messages: SimpleQueue[Message | str] = SimpleQueue()
    receiver = _Receiver(progress, context)
    with _pipes_session(_MessageReader(messages.put), context) as addresses:
        ended = run_child(command, receiver.handle, messages=messages, environment={**ENVIRONMENT, **addresses})
    # Closing the session has read the last messages.
    while not messages.empty():
        receiver.handle(messages.get())
    _require_success(name, ended, receiver.error)


class _Receiver:
    """Passes on what the process reports, and keeps its first error."""

    def __init__(self, progress: Progress, context: dg.AssetExecutionContext | None) -> None:
        self.progress, self.context = progress, context
        self.error: str | None = None

    def handle(self, message: Message | str) -> None:
        if isinstance(message, str):
            if self.context is not None:
                self.context.log.debug("%s", message)
        elif PROGRESS in message:
            self.progress(*message[PROGRESS])
        elif ERROR in message:
            self.error = self.error or message[ERROR]
        elif METRICS in message and self.context is not None:
            metrics = {name: value for name, value in message[METRICS].items() if value is not None}
            self.context.log_event(dg.AssetObservation(self.context.asset_key, metadata=metrics))


class _MessageReader(dg.PipesTempFileMessageReader):
    """Dagster's reader, which hands on custom messages while the process is still running."""

    def __init__(self, receive: Callable[[Message], None]) -> None:
        super().__init__()
        self.receive = receive

    @property
    def expected_writer_count(self) -> int:
        return 1

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[PipesParams]:
        with super().read_messages(_MessageRouter(self.receive, handler)) as params:  # type: ignore[arg-type]
            yield params


class _MessageRouter:
    """Custom messages to `receive`, the others (opened, closed, logs) to Dagster's handler, if there is one."""

    def __init__(self, receive: Callable[[Message], None], handler: dg.PipesMessageHandler | None) -> None:
        self.receive, self.handler = receive, handler

    def handle_message(self, message: Any) -> None:
        if message["method"] == "report_custom_message":
            self.receive(message["params"]["payload"])
        elif self.handler is not None:
            self.handler.handle_message(message)

    def report_pipes_framework_exception(self, origin: str, exc_info: Any) -> None:
        if self.handler is not None:
            self.handler.report_pipes_framework_exception(origin, exc_info)


@contextmanager
def _pipes_session(reader: _MessageReader, context: dg.AssetExecutionContext | None) -> Iterator[Mapping[str, str]]:
    """The environment variables that tell the child where its context and its messages are."""
    injector = dg.PipesTempFileContextInjector()
    if context is not None:
        with dg.open_pipes_session(context, injector, reader) as session:
            yield session.get_bootstrap_env_vars()
        return
    no_run: PipesContextData = {
        "asset_keys": None,
        "code_version_by_asset_key": None,
        "provenance_by_asset_key": None,
        "partition_key": None,
        "partition_key_range": None,
        "partition_time_window": None,
        "run_id": "",
        "job_name": None,
        "retry_number": 0,
        "extras": {},
    }
    with injector.inject_context(no_run) as context_params, reader.read_messages(None) as message_params:
        yield {
            DAGSTER_PIPES_CONTEXT_ENV_VAR: encode_param(context_params),
            DAGSTER_PIPES_MESSAGES_ENV_VAR: encode_param(message_params),
        }


def _require_success(name: str, ended: ChildExit, error: str | None) -> None:
    if error and any(sign in error for sign in LOST_WORKER):
        raise CandlecastError(
            f"{name}: one of several workers was lost (killed, or out of memory?). Run it again: it resumes from its "
            f"last saved state. The other workers reported: {error}"
        )
    if error:
        raise CandlecastError(f"{name}: {error}")
    if ended.code != 0:
        raise CandlecastError(
            f"{name}: the process {ended.reason}. Run it again: it resumes from its last saved state. "
            f"Its last output:\n{ended.tail}"
        )


def _launcher(compute: ComputeSettings) -> list[str]:
    if compute.processes == 1 and compute.nodes == 1:
        return [sys.executable, "-m"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={compute.processes}"]
    if compute.rendezvous is None:
        return [*torchrun, "--standalone", "-m"]
    rendezvous = ["--rdzv-backend=c10d", f"--rdzv-endpoint={compute.rendezvous}", f"--nnodes={compute.nodes}"]
    return [*torchrun, *rendezvous, "-m"]
