"""Worker processes give what one process gives, in order, and an error names what ended one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from resources.companion import COMPANION, MOST_ASKED, CompanionFunction
from resources.errors import CandlecastError, WorkerEndedError
from resources.worker import MOST_LOADED
from resources.worker_processes import run_on_workers


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No test leaves a process behind; those of others, as of multiprocessing, may be there before."""
    before = set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before


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
    assert run([], 4) == []


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
    assert text in str(raised.value)


@pytest.fixture
def companion() -> Iterator[CompanionFunction[int, tuple[int, int]]]:
    """The function of `adds` in the companion of this process."""
    assert COMPANION.worker is None
    yield CompanionFunction(partial(adds, 1000))
    COMPANION.stop()


def test_the_companion_serves_calls_and_raises_what_they_raise(
    companion: CompanionFunction[int, tuple[int, int]],
) -> None:
    (value, process), again = companion(1), companion(2)
    assert (value, again) == (1001, (1002, process)) and process != os.getpid()
    with pytest.raises(CandlecastError, match="no forecast"):
        companion(14)
    with pytest.raises(ZeroDivisionError) as raised:
        companion(15)
    assert "in add" in raised.value.__notes__[0]
    with pytest.raises(WorkerEndedError, match="signal 9"):
        companion(13)
    value, other = companion(3)
    assert value == 1003 and other != process
    with pytest.raises(CandlecastError, match="missing"):
        CompanionFunction[int, int](partial(_missing, "weights are missing"))(1)


def _missing(text: str) -> Callable[[int], int]:
    raise CandlecastError(text)


def _noted(file: Path, name: int) -> Callable[[int], int]:
    """Adds nothing, and notes in a file that it was loaded."""
    with file.open("a") as notes:
        notes.write(f"{name} ")
    return int


def _notes_calls(file: Path) -> Callable[[int], int]:
    """Adds nothing, and notes each item in a file."""

    def noted(item: int) -> int:
        if item == 14:
            raise CandlecastError("no forecast")
        with file.open("a") as notes:
            notes.write(f"{item} ")
        return item

    return noted


@pytest.mark.usefixtures("companion")
def test_the_companion_keeps_the_newest_functions_and_loads_an_earlier_one_again(tmp_path: Path) -> None:
    file = tmp_path / "loaded"
    functions = [CompanionFunction(partial(_noted, file, name)) for name in range(MOST_LOADED + 1)]
    assert [functions[name](7) for name in (*range(MOST_LOADED + 1), MOST_LOADED, 1, 0)] == [7] * (MOST_LOADED + 4)
    assert file.read_text().split() == [*map(str, range(MOST_LOADED + 1)), "0"]


def test_what_is_asked_for_is_computed_once(companion: CompanionFunction[int, tuple[int, int]], tmp_path: Path) -> None:
    file = tmp_path / "called"
    noted = CompanionFunction[int, int](partial(_notes_calls, file))
    for item in (1, 2, 1, 14):
        noted.ask(item)
    assert noted(2) == 2 and COMPANION.asked == 2
    with pytest.raises(CandlecastError, match="no forecast"):
        noted(14)
    assert [noted(1), noted(1), noted(3)] == [1, 1, 3] and COMPANION.asked == 0
    assert file.read_text().split() == ["1", "2", "1", "3"]
    companion.ask(13)
    companion.ask(4)
    with pytest.raises(WorkerEndedError, match="signal 9"):
        companion(13)
    assert companion(4)[0] == 1004
    companion.ask(5)
    COMPANION.stop()
    assert COMPANION.asked == 0 and companion(5)[0] == 1005
    for item in range(MOST_ASKED + 3):
        companion.ask(item)
    assert COMPANION.asked == MOST_ASKED and companion(0)[0] == 1000 and COMPANION.asked == MOST_ASKED


def _dies_once(file: Path) -> Callable[[int], int]:
    def call(item: int) -> int:
        if not file.exists():
            file.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    return call


@pytest.mark.usefixtures("companion")
def test_what_is_lost_with_the_companion_is_computed_again(tmp_path: Path) -> None:
    call = CompanionFunction[int, int](partial(_dies_once, tmp_path / "died"))
    call.ask(3)
    assert call(3) == 3 and (tmp_path / "died").exists()


def test_the_companion_is_one_of_the_workers(companion: CompanionFunction[int, tuple[int, int]]) -> None:
    process = companion(0)[1]
    shared = run(list(range(10)), 2)
    assert [value for value, _ in shared] == list(range(100, 110))
    assert {process for _, process in shared} == {os.getpid(), process}
    assert companion(1) == (1001, process)
    with pytest.raises(CandlecastError, match="item 14: no forecast"):
        run([1, 14, 14, 14, 14, 14], 2)
    assert companion(1)[0] == 1001


WORKERS = """
import time
from functools import partial
from resources.worker_processes import run_on_workers
from tests.resources.test_worker_processes import adds
for one in run_on_workers(partial(adds, 1), lambda item: time.sleep(60), [1, 2, 3, 4], 3, str):
    pass
"""
# It is in the middle of its imports when its parent ends.
SLOW_TO_START = """
import os, sys, time
from resources.companion import COMPANION
COMPANION.start(["torch"])
time.sleep(1)
"""
ENDS = {
    "workers": (WORKERS, 2),
    "companion": (f"{SLOW_TO_START}time.sleep(60)", 1),
    "companion of a failing command": (f"{SLOW_TO_START}sys.exit('no bars')", 1),
    "companion of an interrupted command": (f"{SLOW_TO_START}os._exit(130)", 1),
}


@pytest.mark.parametrize("case", ENDS)
def test_no_worker_outlives_its_parent(case: str) -> None:
    code, count = ENDS[case]
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while len(workers := psutil.Process(parent.pid).children()) < count and time.monotonic() < until:
            time.sleep(0.05)
        assert len(workers) == count
        if "command" in case:
            parent.wait(30)
    finally:
        parent.kill()
        parent.wait()
    gone, alive = psutil.wait_procs(workers, timeout=30)
    assert len(gone) == count and not alive
