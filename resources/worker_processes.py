"""Worker processes: each loads a function once and applies it to items, one at a time, beside this process.

For work that takes one thread: a process per core. The results do not depend on their number, and come in the order of
the items. `run_on_workers` starts processes of this machine; an engine of a cluster needs the same two arguments, a
picklable loader and picklable items.
"""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

from resources.child_process import ChildExit, child_environment, exit_with_parent
from resources.errors import CandlecastError

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
STOP_SECONDS = 5


Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class _Failed:
    """An exception in a worker: its text, and its traceback where it is no error of the input."""

    text: str
    traceback: str | None


def run_on_workers(
    load: Callable[[], Callable[[Item], Value]],
    own: Callable[[Item], Value],
    items: Sequence[Item],
    workers: int,
    describe: Callable[[Item], str],
) -> Generator[Value, None, None]:
    """What the function makes of each item, in their order; this process is one of the workers.

    Args:
        load: returns the function; called once in each other process, and pickled for it.
        own: the same function in this process.
        workers: processes, this one included; 1: no other is started.
        describe: names an item in an error.

    Raises:
        CandlecastError: the function raised it, or a worker died; the message names the item.
        RuntimeError: the function raised another exception, whose traceback it contains.
    """
    others = [_Worker(load) for _ in range(min(workers, len(items)) - 1)]
    left = _Counter(len(items))
    arrived: SimpleQueue[tuple[int, Value | Exception]] = SimpleQueue()
    threads = [Thread(target=_serve, args=(one, items, left, arrived, describe), daemon=True) for one in others]
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
            elif (number := left.take()) is not None:
                waiting[number] = own(items[number])
            else:
                keep(*arrived.get())
    finally:
        left.stop()
        for one in others:
            one.kill()
        for thread in threads:
            thread.join()
        for one in others:
            one.close()


class _Counter:
    """Hands out the numbers of the items, each once."""

    def __init__(self, count: int) -> None:
        self._lock, self._next, self._count = Lock(), 0, count

    def take(self) -> int | None:
        with self._lock:
            if self._next >= self._count:
                return None
            self._next += 1
            return self._next - 1

    def stop(self) -> None:
        with self._lock:
            self._next = self._count


class _Worker:
    """One process, and the connection to it."""

    def __init__(self, load: Callable[[], Callable[[Any], Any]]) -> None:
        self._connection, theirs = Pipe()
        self._load: Callable[[], Callable[[Any], Any]] | None = load
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import work; work({theirs.fileno()})"],
            stdin=subprocess.PIPE,  # its end tells the worker that its parent is gone
            stdout=subprocess.DEVNULL,
            env=child_environment(ONE_THREAD),
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()

    def apply(self, item: object) -> Any:
        """What the function makes of an item, or `_Failed`.

        Raises:
            EOFError, OSError: the process has ended.
        """
        if self._load is not None:
            self._connection.send(self._load)
            self._load = None
        self._connection.send(item)
        return self._connection.recv()

    def how_it_ended(self) -> str:
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


def _serve(
    worker: _Worker,
    items: Sequence[Any],
    left: _Counter,
    arrived: SimpleQueue[tuple[int, Any]],
    describe: Callable[[Any], str],
) -> None:
    """Give items to a worker until there are none, or it fails."""
    while (number := left.take()) is not None:
        try:
            found = worker.apply(items[number])
        except (EOFError, OSError):
            found = _Failed(f"a worker process {worker.how_it_ended()}", None)
        if isinstance(found, _Failed):
            named = f"{describe(items[number])}: {found.text}"
            error = RuntimeError(f"{named}\n{found.traceback}") if found.traceback else CandlecastError(named)
            arrived.put((number, error))
            return
        arrived.put((number, found))


def work(descriptor: int) -> None:
    """The loop of a worker: the loader, then items, until the parent closes the connection of this file descriptor."""
    exit_with_parent()
    connection = Connection(descriptor)
    with suppress(EOFError, BrokenPipeError):
        load, function = connection.recv(), None
        while True:
            item = connection.recv()
            try:
                function = function or load()
                connection.send(function(item))
            except CandlecastError as error:
                connection.send(_Failed(str(error), None))
            except Exception as error:
                connection.send(_Failed(repr(error), traceback.format_exc()))
