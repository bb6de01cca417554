"""Work split over processes of this machine, an item each; the results do not depend on their number.

For work that takes one thread: a process per core. An engine of a cluster needs the same two arguments, a picklable
loader and picklable items. Not here: a process (resources.worker), and the one that stays (resources.companion).
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Generator, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from resources.companion import COMPANION
from resources.errors import CandlecastError
from resources.worker import Failed, Worker, failed, request

Item = TypeVar("Item")
Value = TypeVar("Value")


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
    started = [Worker() for _ in range(count - len(kept))]
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


def _serve(
    worker: Worker,
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
            found = worker.apply(request(load, sent(items[number])))
        except Exception as error:
            found = failed(error)
        if isinstance(found, Failed):
            named = f"{describe(items[number])}: {repr(found.error) if found.traceback else found.error}"
            raised = RuntimeError(f"{named}\n{found.traceback}") if found.traceback else CandlecastError(named)
            arrived.put((number, raised))
            return
        arrived.put((number, found.value))
