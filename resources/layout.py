"""The paths of all data under the home folder. Nothing here reads or writes a file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """The home folder. Its sub-folders are created when something is first written."""

    root: Path

    @property
    def lake(self) -> Path:
        """Payloads as received: `<source>/<sha256>.parquet` and a `.json` of provenance beside each."""
        return self.root / "lake"

    @property
    def warehouse(self) -> Path:
        return self.root / "warehouse.duckdb"

    @property
    def owner(self) -> Path:
        """The profile that the home belongs to, and the source of its bars."""
        return self.root / "profile.json"

    @property
    def up_to_date(self) -> Path:
        """What `candlecast run` found when its assets were made: what is the same is not made again."""
        return self.root / "up_to_date.json"

    @property
    def hub_pins(self) -> Path:
        """The commits of the Hugging Face Hub that the home uses, with the digests of their files."""
        return self.root / "hub.json"

    @property
    def calendars(self) -> Path:
        """Sessions and hours as exchange_calendars computed them: `<calendar>.json`."""
        return self.root / "calendars"

    @property
    def windows(self) -> Path:
        """Memory-mapped training arrays: `<digest>/`; `current.json` names the ones in use."""
        return self.root / "windows"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints: `<kind>/<digest>/`; `<kind>/current.json`, or that of a vintage, names the one in use."""
        return self.root / "checkpoints"

    def pointers(self, kind: str, vintage: date | None = None) -> Path:
        """Where the checkpoints in use of a kind, or of one of its vintages, are named, and the decisions on them."""
        folder = self.checkpoints / kind
        return folder if vintage is None else folder / "vintages" / vintage.isoformat()

    def current_windows(self, vintage: date | None = None) -> Path:
        """The file that names the training arrays in use, of all or of one vintage."""
        return self.windows / ("current.json" if vintage is None else f"vintage-{vintage.isoformat()}.json")

    @property
    def drift(self) -> Path:
        """Token distances of forecast inputs: `<predictor>/<digest of the input>.json`."""
        return self.root / "drift"

    @property
    def estimates(self) -> Path:
        """Estimated parameters of the baselines: `<first>_<last day of training>-<digest>.json`."""
        return self.root / "estimates"

    @property
    def learnt(self) -> Path:
        """What derived models had learnt until a few origins ago, `<model>-<checkpoint>.state`; `<asset>.coverage`."""
        return self.root / "learnt"

    @property
    def paths(self) -> Path:
        """Sample paths: `<model>/<checkpoint>/<origin>.parquet`."""
        return self.root / "paths"

    @property
    def embeddings(self) -> Path:
        """Hidden states as features: `<model>/<checkpoint>/<origin>.parquet`."""
        return self.root / "embeddings"

    @property
    def qlib(self) -> Path:
        """Qlib providers: `<digest>/`; `current.json` names the newest."""
        return self.root / "qlib"

    @property
    def backtests(self) -> Path:
        """Results of Qlib's backtests, `<recipe>/`, with the accounts after them; `current.json` names the newest."""
        return self.root / "backtests"

    @property
    def examples(self) -> Path:
        """Forecasts of the worked examples: `<example>.parquet`."""
        return self.root / "examples"

    @property
    def pictures(self) -> Path:
        """Pictures of the assets' pages: `<digest>.png`, and data of charts that are drawn later: `<digest>.json`."""
        return self.root / "pictures"

    @property
    def reports(self) -> Path:
        """Reports: `<digest>/report.html` with images and JSON; `latest.json` names the newest."""
        return self.root / "reports"

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME: runs, events, schedules."""
        return self.root / "dagster"

    @property
    def scratch(self) -> Path:
        """Files being written. On the same disk as their destination, so that publishing is a rename."""
        return self.root / "scratch"
