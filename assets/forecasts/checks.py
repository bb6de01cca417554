"""The asset checks of the forecasts stage: names, severities and descriptions.

https://docs.dagster.io/guides/test/asset-checks. Their results come with the materialisation of the asset, because they
cover the origins of that run. Not here: the conditions (acceptance).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import dagster as dg

from assets.acceptance import CheckOutcome


@dataclass(frozen=True)
class ForecastCheck:
    """One check of every asset of forecasts."""

    name: str
    description: str
    blocking: bool = True


CHECKS = (
    ForecastCheck("complete", "Every forecast has each of its quantiles once."),
    ForecastCheck("finite_and_ordered", "Quantiles are finite and do not decrease with their level."),
    ForecastCheck(
        "physically_possible",
        "Prices are positive, low ≤ open, close ≤ high, volume is not negative, in quantiles and sample paths.",
    ),
    ForecastCheck(
        "no_lookahead", "Changing every bar after the origin does not change a forecast. Of forecasts made in this run."
    ),
    # Inputs of several origins may share a batch: what depends on its batch may know bars after its origin.
    ForecastCheck(
        "independent_of_batch",
        "Forecasts do not depend on their batch. Checked on forecasts of this run.",
    ),
    ForecastCheck(
        "every_series_is_forecast",
        "The model could forecast every symbol and origin of this run; the others are stored.",
        blocking=False,
    ),
    # Bands of a wrong width are a bad model, not bad data.
    ForecastCheck("bands_widen", "On average the widest band does not shrink with the step.", blocking=False),
    ForecastCheck(
        "coverage_is_nominal", "The two widest central intervals cover about their share of actuals.", blocking=False
    ),
)
# Of the assets whose forecasts are derived from those of others. It blocks where `forecasts.coverage` says so.
COVERAGE = ForecastCheck(
    "coverage_within_bounds",
    "The intervals cover a share of closes within forecasts.coverage_bounds, over all origins and in each year.",
    blocking=False,
)
EARLIER_ORIGINS = ForecastCheck(
    "earlier_origins",
    "Derived forecasts were made of the earlier origins of the settings, and of all that are stored now.",
    blocking=False,
)
DERIVED_CHECKS = (COVERAGE, EARLIER_ORIGINS)
_BY_NAME = {check.name: check for check in (*CHECKS, *DERIVED_CHECKS)}


def check_specs(asset: str, derived: bool) -> Sequence[dg.AssetCheckSpec]:
    """The specifications of an asset's checks.

    Args:
        derived: whether the forecasts are derived from those of others.
    """
    checks = (*CHECKS, *(DERIVED_CHECKS if derived else ()))
    # A failed check of severity WARN blocks nothing.
    return [
        dg.AssetCheckSpec(one.name, asset=asset, blocking=one.blocking or one is COVERAGE, description=one.description)
        for one in checks
    ]


def check_result(
    name: str, outcome: CheckOutcome, metadata: Mapping[str, dg.MetadataValue] = MappingProxyType({})
) -> dg.AssetCheckResult:
    """The result of one of the checks."""
    severe = _BY_NAME[name].blocking or outcome.severe
    severity = dg.AssetCheckSeverity.ERROR if severe else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(
        check_name=name,
        passed=outcome.passed,
        severity=severity,
        description=outcome.description,
        metadata=dict(metadata),
    )
