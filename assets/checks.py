"""Results of asset checks, and those whose latest evaluation failed, from this run or an earlier one.

https://docs.dagster.io/guides/test/asset-checks. Not here: the checks themselves (`checks` of each stage).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from assets.acceptance import CheckOutcome
from assets.metadata import table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class FailedCheck:
    """The latest evaluation of a check, where it failed."""

    asset: str
    check: str
    description: str

    @property
    def text(self) -> str:
        return f"{self.asset}, {self.check}: {self.description}"


def warning(outcome: CheckOutcome) -> dg.AssetCheckResult:
    """The result of a check that blocks nothing."""
    return dg.AssetCheckResult(
        passed=outcome.passed, severity=dg.AssetCheckSeverity.WARN, description=outcome.description
    )


def no_rows(wrong: "pd.DataFrame", fine: str, problem: str) -> dg.AssetCheckResult:
    """The result of a check that finds wrong rows: passed without any, else with the rows as a table.

    Args:
        problem: what is wrong with them, and what to do; after their number.
    """
    if wrong.empty:
        return dg.AssetCheckResult(passed=True, description=fine)
    return dg.AssetCheckResult(passed=False, description=f"{len(wrong)} {problem}", metadata={"wrong": table(wrong)})


def failed_checks(instance: dg.DagsterInstance, keys: Iterable[dg.AssetCheckKey]) -> list[FailedCheck]:
    """Those of the checks whose latest evaluation failed, by asset and name."""
    return [
        FailedCheck(key.asset_key.to_user_string(), key.name, evaluation.description or "")
        for key, evaluation in latest_evaluations(instance, keys)
        if not evaluation.passed
    ]


def latest_evaluations(
    instance: dg.DagsterInstance, keys: Iterable[dg.AssetCheckKey]
) -> Iterator[tuple[dg.AssetCheckKey, dg.AssetCheckEvaluation]]:
    """The latest evaluation of each of the checks that has one, by asset and name."""
    # One query: Dagster's own method for one check takes a millisecond, and there are seventy.
    wanted = sorted(keys)
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(wanted)
    for key in wanted:
        record = latest.get(key)
        evaluation = record.event.asset_check_evaluation if record and record.event else None
        if evaluation is not None:
            yield key, evaluation
