"""Dagster's files in a home, opened and verified: its databases, whole, and its configuration.

Belongs here: what costs no import of a package that computes, so that the doctor reads these files while it imports
those. Not here: every other stored artifact (orchestration.cli.stored_artifacts).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import yaml

from orchestration.cli.instance import INSTANCE_FILE
from resources.layout import Home

# What a file adds to the records of Dagster. The files of single runs hold the events of one run.
_RECORDS = {
    "runs.db": "the history of runs is lost",
    "index.db": "the history of materialisations is lost",
    "schedules.db": "the history of ticks is lost, and schedules and sensors return to their defaults",
}


@dataclass(frozen=True)
class Damage:
    """A stored file or folder that cannot be used.

    Attributes:
        path: of the file or folder.
        reason: what is wrong.
        lost: what cannot be made again; empty: nothing.
        repeatable: whether a run makes it again. Sample paths of other settings or of an earlier release are not.
    """

    path: Path
    reason: str
    lost: str = ""
    repeatable: bool = True

    @property
    def text(self) -> str:
        return f"{self.path} {self.reason}" + (f"; {self.lost}" if self.lost else "")


def dagster_records(home: Home) -> Iterator[Damage]:
    """Dagster's SQLite databases and its configuration."""
    file = home.dagster / INSTANCE_FILE
    if file.is_file():
        try:
            if not isinstance(yaml.safe_load(file.read_bytes()), dict):
                yield Damage(file, "holds no settings", "changes to it are lost")
        except yaml.YAMLError as error:
            yield Damage(file, f"is not YAML ({' '.join(str(error).split())})", "changes to it are lost")
    files = sorted(home.dagster.rglob("*.db"))
    with ThreadPoolExecutor() as pool:  # SQLite reads without the interpreter's lock
        reasons = list(pool.map(_why_not_sqlite, files))
    for records, reason in zip(files, reasons, strict=True):
        if reason:
            yield Damage(records, reason, _RECORDS.get(records.name, "the events of this run are lost"))


def _why_not_sqlite(file: Path) -> str:
    """Why a file is no intact SQLite database; empty: it is, or another process has it locked."""
    try:
        try:
            first = _first_problem(file, "mode=ro")
        except sqlite3.OperationalError as error:
            if "disk I/O error" not in str(error):
                raise
            # A full disk has no space for the shared memory beside the file, without which it is read as if alone. That
            # says nothing of one with a log: only both together are whole while the log is copied into the file.
            if _has_log(file):
                return ""
            first = _first_problem(file, "mode=ro&immutable=1")
    except sqlite3.OperationalError as error:
        # What the machine refuses says nothing of the file.
        hindered = any(reason in str(error) for reason in ("locked", "readonly", "unable to open"))
        return "" if hindered else f"cannot be read ({error})"
    except sqlite3.DatabaseError as error:
        return f"cannot be read ({error})"
    return "" if first == "ok" else f"is damaged ({' '.join(first.split())})"


def _first_problem(file: Path, access: str) -> str:
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?{access}", uri=True, timeout=1)) as connection:
        found: str = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    return found


def _has_log(file: Path) -> bool:
    log = file.with_name(f"{file.name}-wal")
    return log.is_file() and log.stat().st_size > 0
