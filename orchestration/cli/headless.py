"""Runs without the UI: the same jobs and the same instance, in this process.

A whole history is one run over a range of sessions; everything downstream of the bars is a second one over the test
range. The UI shows both like any other run.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from orchestration.build import build_defs
from orchestration.cli.instance import open_instance, run_lock
from orchestration.cli.interrupts import interrupts
from orchestration.cli.run_progress import RunMonitor
from orchestration.cli.session_ranges import SessionRange
from orchestration.cli.stale_runs import PROFILE_TAG, clear_stale_runs
from orchestration.home_owner import claim_home
from orchestration.jobs import Job, JobName, without_freshness
from orchestration.resources import RESOURCE
from resources.candlecast import Candlecast
from resources.errors import CandlecastError
from resources.layout import Home
from resources.settings import Settings

# Dagster's pages of a job list the runs with its name and this tag: repository and location of workspace.yaml.
SHOWN_AS = {".dagster/repository": "__repository__@candlecast"}


class HeadlessRunner:
    """Runs jobs of one set of settings in this process.

    Args:
        settings: the settings of the runs.
        monitor: receives the events of the runs.
    """

    def __init__(self, settings: Settings, monitor: RunMonitor) -> None:
        self.settings = settings
        self.monitor = monitor
        self.home = Home(settings.home)
        self.candlecast = Candlecast(settings)
        self.defs = build_defs(
            settings=settings,
            resource_overrides={RESOURCE: self.candlecast},
            loggers={"progress": monitor.logger()},
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the home's run lock inside the block, after the stale runs of killed commands are cleared.

        Raises:
            CandlecastError: another command is running, or the home belongs to another profile.
        """
        # The lock comes first: a command that may not start must not touch Dagster's records, which another one writes.
        with run_lock(self.home), open_instance(self.settings) as self.instance:
            claim_home(self.settings)
            clear_stale_runs(self.instance)
            yield

    def run(
        self,
        selection: str | dg.AssetSelection,
        sessions: SessionRange | None = None,
        name: JobName = "everything",
        config: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        """Materialise a selection in one run, inside `locked`.

        Args:
            selection: assets, as Dagster's asset selection syntax or an object.
            sessions: the partitions, for partitioned assets.
            name: the job of the UI under which the run is shown; its selection may be larger.
            config: config of single assets, by name.

        Raises:
            KeyboardInterrupt: a stop was requested; finished assets are kept.
            CandlecastError: a step or a blocking check failed; the message names each with its reason.
        """
        if interrupts.requested():
            raise KeyboardInterrupt
        chosen = dg.AssetSelection.from_string(selection) if isinstance(selection, str) else selection
        job = dg.define_asset_job(name, selection=without_freshness(chosen, self.settings))
        result = (
            self._definitions(job)
            .resolve_job_def(name)
            .execute_in_process(
                instance=self.instance,
                raise_on_error=False,
                run_config={
                    "loggers": {"progress": {}},
                    "ops": {asset: {"config": dict(values)} for asset, values in (config or {}).items()},
                },
                tags={**(sessions.tags if sessions else {}), PROFILE_TAG: self.settings.profile, **SHOWN_AS},
            )
        )
        if self.monitor.interrupted or interrupts.requested():
            raise KeyboardInterrupt
        if not result.success:
            reasons = "\n".join(self.monitor.failures) or "see the run's log in the UI"
            raise CandlecastError(f"{reasons}\n(run {result.run_id})")

    def _definitions(self, job: Job) -> dg.Definitions:
        """The code location with this job alone: its own jobs may have the same name."""
        own = self.defs
        return dg.Definitions(
            assets=own.assets,
            asset_checks=own.asset_checks,
            resources=own.resources,
            loggers=own.loggers,
            executor=own.executor,
            jobs=[job],
        )
