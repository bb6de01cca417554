"""`candlecast doctor --repair`: sets aside what is damaged, and makes it again from what stands before it.

Not here: how damage is found (orchestration.cli.stored_artifacts).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.cli.instance import run_lock
from orchestration.cli.stored_artifacts import Damage, damaged_artifacts
from resources.errors import CandlecastError
from resources.integrity import set_aside, unused_path
from resources.layout import Home
from resources.settings import Settings

if TYPE_CHECKING:
    from orchestration.cli.pipeline import Pipeline

# What belongs to a database beside its file: what was written since its last checkpoint.
COMPANIONS = ("-wal", "-shm", "-journal", ".wal")


def repair_home(settings: Settings, pipeline: Pipeline) -> dict[str, Any]:
    """Set aside what is damaged, then materialise what is missing: the whole graph in a home with a report, else bars.

    Raises:
        CandlecastError: another command is running in the home; or something could not be made again, and is named.
    """
    is_whole = any(Home(settings.home).reports.glob("*/"))
    damaged = set_damaged_aside(settings)
    if not damaged:
        return {"damaged": [], "text": "nothing stored in the home is damaged"}
    for one in damaged:
        pipeline.terminal.print(f"set aside: {one.text}")
    result = pipeline.run() if is_whole else pipeline.ingest()
    if left := list(damaged_artifacts(settings)):
        raise CandlecastError(
            "\n".join(
                ["not made again; restore it from a backup, or change the settings:", *(one.text for one in left)]
            )
        )
    text = f"{len(damaged)} damaged or missing, made again; what was damaged is in {settings.home / 'damaged'}"
    return {**result, "damaged": [one.text for one in damaged], "text": text}


def set_damaged_aside(settings: Settings) -> list[Damage]:
    """Move everything that is damaged to `<home>/damaged`, and return what it was.

    Raises:
        CandlecastError: another command is running in the home.
    """
    home = Home(settings.home)
    with run_lock(home):
        found = list(damaged_artifacts(settings))
        for damage in found:
            _set_aside(damage.path, home)
    return found


def _set_aside(path: Path, home: Home) -> None:
    """Set a file or folder aside with what belongs to it. A warehouse outside the home is renamed where it is."""
    for part in (path, *(path.with_name(path.name + suffix) for suffix in COMPANIONS)):
        if not part.exists():
            continue
        if part.is_relative_to(home.root):
            set_aside(part, home.root)
        else:
            part.rename(unused_path(part.with_name(f"{part.name}.damaged")))
