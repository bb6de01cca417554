"""One command of the command line: settings in, progress on stderr, the result on stdout, an exit status.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

import gc
import json
import shutil
import sys
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from orchestration.cli.pipeline import Pipeline
    from orchestration.cli.terminal import Terminal
    from resources.progress import Progress

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130
# New objects between two collections. Python's own 700 suit small heaps: each import of a run would collect often.
GARBAGE = 20_000
# Bytes: with less a disk counts as full.
SMALLEST_SPACE = 2**20

SettingsFile = Annotated[Path | None, typer.Option("--settings", help="Settings file [CANDLECAST_SETTINGS].")]
Profile = Annotated[str | None, typer.Option("--profile", help="Profile of the settings file [CANDLECAST_PROFILE].")]
HomeFolder = Annotated[Path | None, typer.Option("--home", help="Folder of all data and results [CANDLECAST_HOME].")]
Device = Annotated[
    str | None, typer.Option(help='Device of the models, instead of compute.device: "auto", "cpu", "mps" or "cuda:N".')
]
AsJson = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON.")]


class CommandSession:
    """The context of one command: loads the settings, shows progress, turns errors into messages and exit statuses."""

    def __init__(
        self,
        file: Path | None,
        profile: str | None,
        home: Path | None,
        as_json: bool,
        show_progress: bool = True,
        device: str | None = None,
    ) -> None:
        from resources.errors import SettingsError
        from resources.profiles import load_settings

        self.file = file
        self.as_json = as_json
        try:
            self.settings = load_settings(
                file, profile, home, None if device is None else {"compute": {"device": device}}
            )
        except SettingsError as error:
            reject(str(error))
        self._show_progress = show_progress
        self._terminal: Terminal | None = None
        self._showing: AbstractContextManager[Terminal] | None = None

    def __enter__(self) -> "CommandSession":
        if self._show_progress:
            from orchestration.cli.terminal import Terminal

            self._terminal = Terminal(quiet=self.as_json)
            self._showing = self._terminal.showing()
            self._showing.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._showing is not None:
            self._showing.__exit__(None, None, None)
        message = error_message(error, self.settings.home)
        if message is not None:
            if self.as_json:
                sys.stdout.write(json.dumps({"ok": False, "error": message}) + "\n")
            else:
                sys.stderr.write(f"{message}\n")
            raise typer.Exit(FAILED) from None
        if isinstance(error, _interruptions()):
            sys.stderr.write(
                "\nstopped: finished assets are kept, nothing is half-written; run the same command again to resume\n"
            )
            raise typer.Exit(INTERRUPTED) from None

    def pipeline(self) -> "Pipeline":
        """The asset graph of these settings, shown on this terminal."""
        from orchestration.cli.pipeline import Pipeline

        assert self._terminal is not None, "a session without progress runs nothing"
        pipeline = Pipeline(self.settings, self._terminal)
        collect_garbage()
        return pipeline

    @contextmanager
    def work(self, name: str) -> "Iterator[Progress]":
        """The progress of one piece of work, shown on this terminal."""
        from resources.progress import progress_of

        assert self._terminal is not None, "a session without progress shows none"
        collect_garbage()
        with self._terminal.task(name):
            yield progress_of(name)

    def finish(self, result: dict[str, Any], text: str | None = None) -> None:
        """Print the result: as JSON if requested, else `text` or the result's own `text`.

        If a check found an error that blocked nothing, as of a model that forecasts nothing, the exit status is 1.
        """
        failures = self._terminal.monitor.failures if self._terminal else []
        if self.as_json:
            from orchestration.cli.query import finite

            result.pop("text", None)
            failed = {"error": "\n".join(failures)} if failures else {}
            sys.stdout.write(
                json.dumps(finite({"ok": not failures, **failed, **result}), default=_as_json_value) + "\n"
            )
        else:
            sys.stdout.write((text if text is not None else result.get("text", "")) + "\n")
        if failures:
            raise typer.Exit(FAILED)


def collect_garbage() -> None:
    """Collect garbage again, where the entry point had stopped that, but not among modules and definitions."""
    if gc.isenabled():
        return
    gc.freeze()
    gc.set_threshold(GARBAGE)
    gc.enable()


def reject(message: str) -> NoReturn:
    """End the command because of wrong use."""
    sys.stderr.write(f"{message}\n")
    raise typer.Exit(WRONG_USE)


def error_message(error: BaseException | None, home: Path) -> str | None:
    """The message that replaces a traceback; None where only the traceback helps."""
    from resources.errors import CandlecastError

    if isinstance(error, CandlecastError):
        return str(error)
    # Without the statement, which SQLAlchemy quotes below.
    reason = str(error).partition("\n")[0]
    if _is_full(reason, home):
        return f"the disk of {home} is full: {reason}\nFree some space, then run the same command again"
    if isinstance(error, OSError):
        return f"{error}; `candlecast doctor` checks the home"
    duckdb = sys.modules.get("duckdb")
    if duckdb and isinstance(error, duckdb.OutOfMemoryException):
        return f"the warehouse ran out of memory: {error}\nIngest fewer or smaller files at once"
    if duckdb and isinstance(error, duckdb.Error):
        return (
            f"the warehouse: {error}\nIf its file is damaged, restore it, or `candlecast doctor --repair` sets it "
            "aside and rebuilds it from the lake"
        )
    # An error of SQLAlchemy can only arrive where it is loaded.
    sqlalchemy = sys.modules.get("sqlalchemy")
    if sqlalchemy and isinstance(error, sqlalchemy.exc.DBAPIError):
        locked = "locked" in str(error.orig)
        if locked:
            return f"Dagster's records in {home / 'dagster'}: {error.orig}. Is another command or the UI using them?"
        from orchestration.cli.dagster_records import dagster_records
        from resources.layout import Home

        named = "".join(f"\n{one.text}" for one in dagster_records(Home(home)))
        return f"Dagster's records in {home / 'dagster'}: {error.orig}. `candlecast doctor --repair` mends them{named}"
    return None


def _is_full(reason: str, home: Path) -> bool:
    """Whether an error came of a full disk, by the messages of SQLite, DuckDB and the system."""
    if any(words in reason for words in ("disk is full", "No space left")):
        return True
    # SQLite's, where there is no space for the shared memory beside a database.
    return "disk I/O error" in reason and home.is_dir() and shutil.disk_usage(home).free < SMALLEST_SPACE


def _interruptions() -> tuple[type[BaseException], ...]:
    # Dagster's own interruption can only arrive where it is loaded.
    dagster = sys.modules.get("dagster")
    return (KeyboardInterrupt, dagster.DagsterExecutionInterruptedError) if dagster else (KeyboardInterrupt,)


def _as_json_value(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else str(value)
