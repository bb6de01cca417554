"""One process at a time holds a lock, and the kernel releases the lock of a process that was killed."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resources.locks import LockHeldError, claim_lock, exclusive_lock

HOLD = """
import sys
from pathlib import Path
from resources.locks import exclusive_lock
with exclusive_lock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(file: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock on `file`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "locked"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_lock_that_another_process_holds_is_an_error_after_the_wait(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "run.lock"
    with holder(file):
        for wait in (0.0, 0.1):
            with pytest.raises(LockHeldError, match=r"run\.lock"), exclusive_lock(file, wait=wait):
                pytest.fail("the lock was taken twice")
        assert not claim_lock(file)


def test_a_killed_process_releases_its_lock(tmp_path: Path) -> None:
    file = tmp_path / "run.lock"
    with holder(file) as process:
        process.kill()
        process.wait()
        with exclusive_lock(file, wait=10):
            pass


def test_a_lock_is_released_at_the_end_of_the_block_however_it_ends(tmp_path: Path) -> None:
    file = tmp_path / "run.lock"
    with pytest.raises(ValueError, match="inside"), exclusive_lock(file):
        raise ValueError("inside")
    assert claim_lock(file)


def test_a_claimed_lock_is_held_until_the_process_ends(tmp_path: Path) -> None:
    file = tmp_path / "cuda-0"
    assert claim_lock(file)
    assert not claim_lock(file)
