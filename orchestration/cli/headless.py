"""Runs without the UI: the same jobs, the same instance, one process.

What the command line does when it works. A whole history is one run over a range of sessions; the chain after the
bars is a second one over the test range. The UI shows both like any other.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import dagster as dg

from assets.sessions import KEY_FORMAT, RANGE_END, RANGE_START
from orchestration.build import build_defs
from orchestration.cli.interrupts import interruptions
from orchestration.cli.run_progress import Watch
from orchestration.cli.stale_runs import PROFILE_TAG, clear_leftovers
from orchestration.resources import RESOURCE
from resources.candlecast import Candlecast
from resources.errors import CandlecastError
from resources.layout import Home
from resources.locks import LockHeldError, exclusive_lock
from resources.profiles import ENV_HOME, packaged_file
from resources.publish import publish_bytes
from resources.settings import Settings

INSTANCE_FILE = "dagster.yaml"
OPENING_SECONDS = 60


@dataclass(frozen=True)
class Span:
    """A range of sessions, both ends inside."""

    first: date
    last: date

    @property
    def tags(self) -> dict[str, str]:
        """The tags that make a run about this range."""
        return {RANGE_START: self.first.strftime(KEY_FORMAT), RANGE_END: self.last.strftime(KEY_FORMAT)}


class Headless:
    """Runs jobs of one set of settings in this process.

    Args:
        settings: what to run.
        watch: who is told.
    """

    def __init__(self, settings: Settings, watch: Watch) -> None:
        self.settings = settings
        self.watch = watch
        self.home = Home(settings.home)
        self.candlecast = Candlecast(settings)
        self.defs = build_defs(
            settings=settings,
            resource_overrides={RESOURCE: self.candlecast},
            loggers={"progress": watch.logger()},
        )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the home's run lock, and clears what killed commands left behind.

        Raises:
            CandlecastError: another command is at work.
        """
        # First the lock: a command that may not start has no business in Dagster's records, which another changes.
        with only_run(self.home), open_instance(self.settings) as self.instance:
            clear_leftovers(self.instance)
            yield

    def run(
        self,
        selection: str,
        span: Span | None = None,
        name: str = "selection",
        config: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        """Materialise a selection in one run, inside `alone`.

        Args:
            selection: Dagster's asset selection syntax.
            span: the sessions, for partitioned assets.
            config: of single assets, by name.

        Raises:
            KeyboardInterrupt: the person stopped it; what was finished stays.
            CandlecastError: a step or a blocking check failed; the message says which and why.
        """
        if interruptions.asked():
            raise KeyboardInterrupt
        defs = dg.Definitions.merge(self.defs, dg.Definitions(jobs=[dg.define_asset_job(name, selection=selection)]))
        result = defs.resolve_job_def(name).execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            run_config={
                "loggers": {"progress": {}},
                "ops": {asset: {"config": dict(values)} for asset, values in (config or {}).items()},
            },
            tags={**(span.tags if span else {}), PROFILE_TAG: self.settings.profile},
        )
        if self.watch.interrupted or interruptions.asked():
            raise KeyboardInterrupt
        if not result.success:
            reasons = "\n".join(self.watch.failures) or "see the run's log in the UI"
            raise CandlecastError(f"{reasons}\n(run {result.run_id})")


@contextmanager
def only_run(home: Home) -> Iterator[None]:
    """Holds the home's run lock; a second run is told who holds it and ends.

    Raises:
        CandlecastError: another run is at work, or the home folder cannot be written.
    """
    dagster_folder(home)
    note = home.root / "run.pid"
    try:
        with exclusive_lock(home.root / "run.lock", wait=0):
            publish_bytes(note, f"process {os.getpid()}".encode())
            try:
                yield
            finally:
                note.unlink(missing_ok=True)
    except LockHeldError:
        holder = note.read_text().strip() if note.is_file() else "another process"
        raise CandlecastError(
            f"{home.root} is at work: {holder} runs there. Wait for it to end; nothing of this run was started."
        ) from None


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """Dagster's instance in the home folder, made on first use.

    One process at a time: two that make Dagster's tables at once fail, or leave two heads in its version table, and
    then none ever opens it again.

    Raises:
        CandlecastError: the home folder cannot be written, or another process has been opening for a minute.
    """
    folder = dagster_folder(Home(settings.home))
    os.environ["DAGSTER_HOME"] = str(folder)
    try:
        with exclusive_lock(folder / "opening.lock", wait=OPENING_SECONDS):
            place_instance_file(settings.root, folder)
            return dg.DagsterInstance.get()
    except LockHeldError:
        raise CandlecastError(
            f"{folder}: another process has been opening Dagster's records for {OPENING_SECONDS} s. See what it waits "
            "for, or end it; nothing of this command was started"
        ) from None


def dagster_folder(home: Home) -> Path:
    """DAGSTER_HOME, made on first use.

    Raises:
        CandlecastError: the home folder cannot be written.
    """
    reason = "no permission to write there"
    try:
        home.dagster.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = str(error)
    if not os.access(home.dagster, os.W_OK):
        raise CandlecastError(
            f"the home {home.root} cannot be written: {reason}. Name a folder that can be, with --home or {ENV_HOME}"
        )
    return home.dagster


def place_instance_file(root: Path, folder: Path) -> None:
    """Copy dagster.yaml into DAGSTER_HOME: the one beside the settings, or else ours. One that is there stays."""
    target = folder / INSTANCE_FILE
    if target.is_file():
        return
    source = root / INSTANCE_FILE if (root / INSTANCE_FILE).is_file() else packaged_file(INSTANCE_FILE)
    if source.is_file():
        shutil.copyfile(source, target)
