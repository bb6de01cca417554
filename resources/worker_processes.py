"""Worker processes: each loads functions once and applies them to items, one at a time, beside this process.

For work that takes one thread: a process per core. The results do not depend on their number, and come in the order of
the items. `run_on_workers` starts processes of this machine; an engine of a cluster needs the same two arguments, a
picklable loader and picklable items. `COMPANION` is a worker that stays for as long as this process: it imports what is
slow to import while this process does other work, serves single calls, and is one of the processes of a run.
"""

from __future__ import annotations

import atexit
import gc
import pickle
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Generic, TypeVar

from resources.child_process import ChildExit, child_environment, exit_with_parent
from resources.errors import CandlecastError, WorkerEndedError

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
STOP_SECONDS = 5
# Functions that a worker keeps loaded: the newest. With vintages a companion gets many, each with its weights.
MOST_LOADED = 8

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class _Failed:
    """An exception in a worker, and its traceback there where it is no error of the input."""

    error: Exception
    traceback: str | None


def run_on_workers(
    load: Callable[[], Callable[[Item], Value]],
    own: Callable[[Item], Value],
    items: Sequence[Item],
    workers: int,
    describe: Callable[[Item], str],
    sent: Callable[[Item], Any] = lambda item: item,
) -> Generator[Value, None, None]:
    """What the function makes of each item, in their order; this process and its companion are among the workers.

    Args:
        load: returns the function; called once in each other process, and pickled for it.
        own: the same function in this process.
        workers: processes, this one included; 1: no other works.
        describe: names an item in an error.
        sent: what is sent of an item, where that is not the item itself.

    Raises:
        CandlecastError: the function raised it, or a worker died; the message names the item.
        RuntimeError: the function raised another exception, whose traceback it contains.
    """
    count = max(0, min(workers, len(items)) - 1)
    kept = [COMPANION.worker] if COMPANION.worker and count else []
    started = [_Worker() for _ in range(count - len(kept))]
    left, pickled = deque(range(len(items))), pickle.dumps(load)
    arrived: SimpleQueue[tuple[int, Value | Exception]] = SimpleQueue()
    threads = [
        Thread(target=_serve, args=(one, pickled, items, left, arrived, describe, sent), daemon=True)
        for one in (*kept, *started)
    ]
    for thread in threads:
        thread.start()
    waiting: dict[int, Value] = {}
    shown = 0

    def keep(number: int, found: Value | Exception) -> None:
        if isinstance(found, Exception):
            raise found
        waiting[number] = found

    try:
        while shown < len(items):
            while not arrived.empty():
                keep(*arrived.get())
            if shown in waiting:
                yield waiting.pop(shown)
                shown += 1
            elif (number := _taken(left)) is not None:
                waiting[number] = own(items[number])
            else:
                keep(*arrived.get())
    finally:
        left.clear()
        # The companion stays, unless it is in the middle of an item that nobody waits for.
        ended = [*started, *(kept if shown < len(items) else [])]
        for one in ended:
            one.kill()
        for thread in threads:
            thread.join()
        for one in ended:
            one.close()


def _taken(left: deque[int]) -> int | None:
    """The next number, which no other thread gets; None: there is none."""
    try:
        return left.popleft()
    except IndexError:
        return None


class _Worker:
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

    def apply(self, load: bytes, *item: object) -> Any:
        """What a function makes of an item, or `_Failed`; without an item the function is loaded alone.

        Args:
            load: the pickled loader of the function.
        """
        with self._lock:
            try:
                self._connection.send((load, item))
                return self._connection.recv()
            except (EOFError, OSError):
                return _Failed(WorkerEndedError(f"a worker process {self._how_it_ended()}"), None)
            except BaseException as error:
                # A later call must not receive the answer to this one.
                self.kill()
                if isinstance(error, Exception):
                    return _failed(error)
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
        """Close what is open of a process that has ended."""
        self._connection.close()
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()


class Companion:
    """The worker that stays for as long as this process."""

    def __init__(self) -> None:
        self._worker: _Worker | None = None

    @property
    def worker(self) -> _Worker | None:
        """The running process; None: it was not started, or has ended."""
        return self._worker if self._worker is not None and self._worker.runs else None

    def start(self, modules: Sequence[str] = ()) -> None:
        """Start it, unless it runs, and return at once; it imports modules, and leaves errors to the calls."""
        if self.worker is None:
            self.stop()
            self._worker = _Worker(modules)

    def call(self, load: bytes, *item: object) -> Any:
        """As `_Worker.apply`; what failed is raised. If it has ended, it is started again."""
        self.start()
        assert self._worker is not None
        found = self._worker.apply(load, *item)
        if isinstance(found, _Failed):
            if found.traceback:
                found.error.add_note(found.traceback)
            raise found.error
        return found

    def stop(self) -> None:
        """End it, if it runs."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.close()
            self._worker = None


COMPANION = Companion()
atexit.register(COMPANION.stop)


class CompanionFunction(Generic[Item, Value]):
    """The function that a picklable loader returns, in the companion; it is loaded there at once.

    Raises:
        WorkerEndedError: the companion ended meanwhile.
        Exception: what `load` or the function raised.
    """

    def __init__(self, load: Callable[[], Callable[[Item], Value]]) -> None:
        self._load = pickle.dumps(load)
        COMPANION.call(self._load)

    def __call__(self, item: Item) -> Value:
        value: Value = COMPANION.call(self._load, item)
        return value


def _serve(
    worker: _Worker,
    load: bytes,
    items: Sequence[Any],
    left: deque[int],
    arrived: SimpleQueue[tuple[int, Any]],
    describe: Callable[[Any], str],
    sent: Callable[[Any], Any],
) -> None:
    """Give items to a worker until there are none, or it fails."""
    while (number := _taken(left)) is not None:
        try:
            found = worker.apply(load, sent(items[number]))
        except Exception as error:
            found = _failed(error)
        if isinstance(found, _Failed):
            named = f"{describe(items[number])}: {repr(found.error) if found.traceback else found.error}"
            raised = RuntimeError(f"{named}\n{found.traceback}") if found.traceback else CandlecastError(named)
            arrived.put((number, raised))
            return
        arrived.put((number, found))


def _failed(error: Exception) -> _Failed:
    lines = None if isinstance(error, CandlecastError) else traceback.format_exc()
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # its class cannot be pickled, or takes other arguments
        error = RuntimeError(repr(error)) if lines else CandlecastError(str(error))
    return _Failed(error, lines)


def work(descriptor: int, modules: Sequence[str] = ()) -> None:
    """The loop of a worker: calls, until the parent closes the connection of this file descriptor.

    A call is a pickled loader, which is called once, and nothing or an item for the function that it returned.
    """
    exit_with_parent()
    connection, functions = Connection(descriptor), dict[bytes, Callable[[Any], Any]]()
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
                    functions[load] = pickle.loads(load)()
                connection.send(functions[load](*item) if item else None)
            except Exception as error:
                connection.send(_failed(error))
