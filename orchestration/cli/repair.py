"""`candlecast doctor --repair`: sets aside what is damaged, and makes it again from what stands before it.

Not here: how damage is found (orchestration.cli.stored_artifacts).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.forecasting.path_files import lost_marker
from orchestration.cli.dagster_records import Damage
from orchestration.cli.instance import run_lock
from orchestration.cli.stored_artifacts import damaged_artifacts
from resources.errors import CandlecastError
from resources.integrity import set_aside, unused_path
from resources.layout import Home
from resources.publish import publish_bytes
from resources.settings import Settings

if TYPE_CHECKING:
    from orchestration.cli.pipeline import Pipeline

# What belongs to a database beside its file: what was written since its last checkpoint.
COMPANIONS = ("-wal", "-shm", "-journal", ".wal")
NOT_MADE = (
    "not made again; restore it from a backup, or change the settings; `candlecast forecast --origin DAY` makes sample "
    "paths of an origin that is not planned:"
)


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
    lost = record_lost_paths(settings)
    if left := list(damaged_artifacts(settings)):
        raise CandlecastError("\n".join([NOT_MADE, *(one.text for one in left)]))
    made = len(damaged) - len(lost)
    text = f"{made} damaged or missing, made again; what was damaged is in {settings.home / 'damaged'}"
    if lost:
        text += f"; {len(lost)} files of sample paths, which only other settings or an earlier release make, are lost"
    return {**result, "damaged": [one.text for one in damaged], "lost": [str(one.path) for one in lost], "text": text}


def record_lost_paths(settings: Settings) -> list[Damage]:
    """Record sample paths that are gone, and that these settings do not make, as lost, and return them."""
    lost = [one for one in damaged_artifacts(settings) if not one.repeatable]
    for one in lost:
        publish_bytes(lost_marker(one.path), b"")
    return lost


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
