"""The companion: a worker process that stays for as long as this process (resources.worker).

It imports what is slow to import while this process does other work, serves single calls, and is one of the processes
of `run_on_workers`. A call that is asked for in advance is computed while this process goes on.
"""

from __future__ import annotations

import atexit
import hashlib
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from threading import RLock, Thread
from typing import Generic, TypeVar

from resources.errors import WorkerEndedError
from resources.worker import Answer, Failed, Worker, failed, request

# Answers that nobody has called for: the newest. A run asks for a few.
MOST_ASKED = 16

Item = TypeVar("Item")
Value = TypeVar("Value")


class Companion:
    """The worker that stays for as long as this process."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._lock = RLock()
        self._asked = dict[bytes, Future[Answer | Failed]]()
        self._queue = SimpleQueue[tuple[bytes, Future[Answer | Failed]]]()
        self._asks = False

    @property
    def worker(self) -> Worker | None:
        """The running process; None: it was not started, or has ended."""
        return self._worker if self._worker is not None and self._worker.runs else None

    @property
    def asked(self) -> int:
        """The number of answers that were asked for, and not called for yet."""
        return len(self._asked)

    def start(self, modules: Sequence[str] = ()) -> Worker:
        """Start it, unless it runs, and return at once; it imports modules, and leaves errors to the calls."""
        with self._lock:
            if self._worker is None or not self._worker.runs:
                self._close()
                self._worker = Worker(modules)
            return self._worker

    def ask(self, message: bytes) -> None:
        """Have a `request` answered after those that were asked for before; `call` returns the answer, once."""
        with self._lock:
            key = _key(message)
            if key in self._asked:
                return
            if not self._asks:
                Thread(target=self._answer, daemon=True).start()
                self._asks = True
            while len(self._asked) >= MOST_ASKED:
                self._asked.pop(next(iter(self._asked))).cancel()
            self._asked[key] = Future()
            self._queue.put((message, self._asked[key]))

    def _answer(self) -> None:
        while True:
            message, future = self._queue.get()
            try:
                with self._lock:
                    worker = self.start() if future.set_running_or_notify_cancel() else None
                if worker:
                    future.set_result(worker.apply(message))
            except Exception as error:  # such as too many processes
                future.set_result(failed(error))

    def call(self, message: bytes) -> Answer:
        """The answer to a `request`; what failed is raised. If the process has ended, it is started again, also for
        what was asked for and lost with it."""
        with self._lock:
            asked = self._asked.pop(_key(message), None)
        found = asked.result() if asked else None
        if found is None or _ended(found):  # its process may have been ended for another call
            found = self.start().apply(message)
        if isinstance(found, Failed):
            if found.traceback:
                found.error.add_note(found.traceback)
            raise found.error
        return found

    def stop(self) -> None:
        """End it, if it runs, with what was asked for."""
        with self._lock:
            while self._asked:
                self._asked.popitem()[1].cancel()
            self._close()

    def _close(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker.close()
            self._worker = None


def _ended(answer: Answer | Failed) -> bool:
    return isinstance(answer, Failed) and isinstance(answer.error, WorkerEndedError)


def _key(message: bytes) -> bytes:
    return hashlib.sha256(message).digest()


COMPANION = Companion()
atexit.register(COMPANION.stop)


class CompanionFunction(Generic[Item, Value]):
    """The function that a picklable loader returns, in the companion, where it is loaded with the first call.

    Raises:
        WorkerEndedError: the companion ended meanwhile.
        Exception: what `load` or the function raised.
    """

    def __init__(self, load: Callable[[], Callable[[Item], Value]]) -> None:
        self._load = pickle.dumps(load)

    def ask(self, item: Item) -> None:
        """Begin a call whose value the next call with an equal item returns."""
        COMPANION.ask(request(self._load, item))

    def __call__(self, item: Item) -> Value:
        value: Value = self.answer(item).value
        return value

    def answer(self, item: Item) -> Answer:
        """As a call, with the time and memory that it took there."""
        return COMPANION.call(request(self._load, item))
