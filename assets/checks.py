"""Asset checks whose latest evaluation failed, as warnings or errors, from this run or an earlier one.

https://docs.dagster.io/guides/test/asset-checks. Not here: the checks themselves (`checks` of each stage).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg


@dataclass(frozen=True)
class FailedCheck:
    """The latest evaluation of a check, where it failed."""

    asset: str
    check: str
    description: str

    @property
    def text(self) -> str:
        return f"{self.asset}, {self.check}: {self.description}"


def failed_checks(instance: dg.DagsterInstance, keys: Iterable[dg.AssetCheckKey]) -> list[FailedCheck]:
    """Those of the checks whose latest evaluation failed, by asset and name."""
    failed = []
    for key in sorted(keys):
        record = instance.get_latest_asset_check_evaluation_record(key)
        evaluation = record.event.asset_check_evaluation if record and record.event else None
        if evaluation is not None and not evaluation.passed:
            failed.append(FailedCheck(key.asset_key.to_user_string(), key.name, evaluation.description or ""))
    return failed
