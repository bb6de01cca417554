"""Running a fitting process through Dagster Pipes and listening to it: progress, measures, logs, why it failed.

Training has a process of its own because chronos' `fit` resets global generators, because torchrun wants to start it,
and because a process gives its memory back. Outside Dagster (a benchmark, a target of the Makefile) the same messages
are heard without a run to show them in. Not here: what the process does (assets.training.worker.worker), how it speaks
(assets.training.worker.pipes_reporting).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any

import dagster as dg
from dagster_pipes import (
    DAGSTER_PIPES_CONTEXT_ENV_VAR,
    DAGSTER_PIPES_MESSAGES_ENV_VAR,
    PipesContextData,
    PipesParams,
    encode_param,
)

from assets.training.worker.job import RESULT, Job, Result
from assets.training.worker.pipes_reporting import ERROR, MEASURES, PROGRESS
from resources.errors import CandlecastError
from resources.progress import Progress, silent
from resources.settings import ComputeSettings

MODULE = "assets.training.worker.worker"
LAST_LINES = 12
END_SECONDS = 20
# What the workers that are left say, in gloo's and NCCL's words, when another has gone.
LOST_WORKER = ("Connection reset by peer", "Connection closed by peer", "remote process exited")
# A page of a mapped file that finds no room on the disk ends a process by SIGBUS.
HINTS: dict[int, str] = {signal.SIGKILL: " (out of memory?)", signal.SIGBUS: " (disk full?)"}
PROJECT = Path(__file__).resolve().parents[3]
_OUTPUT = "output"
Message = Mapping[str, Any]


def run_job(job: Job, progress: Progress = silent, context: dg.AssetExecutionContext | None = None) -> Result:
    """Run one job to its end.

    Args:
        context: the run that shows what the process says; none outside Dagster.

    Raises:
        CandlecastError: it failed, in its own words; or it was ended from outside.
    """
    job.work.mkdir(parents=True, exist_ok=True)
    file = job.work / "job.json"
    file.write_text(job.model_dump_json(indent=1))
    run_child([*_launcher(job.compute), MODULE, str(file)], job.kind, progress, context)
    if not (job.out / RESULT).is_file():
        raise CandlecastError(f"{job.kind}: the training process left no result: run it again")
    return Result.model_validate_json((job.out / RESULT).read_text())


def run_child(
    command: list[str], name: str, progress: Progress = silent, context: dg.AssetExecutionContext | None = None
) -> None:
    """Run a command that speaks through Dagster Pipes to its end.

    Its progress reaches `progress`, its measures become observations of the asset, its output goes to the run's log.

    Raises:
        CandlecastError: it failed, in its own words; or it was ended from outside.
    """
    heard: SimpleQueue[Message | None] = SimpleQueue()
    listener = _Listener(progress, context)
    with _session(_Reader(heard.put), context) as addresses:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # held open; its end tells the child that nobody waits for it any more
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=PROJECT,
            env={**_environment(), **addresses},
        )
        assert process.stdout is not None
        Thread(target=_drain, args=(process.stdout, heard), daemon=True).start()
        try:
            while (message := heard.get()) is not None:
                listener.hear(message)
            code = process.wait()
        except BaseException:
            _end(process)
            raise
    # The session has ended: what the process said last has been read.
    while not heard.empty():
        listener.hear(heard.get() or {})
    _require_success(name, code, listener)


def _end(process: subprocess.Popen[str]) -> None:
    """End a child, also one that was started where SIGTERM is ignored, which children inherit."""
    process.terminate()
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class _Listener:
    """Hands on what is heard, and remembers what explains a failure."""

    def __init__(self, progress: Progress, context: dg.AssetExecutionContext | None) -> None:
        self.progress, self.context = progress, context
        self.failed: str | None = None
        self.words: deque[str] = deque(maxlen=LAST_LINES)

    def hear(self, message: Message) -> None:
        if PROGRESS in message:
            self.progress(*message[PROGRESS])
        elif ERROR in message:
            self.failed = self.failed or message[ERROR]
        elif MEASURES in message and self.context is not None:
            measures = {name: value for name, value in message[MEASURES].items() if value is not None}
            self.context.log_event(dg.AssetObservation(self.context.asset_key, metadata=measures))
        elif _OUTPUT in message:
            self.words.append(message[_OUTPUT])
            if self.context is not None:
                self.context.log.debug("%s", message[_OUTPUT])


class _Reader(dg.PipesTempFileMessageReader):
    """Dagster's reader, with our own messages handed on while the process still works."""

    def __init__(self, hear: Callable[[Message], None]) -> None:
        super().__init__()
        self.hear = hear

    @property
    def expected_writer_count(self) -> int:
        return 1

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[PipesParams]:
        with super().read_messages(_Fork(self.hear, handler)) as params:  # type: ignore[arg-type]
            yield params


class _Fork:
    """Ours to us, the rest (opened, closed, logs) to Dagster's handler, if there is one."""

    def __init__(self, hear: Callable[[Message], None], handler: dg.PipesMessageHandler | None) -> None:
        self.hear, self.handler = hear, handler

    def handle_message(self, message: Any) -> None:
        if message["method"] == "report_custom_message":
            self.hear(message["params"]["payload"])
        elif self.handler is not None:
            self.handler.handle_message(message)

    def report_pipes_framework_exception(self, origin: str, exc_info: Any) -> None:
        if self.handler is not None:
            self.handler.report_pipes_framework_exception(origin, exc_info)


@contextmanager
def _session(reader: _Reader, context: dg.AssetExecutionContext | None) -> Iterator[Mapping[str, str]]:
    """Where the child finds its context and leaves its messages, as environment variables."""
    injector = dg.PipesTempFileContextInjector()
    if context is not None:
        with dg.open_pipes_session(context, injector, reader) as session:
            yield session.get_bootstrap_env_vars()
        return
    nothing: PipesContextData = {
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
    with injector.inject_context(nothing) as where, reader.read_messages(None) as to:
        yield {DAGSTER_PIPES_CONTEXT_ENV_VAR: encode_param(where), DAGSTER_PIPES_MESSAGES_ENV_VAR: encode_param(to)}


def _drain(output: IO[str], heard: SimpleQueue[Message | None]) -> None:
    for line in output:
        if line.strip():
            heard.put({_OUTPUT: line.rstrip()})
    heard.put(None)


def _require_success(name: str, code: int, listener: _Listener) -> None:
    failed, words = listener.failed, "\n".join(listener.words)
    if failed and any(sign in failed for sign in LOST_WORKER):
        raise CandlecastError(
            f"{name}: a worker among several was lost (killed, or out of memory?). Run it again: it goes on from its "
            f"last saved state. The others said: {failed}"
        )
    if failed:
        raise CandlecastError(f"{name}: {failed}")
    if code != 0:
        ended = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        hint = HINTS.get(-code, "")
        raise CandlecastError(
            f"{name}: the process {ended}{hint}. Run it again: it goes on from its last saved state. "
            f"It said last:\n{words}"
        )


def _launcher(compute: ComputeSettings) -> list[str]:
    if compute.processes == 1 and compute.nodes == 1:
        return [sys.executable, "-m"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={compute.processes}"]
    if compute.rendezvous is None:
        return [*torchrun, "--standalone", "-m"]
    meeting = ["--rdzv-backend=c10d", f"--rdzv-endpoint={compute.rendezvous}", f"--nnodes={compute.nodes}"]
    return [*torchrun, *meeting, "-m"]


def _environment() -> dict[str, str]:
    quiet = {"TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    # Threads that wait by spinning take the cores from whoever else is working.
    quiet["OMP_WAIT_POLICY"] = "PASSIVE"
    return {**os.environ, **quiet, "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
