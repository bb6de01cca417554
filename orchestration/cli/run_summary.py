"""What a person needs to know at the end of a command: rows lost per file, checks that warn, champions, what was not
made.

Not here: progress while the command runs (orchestration.cli.run_progress, orchestration.cli.terminal).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import dagster as dg

from assets.checks import FailedCheck, failed_checks
from assets.market.ingest.lake import Lake
from assets.market.outcomes import COUNTS, FileOutcome, file_outcomes
from assets.market.selection import bars_of_other_sources
from orchestration.cli.run_progress import RunMonitor
from resources.candlecast import Candlecast

SHOWN_FILES = 20


@dataclass(frozen=True)
class RunSummary:
    """The state of the home after a command, and what the command's runs report.

    Attributes:
        files: outcome per file, those with the most lost rows first.
        warnings: every check whose latest evaluation failed, from this run or an earlier one.
        promotions: per model, whether the champion was kept or replaced, and by how much.
        not_made: per asset, what was left out of this run, and why.
        unused: number of stored bars by source, where it is not that of the settings.
        origins: how many origins of each model are out of sample; empty: nothing was compared.
        results: per asset, its own figures as text.
    """

    files: list[FileOutcome]
    warnings: list[FailedCheck]
    promotions: dict[str, str]
    not_made: dict[str, str]
    unused: dict[str, int]
    origins: str = ""
    results: dict[str, str] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """The summary as text."""
        if self.files:
            totals = ", ".join(f"{sum(getattr(one, name) for one in self.files):,} {name}" for name in COUNTS)
            yield f"data: {len(self.files):,} files, rows: {totals}"
        yield from (f"  {one.text}" for one in self.files[:SHOWN_FILES])
        if len(self.files) > SHOWN_FILES:
            yield f'  … {len(self.files) - SHOWN_FILES:,} more: candlecast query "FROM payloads"'
        for source, bars in self.unused.items():
            yield f"not used: {bars:,} bars of source {source}, which is not market.source"
        yield from (f"champion: {kind}: {text}" for kind, text in self.promotions.items())
        if self.origins:
            yield f"origins: {self.origins}"
        yield from (f"{asset}: {text}" for asset, text in self.results.items())
        assets: dict[str, list[str]] = {}
        for asset, text in self.not_made.items():
            assets.setdefault(text, []).append(asset)
        yield from (f"not made: {', '.join(names)}: {text}" for text, names in assets.items())
        yield from (f"! {one.text}" for one in self.warnings)

    def as_json(self) -> dict[str, object]:
        """The summary as JSON values."""
        return {
            "files": [{**vars(one), "ignored": list(one.ignored)} for one in self.files],
            "warnings": [vars(one) for one in self.warnings],
            "promotions": self.promotions,
            "not_made": self.not_made,
            "unused_bars": self.unused,
            "origins": self.origins,
            "results": self.results,
        }


def summarise(
    candlecast: Candlecast, defs: dg.Definitions, instance: dg.DagsterInstance, monitor: RunMonitor
) -> RunSummary:
    """The summary of a command whose runs `monitor` followed."""
    warehouse = candlecast.warehouse
    files = (
        file_outcomes(warehouse, Lake(candlecast.home), candlecast.settings.market.frequency)
        if warehouse.exists
        else []
    )
    checks = failed_checks(instance, defs.resolve_asset_graph().asset_check_keys)
    unused = bars_of_other_sources(candlecast.settings, warehouse) if warehouse.exists else {}
    origins = monitor.texts("origins_by_model").get("scoreboard", "")
    return RunSummary(
        files, checks, monitor.texts("promotion"), monitor.texts("not_made"), unused, origins, monitor.texts("result")
    )
