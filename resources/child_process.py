"""Child processes: started in a session of their own, read line by line, stopped when the parent is interrupted.

Training and Qlib run in child processes: both change global state of the interpreter (random generators, exception
hooks, numpy's error state), and a process returns its memory when it ends. Not here: Dagster Pipes, which the training
stage builds on top (assets.training.worker.pipes_client).
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any

PROJECT = Path(__file__).resolve().parents[1]
TAIL_LINES = 12
STOP_SECONDS = 20
CHILD_VARIABLE = "CANDLECAST_CHILD"
ENVIRONMENT = {
    CHILD_VARIABLE: "1",
    "PYTHONUNBUFFERED": "1",
    "TQDM_DISABLE": "1",
    # Threads that wait by spinning take the cores from other processes.
    "OMP_WAIT_POLICY": "PASSIVE",
}
# The variables by which torchrun, MPI and job schedulers number the processes of a distributed run. A child that
# inherits them waits for the other processes for ever; torchrun sets its own for the workers that it starts.
RANK_VARIABLES = re.compile(
    r"(LOCAL_|GROUP_|ROLE_|NODE_)?RANK|(LOCAL_|GROUP_|ROLE_)?WORLD_SIZE|ROLE_NAME|MASTER_(ADDR|PORT)"
    r"|(TORCHELASTIC|PET|ACCELERATE|FSDP|PMI|PMIX|MPI|OMPI|MV2)_\w+"
    r"|SLURM_(PROCID|LOCALID|NODEID|NTASKS\w*|NPROCS|STEP_\w+|TASKS_PER_NODE)"
)
# A page of a memory-mapped file that cannot be written because the disk is full ends a process by SIGBUS.
HINTS: Mapping[int, str] = {signal.SIGKILL: " (out of memory?)", signal.SIGBUS: " (disk full?)"}


@dataclass(frozen=True)
class ChildExit:
    """How a child process ended.

    Attributes:
        code: its exit code; negative: the number of the signal that ended it.
        tail: its last `TAIL_LINES` lines of output that are not empty.
    """

    code: int
    tail: str

    @property
    def reason(self) -> str:
        """The exit code or signal as text, such as "was ended by signal 9 (out of memory?)"."""
        if self.code < 0:
            return f"was ended by signal {-self.code}{HINTS.get(-self.code, '')}"
        return f"ended with code {self.code}"


def run_child(
    command: Sequence[str],
    handle: Callable[[Any], None],
    *,
    messages: SimpleQueue[Any] | None = None,
    folder: Path = PROJECT,
    environment: Mapping[str, str] | None = None,
) -> ChildExit:
    """Run a command to its end and return how it ended, whether it succeeded or not.

    Args:
        handle: called in this thread with each line of output (stdout and stderr together, `str`), and with each
            object that another thread puts into `messages`. If it raises, the child is stopped.
        messages: a second source of what `handle` receives; what is still in it at the end is left there.
        folder: the child's working directory.
        environment: variables on top of `ENVIRONMENT` and this process's, of which `RANK_VARIABLES` are not inherited.
    """
    received: SimpleQueue[Any] = SimpleQueue() if messages is None else messages
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    process = subprocess.Popen(
        list(command),
        stdin=subprocess.PIPE,  # held open: its end tells the child that its parent is gone
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=folder,
        env=child_environment(environment or {}),
        start_new_session=True,
    )
    assert process.stdout is not None
    Thread(target=_drain, args=(process.stdout, received), daemon=True).start()
    try:
        while (item := received.get()) is not _END:
            if isinstance(item, str):
                tail.append(item)
            handle(item)
        code = process.wait()
    except BaseException:
        _stop(process)
        raise
    return ChildExit(code, "\n".join(tail))


def exit_with_parent() -> None:
    """In a child of `run_child` or of multiprocessing: exit as soon as the parent has ended, also if it was killed.

    Otherwise the child would continue in a folder that the parent's next run uses, or wait for work for ever. Does
    nothing in a process that was started by hand.
    """
    parent = multiprocessing.parent_process()
    if parent is not None or os.environ.get(CHILD_VARIABLE):
        Thread(target=_exit_after, args=(_read_to_end if parent is None else parent.join,), daemon=True).start()


def child_environment(own: Mapping[str, str]) -> dict[str, str]:
    """The variables of a child that imports from `PROJECT`: this process's without `RANK_VARIABLES`, and its own."""
    path = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
    inherited = {name: value for name, value in os.environ.items() if not RANK_VARIABLES.fullmatch(name)}
    return {**inherited, **ENVIRONMENT, "PYTHONPATH": path, **own}


class _End:
    """Marks the end of a child's output."""


_END = _End()


def _drain(output: IO[str], received: SimpleQueue[Any]) -> None:
    for line in output:
        if line.strip():
            received.put(line.rstrip())
    received.put(_END)


def _stop(process: subprocess.Popen[str]) -> None:
    """Stop a child and its process group: by SIGTERM, and by SIGKILL where that is ignored, as children inherit."""
    _signal_group(process, signal.SIGTERM)
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _exit_after(wait: Callable[[], None]) -> None:
    wait()
    os._exit(1)


def _read_to_end() -> None:
    """Read the standard input to its end: the parent holds it open for as long as it lives."""
    while os.read(sys.stdin.fileno(), 1):
        pass
