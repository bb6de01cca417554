"""What starts and partitions cost: `python -m benchmarks.orchestration [--home FOLDER] [--partitions N]`.

Each line is one function of `LINES`. Times are processor time (user and system) of a process and its children, so that
other programs on the machine change them little. Beside starts: `import dagster` alone; beside a partition: Dagster's
own storage of events, with the same asset, which returns at once.

Args of the command line:
    --home: a home after `candlecast run` of the sample; it is copied. Default: one is made, in five minutes.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import dagster as dg

from orchestration.cli.instance import open_instance
from resources.settings import Settings

REPEATS = 3
STARTS = (("settings",), ("query", "SELECT 1"), ("lineage", "bars"), ("doctor",))
FIRST = date(2000, 1, 1)


@dataclass(frozen=True)
class Line:
    """One line of the table: seconds (or milliseconds, where the name says so) of ours and of what stands beside it."""

    work: str
    ours: float
    beside: float | None = None

    def __str__(self) -> str:
        ratio = "" if self.beside is None else f"{self.beside:>10.2f}  {self.ours / self.beside:>6.2f}"
        return f"{self.work:<44}{self.ours:>10.2f}{ratio}"


@dataclass(frozen=True)
class Bench:
    """What the lines measure on: a finished home, and the partitions of a backfill."""

    home: Path
    partitions: int


def processor_time(*command: str, home: Path | None = None) -> float:
    """Seconds of processor time of a Python process: the least of a few for what takes less than three seconds."""
    environment = {**os.environ, **({"CANDLECAST_HOME": str(home)} if home else {})}
    times: list[float] = []
    while not times or (len(times) < REPEATS and times[0] < 3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], check=True, env=environment, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def _candlecast(home: Path, *arguments: str) -> float:
    return processor_time("-m", "orchestration", *arguments, home=home)


def starts(bench: Bench) -> Iterator[Line]:
    """Commands that read, in a finished home."""
    dagster = processor_time("-c", "import dagster")
    for command in STARTS:
        yield Line(f"candlecast {' '.join(command)}, s", _candlecast(bench.home, *command), dagster)


def partition(bench: Bench) -> Iterator[Line]:
    """A partition of an asset that returns at once, in a run over many."""
    seconds = {}
    for storage in ("ours", "dagster"):
        empty, full = (
            processor_time("-m", "benchmarks.orchestration", "--backfill", storage, "--partitions", str(number))
            for number in (1, bench.partitions)
        )
        seconds[storage] = (full - empty) / (bench.partitions - 1)
    yield Line(f"a partition of {bench.partitions:,}, ms", seconds["ours"] * 1e3, seconds["dagster"] * 1e3)


LINES: tuple[Callable[[Bench], Iterator[Line]], ...] = (starts, partition)


def backfill(storage: str, partitions: int) -> None:
    """Materialise an asset that returns at once for a number of days, in one run of a new instance."""
    last = FIRST + timedelta(days=partitions)
    days = dg.DailyPartitionsDefinition(start_date=str(FIRST), end_date=str(last))

    @dg.asset(partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
    def bare(context: dg.AssetExecutionContext) -> None:
        assert len(context.partition_keys) == partitions

    with tempfile.TemporaryDirectory() as folder:
        if storage == "dagster":
            instance = dg.DagsterInstance.local_temp(folder)
        else:
            instance = open_instance(Settings(home=Path(folder)))
        keys = {
            "dagster/asset_partition_range_start": str(FIRST),
            "dagster/asset_partition_range_end": str(last - timedelta(days=1)),
        }
        with instance:
            assert dg.materialize([bare], instance=instance, tags=keys).success
            assert len(instance.get_materialized_partitions(bare.key)) == partitions


def main() -> None:
    """The entry point: the table on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--partitions", type=int, default=2_000)
    parser.add_argument("--backfill", choices=("ours", "dagster"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.backfill:
        backfill(given.backfill, given.partitions)
        return
    with tempfile.TemporaryDirectory(prefix="candlecast-bench-") as folder:
        home = Path(folder) / "home"
        if given.home:
            shutil.copytree(given.home, home)
        else:
            _candlecast(home, "run")
        print(f"{'work (processor time)':<44}{'ours':>10}{'beside':>10}  {'ratio':>6}", flush=True)
        for measure in LINES:
            for line in measure(Bench(home, given.partitions)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
