"""What a child process costs, and what children do for a comparison: bare Dagster, and the daily job without a daemon.

python -m benchmarks.orchestration.processes bare ours|dagster ASSETS PARTITIONS
python -m benchmarks.orchestration.processes daily SESSION
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

REPEATS = 3
FIRST = date(2000, 1, 1)


@dataclass(frozen=True)
class Cost:
    """Seconds of a process with its children.

    Attributes:
        processor: user and system time, which other programs on the machine change little.
        wall: from start to end.
    """

    processor: float
    wall: float


def cost_of(*command: str, environment: Mapping[str, str] | None = None, repeats: int = 1) -> Cost:
    """The cost of a Python process, the least of some repeats.

    Raises:
        CalledProcessError: it failed.
    """
    costs = []
    for _ in range(repeats):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        run_quietly(*command, environment=environment)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(Cost(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall))
    return min(costs, key=lambda cost: cost.processor)


def run_quietly(*command: str, environment: Mapping[str, str] | None = None) -> None:
    """Run a Python process; what it printed is shown if it fails.

    Raises:
        CalledProcessError: it failed.
    """
    environment = dict(environment or os.environ)
    whole = [sys.executable, *command]
    done = subprocess.run(whole, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout.decode(errors="replace"))
        done.check_returncode()


def cost_of_bare(storage: str, assets: int, partitions: int) -> Cost:
    """The cost of a run of assets that return at once, with our event log or with Dagster's own."""
    return cost_of("-m", __name__, "bare", storage, str(assets), str(partitions))


def cost_of_daily(session: date, environment: Mapping[str, str]) -> Cost:
    """The cost of the daily job of a session, as the schedule starts it."""
    return cost_of("-m", __name__, "daily", str(session), environment=environment)


def materialise_bare(storage: str, assets: int, partitions: int) -> None:
    """Materialise assets, one after another, for a number of days, in one run of a new instance."""
    import dagster as dg

    from orchestration.cli.instance import open_instance
    from resources.settings import Settings

    last = FIRST + timedelta(days=partitions)
    days = dg.DailyPartitionsDefinition(start_date=str(FIRST), end_date=str(last))
    made: list[dg.AssetsDefinition] = []
    for number in range(assets):

        @dg.asset(
            name=f"bare_{number}",
            partitions_def=days,
            deps=made[-1:],
            backfill_policy=dg.BackfillPolicy.single_run(),
        )
        def bare(context: dg.AssetExecutionContext) -> None:
            assert len(context.partition_keys) == partitions

        made.append(bare)
    with tempfile.TemporaryDirectory() as folder:
        own = storage == "ours"
        instance = open_instance(Settings(home=Path(folder))) if own else dg.DagsterInstance.local_temp(folder)
        keys = {
            "dagster/asset_partition_range_start": str(FIRST),
            "dagster/asset_partition_range_end": str(last - timedelta(days=1)),
        }
        with instance:
            # As in our runs, whose events no console shows.
            console = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
            assert dg.materialize(made, instance=instance, tags=keys, run_config=console).success
            assert all(len(instance.get_materialized_partitions(one.key)) == partitions for one in made)


def run_daily(session: date) -> None:
    """Run the daily job's assets for a session in the home of the environment."""
    from orchestration.cli.headless import HeadlessRunner
    from orchestration.cli.session_ranges import SessionRange
    from orchestration.cli.terminal import Terminal
    from orchestration.jobs import SELECTIONS
    from resources.profiles import load_settings

    terminal = Terminal(quiet=True)
    runner = HeadlessRunner(load_settings(), terminal.monitor)
    with runner.locked():
        runner.run(SELECTIONS["daily"], SessionRange(session, session), "daily")


if __name__ == "__main__":
    if sys.argv[1] == "bare":
        materialise_bare(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        run_daily(date.fromisoformat(sys.argv[2]))
