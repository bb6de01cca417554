"""Several devices of one machine are shared out among processes, and given back however a process ends."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from resources.compute import shared_device
from resources.usage import resident_mib

HOLD = """
import sys
from pathlib import Path
from resources.compute import shared_device
folder = Path(sys.argv[1])
print(shared_device(2, folder), shared_device(2, folder), flush=True)
sys.stdin.read()
"""


def holder(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """A process that keeps what it was given, and its answer."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_each_process_has_a_device_of_its_own_until_it_ends(tmp_path: Path) -> None:
    first, ours = holder(tmp_path)
    second, theirs = holder(tmp_path)
    third, shared = holder(tmp_path)
    assert (ours, theirs) == ("0 0", "1 1"), "a process keeps the device that it was given"
    assert shared == "0 0", "with all of them taken, the first is shared"
    second.kill()
    second.wait()
    fourth, again = holder(tmp_path)
    assert again == "1 1"
    for process in (first, third, fourth):
        process.communicate()


def test_under_torchrun_a_process_has_the_device_of_its_rank(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert shared_device(1, tmp_path / "inherited") == 0
    monkeypatch.setenv("CANDLECAST_CHILD", "1")
    assert shared_device(4, tmp_path) == 3


def test_one_device_needs_no_lock(tmp_path: Path) -> None:
    assert shared_device(1, tmp_path / "none") == 0
    assert not (tmp_path / "none").exists()


def test_resident_memory_includes_children_of_children_started_by_any_thread() -> None:
    inner = "x = b'1' * 2**26; print(1, flush=True); input()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    before = resident_mib(psutil.Process())
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(
            subprocess.Popen, [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ).result()
        assert started.stdout is not None and started.stdout.readline()
        assert resident_mib(psutil.Process()) > before + 64
        started.communicate(b"\n")
    assert resident_mib(psutil.Process()) < before + 64
