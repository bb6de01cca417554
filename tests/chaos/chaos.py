"""`make chaos`: `candlecast run` killed with SIGKILL at random moments, and the home compared with an undisturbed one.

In every home the command is killed a few times, the process group with all its children, and then runs to its end.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.chaos.home_state import differences, home_state
from tests.orchestration.cli_project import SMALL, CliProject

# Two symbols and five origins: what a chain costs here is mostly the start of its child processes.
CHAIN = (
    SMALL.replace('symbols = ["AAPL", "IBM", "MSFT"]', 'symbols = ["AAPL", "IBM"]')
    .replace("every = 20", "every = 50")
    .replace("steps = 10\n", "steps = 4\n")
    .replace("steps_per_epoch = 20", "steps_per_epoch = 6")
)
KILLS_PER_HOME = 3
# The first line of output: everything before it is imports.
STARTED = "bars:"


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        seconds: after the first line of output.
        after: the last line before it: the newest asset that had ended.
        different: what differs from the undisturbed home after the rerun; None: not compared yet.
    """

    home: int
    seconds: float
    after: str
    different: tuple[str, ...] | None = None

    def line(self) -> str:
        """One row of the table."""
        equal = "equal" if not self.different else f"DIFFERENT: {', '.join(self.different[:6])}"
        return f"| {self.home:>4} | {self.seconds:7.1f} | {self.after:<48} | {equal} |"


TABLE = f"| home | seconds | killed after {' ' * 35} | home after the rerun |\n|---|---|---|---|"


class Chaos:
    """An undisturbed home under `folder`, and homes that are killed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        undisturbed = _project(folder / "undisturbed")
        self.seconds = _run(undisturbed, None)[0]
        self.expected = home_state(undisturbed.home)

    def kills(self, count: int, per_home: int = KILLS_PER_HOME) -> Iterator[Kill]:
        """`count` kills, each uniform over half the time of an undisturbed run: the later ones meet a resumed run."""
        number, done = 0, 0
        while done < count:
            number += 1
            project = _project(self.folder / f"home{number}")
            kills: list[Kill] = []
            for _ in range(min(per_home, count - done)):
                moment = self.random.uniform(0, self.seconds / 2)
                seconds, output = _run(project, moment)
                # A resumed run may end before its moment.
                kills.append(Kill(number, seconds, _last_step(output)))
            _run(project, None)
            different = tuple(differences(self.expected, home_state(project.home)))
            done += len(kills)
            yield from (replace(kill, different=different) for kill in kills)
            if not different:
                shutil.rmtree(project.folder)


def _project(folder: Path) -> CliProject:
    folder.mkdir(parents=True)
    return CliProject(folder, CHAIN)


def _run(project: CliProject, moment: float | None) -> tuple[float, str]:
    """Run the chain, and kill it `moment` seconds after its first line; None: to its end.

    Returns:
        Seconds from the first line to the end, and the output.

    Raises:
        RuntimeError: the command failed by itself.
    """
    log = project.folder / "output.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            project.command("run"),
            env=project.environment(),
            cwd=project.folder,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = time.monotonic()
    while STARTED not in log.read_text() and process.poll() is None:
        started = time.monotonic()
        time.sleep(0.02)
    try:
        status = process.wait(moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
    output = log.read_text()
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"`candlecast run` in {project.folder} ended with {status}: {output[-2000:]}")
    return time.monotonic() - started, output


def _last_step(output: str) -> str:
    ended = [line.split() for line in output.splitlines() if line.startswith(("✓ ", "! "))]
    return ended[-1][1] if ended else "start"


def main() -> int:
    """Print the table; 1 if a home differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--per-home", type=int, default=KILLS_PER_HOME)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="kept, with the homes that differ; default: a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        chaos = Chaos(given.folder or Path(temporary), given.seed)
        sys.stdout.write(f"an undisturbed run takes {chaos.seconds:.0f} s\n{TABLE}\n")
        bad = 0
        for kill in chaos.kills(given.kills, given.per_home):
            bad += bool(kill.different)
            sys.stdout.write(f"{kill.line()}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{given.kills} kills, {bad} of them in homes that differ\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
