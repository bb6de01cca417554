"""Dagster's records of assets: newest materialisations, results of checks, runs of other processes.

Not here: the contents of the home (contents), and what follows (plan).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, TypeAlias

import dagster as dg

from assets.checks import failed_checks, latest_evaluations
from assets.market.checks import GATES, build_checks
from assets.picture_files import PictureFiles
from assets.training.model_selection.promotion import PROMOTED
from orchestration.cli.stale_runs import PROFILE_TAG
from orchestration.freshness import CHECK_NAME
from resources.layout import Home

# Every run evaluates them, so their results say nothing about what has changed.
ALWAYS = {*GATES, *((kind, "is_not_expired") for kind in PROMOTED)}
_PICTURE = re.compile(r"pictures/([0-9a-f]+)\.png")
_STARTED = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
# The type that Definitions.resolve_asset_graph returns has no public name.
AssetGraph: TypeAlias = Any


class Records:
    """The records of an instance on the assets of a graph."""

    def __init__(self, instance: dg.DagsterInstance, graph: AssetGraph) -> None:
        self.instance, self.graph = instance, graph

    def of(self, asset: str) -> object:
        """An asset's newest materialisation, the number of its partitions, and the results of its checks."""
        key, newest = dg.AssetKey(asset), self._newest(asset)
        partitions = self.instance.get_materialized_partitions(key) if self.graph.get(key).is_partitioned else ()
        checks = [(check.name, one.passed, str(one.severity)) for check, one in self._evaluations(asset)]
        return [newest and newest.run_id, newest and newest.timestamp, len(partitions), checks]

    def made_at(self, asset: str) -> float | None:
        """When an asset was materialised last, in seconds since 1970; None: never."""
        event = self._newest(asset)
        return event.timestamp if event else None

    def market_warnings(self) -> list[str]:
        """The market's checks whose latest evaluation failed, as text."""
        keys = [key for check in build_checks() for key in check.check_keys]
        return [one.text for one in failed_checks(self.instance, keys)]

    def has_failed_checks(self, asset: str) -> bool:
        """Whether a check of an asset failed that is more than a warning."""
        error = dg.AssetCheckSeverity.ERROR
        return any(not one.passed and one.severity == error for _, one in self._evaluations(asset))

    def lacks_pictures(self, asset: str, home: Home) -> bool:
        """Whether the home has a picture of the asset's page no more, nor the data to draw it."""
        event = self._newest(asset)
        values = event.asset_materialization.metadata.values() if event and event.asset_materialization else ()
        texts = [value.value for value in values if isinstance(value, dg.MarkdownMetadataValue)]
        digests = {found for text in texts for found in _PICTURE.findall(text or "")}
        return any(map(PictureFiles(home.pictures).lacks, digests))

    def others_since(self, began: datetime) -> bool:
        """Whether a run of the UI or the daemon was active since a moment."""
        runs = [*self.instance.get_runs(dg.RunsFilter(updated_after=began)), *self.instance.get_runs(_STARTED)]
        return any(PROFILE_TAG not in run.tags for run in runs)

    def _newest(self, asset: str) -> dg.EventLogEntry | None:
        """An asset's newest materialisation."""
        return self.instance.get_latest_materialization_event(dg.AssetKey(asset))

    def _evaluations(self, asset: str) -> Iterator[tuple[dg.AssetCheckKey, dg.AssetCheckEvaluation]]:
        """The latest evaluation of each check of an asset, but of those that every run evaluates."""
        keys = self.graph.get(dg.AssetKey(asset)).check_keys
        wanted = [key for key in keys if key.name != CHECK_NAME and (asset, key.name) not in ALWAYS]
        return latest_evaluations(self.instance, wanted)
