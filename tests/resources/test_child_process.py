"""A child process is read line by line, stopped with its parent, and its end is described."""

import os
import signal
import sys
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import psutil
import pytest

from resources.child_process import TAIL_LINES, run_child


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_lines_of_both_streams_arrive_and_the_last_are_kept() -> None:
    lines: list[str] = []
    code = "import sys\nfor n in range(20): print(n, file=sys.stderr if n % 2 else sys.stdout, flush=True)"
    ended = run_child(python(code), lines.append)
    assert lines == [str(n) for n in range(20)]
    assert (ended.code, ended.tail.splitlines()) == (0, lines[-TAIL_LINES:])


def test_messages_of_another_thread_are_handled_between_the_lines() -> None:
    messages: SimpleQueue[Any] = SimpleQueue()
    messages.put({"progress": 1})
    received: list[Any] = []
    run_child(python("print('line')"), received.append, messages=messages)
    assert received == [{"progress": 1}, "line"]


@pytest.mark.parametrize(
    "name",
    ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "TORCHELASTIC_RUN_ID", "PET_NNODES", "OMPI_COMM_WORLD_SIZE"],
)
def test_a_child_does_not_inherit_the_place_in_another_distributed_run(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "2")
    monkeypatch.setenv("CRANK", "kept")
    lines: list[str] = []
    run_child(python(f"import os; print(os.environ.get({name!r}), os.environ['CRANK'])"), lines.append)
    assert lines == ["None kept"]


@pytest.mark.parametrize(
    ("code", "fact"),
    [("raise SystemExit(3)", "code 3"), ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "signal 9")],
)
def test_the_reason_names_the_exit_code_or_the_signal(code: str, fact: str) -> None:
    ended = run_child(python(code), lambda line: None)
    assert ended.code != 0 and fact in ended.reason


def test_the_environment_and_the_folder_are_those_asked_for(tmp_path: Path) -> None:
    lines: list[str] = []
    code = "import os, resources; print(os.getcwd()); print(os.environ['COLOUR'])"
    run_child(python(code), lines.append, folder=tmp_path, environment={"COLOUR": "blue"})
    assert lines == [str(tmp_path), "blue"]


@pytest.mark.parametrize("disposition", [signal.SIG_DFL, signal.SIG_IGN])
def test_an_interruption_stops_the_child_and_its_own_children(
    disposition: signal.Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.child_process.STOP_SECONDS", 1)
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(os.getpid(), child.pid, flush=True)\n"
        "time.sleep(60)"
    )
    started: list[int] = []

    def interrupt(line: str) -> None:
        started.extend(int(number) for number in line.split())
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, disposition)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_child(python(code), interrupt)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(started) == 2 and os.getpid() not in started
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in started if psutil.pid_exists(pid)], timeout=10)
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive)
