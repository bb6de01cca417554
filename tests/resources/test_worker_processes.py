"""Worker processes give what one process gives, in order, and an error names what ended one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import psutil
import pytest

from resources.errors import CandlecastError
from resources.worker_processes import run_on_workers


def adds(constant: int) -> Callable[[int], tuple[int, int]]:
    """What the tests load: it adds, dies at 13, and fails at 14 and 15. Returns the number of the process, too."""

    def add(item: int) -> tuple[int, int]:
        if item == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        if item == 14:
            raise CandlecastError("no forecast")
        if item == 15:
            raise ZeroDivisionError
        time.sleep(0.02 * (item % 3))
        return item + constant, os.getpid()

    return add


def run(items: list[int], workers: int) -> list[tuple[int, int]]:
    def own(item: int) -> tuple[int, int]:
        time.sleep(0.02)
        return item + 100, os.getpid()

    return list(run_on_workers(partial(adds, 100), own, items, workers, lambda item: f"item {item}"))


def test_results_come_in_order_whatever_the_number_of_processes() -> None:
    items = [number for number in range(90) if number not in (13, 14, 15)]
    alone, shared = run(items, 1), run(items, 3)
    assert [value for value, _ in alone] == [value for value, _ in shared] == [item + 100 for item in items]
    assert {process for _, process in alone} == {os.getpid()}
    assert len({process for _, process in shared}) == 3
    assert not psutil.Process().children(recursive=True) and run([], 4) == []


@pytest.mark.parametrize(
    ("item", "kind", "text"),
    [(13, CandlecastError, "signal 9"), (14, CandlecastError, "no forecast"), (15, RuntimeError, "ZeroDivisionError")],
)
def test_what_ends_a_worker_names_its_item(item: int, kind: type[Exception], text: str) -> None:
    def own(_: int) -> tuple[int, int]:
        time.sleep(3)
        return 0, 0

    with pytest.raises(kind, match=f"item {item}: ") as raised:
        list(run_on_workers(partial(adds, 1), own, [item] * 4, 2, "item {}".format))
    assert text in str(raised.value) and not psutil.Process().children(recursive=True)


PARENT = """
import time
from functools import partial
from resources.worker_processes import run_on_workers
from tests.resources.test_worker_processes import adds
for one in run_on_workers(partial(adds, 1), lambda item: time.sleep(60), [1, 2, 3, 4], 3, str):
    pass
"""


def test_workers_end_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT])
    try:
        until = time.monotonic() + 60
        while len(workers := psutil.Process(parent.pid).children()) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        assert len(workers) == 2
    finally:
        parent.kill()
        parent.wait()
    gone, alive = psutil.wait_procs(workers, timeout=30)
    assert len(gone) == 2 and not alive
