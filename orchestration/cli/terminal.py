"""How the terminal shows work: one line an asset, with a bar for the one at work. Everything here goes to stderr.

Not here: what is measured (orchestration.cli.run_progress), or results, which go to stdout.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from orchestration.cli.run_progress import Made, Watch, as_line
from resources.progress import Report, observed

PLAIN_SECONDS = 10.0


class Terminal:
    """Draws a watch on stderr: live where a person looks, plain lines where a file does."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(file=sys.stderr, highlight=False)
        self.quiet = quiet
        self.live = self.console.is_terminal and not quiet
        self.watch = Watch(tell=self._tell)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.live,
        )
        self._task: TaskID | None = None
        self._spoke = 0.0

    @contextmanager
    def showing(self) -> Iterator["Terminal"]:
        """Shows progress for the length of the block."""
        with self.watch, observed(self._report), self._bar:
            yield self

    def say(self, text: str) -> None:
        """One line for the person."""
        if not self.quiet:
            self.console.print(text, markup=False, soft_wrap=True)

    def _tell(self, made: Made) -> None:
        if made.seconds is None:
            self._task = self._bar.add_task(made.asset, total=None, note="")
            return
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        mark = "✗" if made.failed else "✓"
        self.say(f"{mark} {made.asset:<22} {made.seconds:7.1f} s  {made.peak_mib:7,.0f} MiB")

    def _report(self, report: Report) -> None:
        if self.live and self._task is not None:
            note = report.note[:48]
            self._bar.update(self._task, completed=report.done, total=report.total or None, note=note)
        elif not self.live and time.monotonic() - self._spoke > PLAIN_SECONDS:
            self._spoke = time.monotonic()
            self.say(f"  {as_line(report)}")
