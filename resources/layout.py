"""Where things live under the home folder. One noun: a path. Nothing here reads or writes a file's content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """The home folder's rooms. They are made when something is first written."""

    root: Path

    @property
    def lake(self) -> Path:
        """Payloads as received: `<source>/<sha256>.parquet` and a `.json` of provenance beside each."""
        return self.root / "lake"

    @property
    def warehouse(self) -> Path:
        return self.root / "warehouse.duckdb"

    @property
    def calendars(self) -> Path:
        """Session dates as exchange_calendars computed them: `<calendar>.json`."""
        return self.root / "calendars"

    @property
    def windows(self) -> Path:
        """Memory-mapped training arrays, one folder a content hash."""
        return self.root / "windows"

    @property
    def checkpoints(self) -> Path:
        """`<kind>/<digest>/`."""
        return self.root / "checkpoints"

    @property
    def drift(self) -> Path:
        """Token distances of forecast inputs: `<predictor>/<digest of the input>.json`."""
        return self.root / "drift"

    @property
    def paths(self) -> Path:
        """Sample paths: `<model>/<checkpoint>/<origin>.parquet`."""
        return self.root / "paths"

    @property
    def qlib(self) -> Path:
        """Qlib providers, one folder a content digest."""
        return self.root / "qlib"

    @property
    def backtests(self) -> Path:
        """Days as Qlib played them, `<recipe>/days.parquet`."""
        return self.root / "backtests"

    @property
    def reports(self) -> Path:
        """`<digest>/report.html` with its pictures and JSON; `latest.json` names the newest published."""
        return self.root / "reports"

    @property
    def dagster(self) -> Path:
        """Dagster's own home: runs, events, schedules."""
        return self.root / "dagster"

    @property
    def scratch(self) -> Path:
        """What is half-written, on the same disk, so that publishing is a rename."""
        return self.root / "scratch"
