"""The asset checks of the risk measures.

https://docs.dagster.io/guides/test/asset-checks. Not here: how a problem is found (acceptance).

Modules that compute are imported inside the functions: loading the definitions imports none of them.
"""

import dagster as dg

from assets.checks import no_rows, warning
from resources.candlecast import Candlecast


def build_checks() -> list[dg.AssetChecksDefinition]:
    """The checks of forecast_risk and risk_backtest."""
    return [_risk_is_possible(), _exceptions_are_as_expected()]


def _risk_is_possible() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="forecast_risk", blocking=True)
    def risk_is_possible(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Values are unique and finite, expected shortfall is at least the value at risk, and both rise as the level
        falls."""
        from assets.evaluation.risk.acceptance import impossible_risk

        wrong = impossible_risk(candlecast.warehouse)
        problem = "rows are impossible: delete them from forecast_risk and materialise it again"
        return no_rows(wrong, "every measure is possible", problem)

    return risk_is_possible


def _exceptions_are_as_expected() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="risk_backtest")
    def exceptions_are_as_expected(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Kupiec's test does not reject the value at risk of the best model of the scoreboard."""
        from assets.evaluation.risk.acceptance import check_exceptions

        return warning(check_exceptions(candlecast.warehouse))

    return exceptions_are_as_expected
