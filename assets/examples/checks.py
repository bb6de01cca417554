"""The asset checks of the examples.

https://docs.dagster.io/guides/test/asset-checks. Not here: how a problem is found (acceptance).
"""

from typing import TYPE_CHECKING

import dagster as dg

from resources.candlecast import Candlecast

if TYPE_CHECKING:
    from assets.examples.forecasts import ExampleName


def build_checks() -> list[dg.AssetChecksDefinition]:
    """The checks of sine_example and electricity_example."""
    return [_forecast_is_valid("sine"), _forecast_is_valid("electricity"), _correlations_are_as_stated()]


def _forecast_is_valid(name: "ExampleName") -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=f"{name}_example")
    def forecast_is_valid(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """The forecast covers the held-out hours, and its quantiles are finite and increase with the level."""
        from assets.examples.acceptance import forecast_problems
        from assets.examples.forecasts import read_forecast

        problems = forecast_problems(read_forecast(name, candlecast.home))
        return dg.AssetCheckResult(passed=not problems, description="; ".join(problems) or "finite and ordered")

    return forecast_is_valid


def _correlations_are_as_stated() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="electricity_example")
    def correlations_are_as_stated() -> dg.AssetCheckResult:
        """Temperature and humidity correlate with the load as the example states."""
        from assets.examples.acceptance import correlation_problems, correlations
        from assets.examples.forecasts import EXAMPLES

        found = correlations(EXAMPLES["electricity"].frame())
        problems = correlation_problems(found)
        as_text = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
        return dg.AssetCheckResult(passed=not problems, description="; ".join(problems) or as_text)

    return correlations_are_as_stated
