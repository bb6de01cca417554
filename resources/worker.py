"""A worker process: it loads functions once and applies them to items, one at a time, beside this process."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import Lock
from typing import Any

from resources.child_process import ChildExit, child_environment, exit_with_parent
from resources.errors import CandlecastError, WorkerEndedError
from resources.usage import UsageMeter, own_mib

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
STOP_SECONDS = 5
# Functions that a worker keeps loaded: the newest. With vintages a companion gets many, each with its weights.
MOST_LOADED = 8


@dataclass(frozen=True)
class Answer:
    """What a function makes of an item, without the time to load it.

    Attributes:
        seconds: that it took.
        peak_mib: highest resident memory of the worker meanwhile.
        added_mib: by how much that exceeds its memory before the function was loaded.
    """

    value: Any
    seconds: float
    peak_mib: float
    added_mib: float


@dataclass(frozen=True)
class Failed:
    """An exception in a worker, and its traceback there where it is no error of the input."""

    error: Exception
    traceback: str | None


def request(load: bytes, item: object) -> bytes:
    """A call as it is sent to a worker: the function that a pickled loader returns, and an item for it.

    Raises:
        Exception: the item cannot be pickled.
    """
    return pickle.dumps((load, item))


class Worker:
    """One process, and the connection to it. It works on one call at a time.

    Args:
        modules: what it imports at once.
    """

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self._connection, theirs = Pipe()
        self._lock = Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import work; work({theirs.fileno()}, {tuple(modules)})"],
            stdin=subprocess.PIPE,  # its end tells the worker that its parent is gone
            stdout=subprocess.DEVNULL,
            env=child_environment(ONE_THREAD),
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def apply(self, message: bytes) -> Answer | Failed:
        """The answer to a `request`."""
        with self._lock:
            try:
                self._connection.send_bytes(message)
                answer: Answer | Failed = self._connection.recv()
                return answer
            except (EOFError, OSError):
                return Failed(WorkerEndedError(f"a worker process {self._how_it_ended()}"), None)
            except BaseException as error:
                # A later call must not receive the answer to this one.
                self.kill()
                if isinstance(error, Exception):
                    return failed(error)
                raise

    def _how_it_ended(self) -> str:
        try:
            return ChildExit(self._process.wait(STOP_SECONDS), "").reason
        except subprocess.TimeoutExpired:
            return "closed its connection"

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Close what is open of a process that has ended, once no call waits for it."""
        assert self._process.stdin is not None
        with self._lock, suppress(OSError):
            self._connection.close()
            self._process.stdin.close()


def failed(error: Exception) -> Failed:
    lines = None if isinstance(error, CandlecastError) else traceback.format_exc()
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # its class cannot be pickled, or takes other arguments
        error = RuntimeError(repr(error)) if lines else CandlecastError(str(error))
    return Failed(error, lines)


def work(descriptor: int, modules: Sequence[str] = ()) -> None:
    """The loop of a worker: calls, until the parent closes the connection of this file descriptor.

    A call is a `request`; its loader is called once.
    """
    exit_with_parent()
    connection, functions = Connection(descriptor), dict[bytes, tuple[Callable[[Any], Any], float]]()
    gc.disable()  # a fifth of the time of imports, and nothing that they make is garbage
    for module in modules:
        with suppress(Exception):
            import_module(module)
    gc.freeze()
    gc.enable()
    with suppress(EOFError, BrokenPipeError):
        while True:
            received = connection.recv_bytes()
            try:
                load, item = pickle.loads(received)
                if load not in functions:
                    while len(functions) >= MOST_LOADED:
                        del functions[next(iter(functions))]
                    before = own_mib()
                    functions[load] = pickle.loads(load)(), before
                (function, before), meter = functions[load], UsageMeter()
                with meter.measuring():
                    value = function(item)
                connection.send(Answer(value, meter.seconds, meter.peak_mib, meter.peak_mib - before))
            except Exception as error:
                connection.send(failed(error))
