"""Dagster's instance in the home folder, and the lock that admits one command at a time.

Belongs here: DAGSTER_HOME, its configuration file, its locks. Not here: how a job is run (orchestration.cli.headless).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from resources.errors import CandlecastError
from resources.layout import Home
from resources.locks import LockHeldError, exclusive_lock
from resources.profiles import ENV_HOME, packaged_file
from resources.publish import publish_bytes
from resources.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

INSTANCE_FILE = "dagster.yaml"
OPENING_SECONDS = 60


@contextmanager
def run_lock(home: Home) -> Iterator[None]:
    """Hold the home's run lock inside the block; a second command fails and names the process that holds it.

    Raises:
        CandlecastError: another command is running, or the home folder is not writable.
    """
    create_dagster_home(home)
    holder_file = home.root / "run.pid"
    with ExitStack() as held:
        try:
            held.enter_context(exclusive_lock(home.root / "run.lock", wait=0))
        except LockHeldError:
            holder = holder_file.read_text().strip() if holder_file.is_file() else "another process"
            raise CandlecastError(
                f"{home.root} is locked: {holder} is running there. Wait until it ends; this command changed nothing"
            ) from None
        publish_bytes(holder_file, f"process {os.getpid()}".encode())
        held.callback(holder_file.unlink, missing_ok=True)
        yield


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """Dagster's instance in the home folder, created on first use.

    One process at a time: two that create Dagster's tables concurrently fail, or leave two heads in the version table,
    after which no process can open them.

    Raises:
        CandlecastError: the home folder is not writable, or another process has been opening it for a minute.
    """
    import dagster as dg

    folder = create_dagster_home(Home(settings.home))
    os.environ["DAGSTER_HOME"] = str(folder)
    try:
        with exclusive_lock(folder / "opening.lock", wait=OPENING_SECONDS):
            copy_instance_file(settings.root, folder)
            return dg.DagsterInstance.get()
    except LockHeldError:
        raise CandlecastError(
            f"{folder}: another process has been opening Dagster's records for {OPENING_SECONDS} s. Check what it "
            "waits for, or end it; this command changed nothing"
        ) from None


def create_dagster_home(home: Home) -> Path:
    """The DAGSTER_HOME folder, created on first use.

    Raises:
        CandlecastError: the home folder is not writable.
    """
    reason = "permission denied"
    try:
        home.dagster.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = str(error)
    if not os.access(home.dagster, os.W_OK):
        raise CandlecastError(
            f"the home {home.root} is not writable: {reason}. Name a writable folder with --home or {ENV_HOME}"
        )
    return home.dagster


def copy_instance_file(root: Path, folder: Path) -> None:
    """Copy dagster.yaml into DAGSTER_HOME, from `root` or else from the package. An existing file is kept."""
    target = folder / INSTANCE_FILE
    if target.is_file():
        return
    source = root / INSTANCE_FILE if (root / INSTANCE_FILE).is_file() else packaged_file(INSTANCE_FILE)
    if source.is_file():
        shutil.copyfile(source, target)
