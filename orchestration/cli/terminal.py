"""Progress on the terminal: one line per asset, with a bar for the running one. Everything here goes to stderr.

Not here: what is measured (orchestration.cli.run_progress), or results, which go to stdout.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from orchestration.cli.run_progress import AssetRun, RunMonitor, as_line
from resources.progress import ProgressUpdate, observed

PLAIN_SECONDS = 10.0


class Terminal:
    """Shows a run on stderr: a live bar on a terminal, plain lines in a file or pipe."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(file=sys.stderr, highlight=False)
        self.quiet = quiet
        self.live = self.console.is_terminal and not quiet
        self.monitor = RunMonitor(on_change=self._show_asset)
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
        self._last_line = 0.0

    @contextmanager
    def showing(self) -> Iterator["Terminal"]:
        """Show progress inside the block."""
        with self.monitor, observed(self._show_report), self._bar:
            yield self

    def print(self, text: str) -> None:
        """Print one line, unless quiet."""
        if not self.quiet:
            self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, name: str) -> Iterator[None]:
        """A bar for work that is not an asset, inside the block."""
        self._task = self._bar.add_task(name, total=None, note="")
        try:
            yield
        finally:
            self._bar.remove_task(self._task)
            self._task = None

    def _show_asset(self, run: AssetRun) -> None:
        if run.seconds is None:
            self._task = self._bar.add_task(run.asset, total=None, note="")
            return
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        mark = "✗" if run.failed else "!" if run.warned else "✓"
        self.print(f"{mark} {run.asset:<22} {run.seconds:7.1f} s  {run.peak_mib:7,.0f} MiB")

    def _show_report(self, report: ProgressUpdate) -> None:
        if self.live and self._task is not None:
            note = report.note[:48]
            self._bar.update(self._task, completed=report.done, total=report.total or None, note=note)
        elif not self.live and time.monotonic() - self._last_line > PLAIN_SECONDS:
            self._last_line = time.monotonic()
            self.print(f"  {as_line(report)}")
