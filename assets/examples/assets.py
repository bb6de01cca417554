"""The assets of the group `examples`: forecasts of two simulated series, with pictures and scores.

https://docs.dagster.io/guides/build/assets. Belongs here: metadata. Not here: the series (processes), their forecasts
(forecasts), pictures (plots) and checks (checks). No job contains them: they are materialised by a click, or by
`candlecast backfill --assets group:examples`. Modules that compute are imported inside the functions.
"""

from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.examples.checks import build_checks
from assets.metadata import OWNERS, inline_bullets, picture, table
from assets.picture_files import PictureFiles, digest_of_picture
from resources.candlecast import Candlecast
from resources.publish import digest_of

if TYPE_CHECKING:
    from assets.examples.forecasts import ExampleForecast, ExampleName

GROUP = "examples"


def build_assets() -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """sine_example and electricity_example, with their checks."""
    return [_sine_example(), _electricity_example(), *build_checks()]


def _sine_example() -> dg.AssetsDefinition:
    @dg.asset(group_name=GROUP, kinds={"pytorch"}, owners=OWNERS, code_version="1", pool="gpu")
    def sine_example(candlecast: dg.ResourceParam[Candlecast]) -> dg.MaterializeResult[None]:
        """Univariate: the last two days of a sine with trend and noise, forecast by the model of `examples.model`."""
        return _materialise("sine", candlecast)

    return sine_example


def _electricity_example() -> dg.AssetsDefinition:
    @dg.asset(group_name=GROUP, kinds={"pytorch"}, owners=OWNERS, code_version="1", pool="gpu")
    def electricity_example(candlecast: dg.ResourceParam[Candlecast]) -> dg.MaterializeResult[None]:
        """Covariates known in advance: two days of a simulated electricity load, with temperature and humidity."""
        return _materialise("electricity", candlecast)

    return electricity_example


def _materialise(name: "ExampleName", candlecast: Candlecast) -> dg.MaterializeResult[None]:
    from assets.examples.forecasts import forecast_example, write_forecast

    forecast = forecast_example(name, candlecast.settings)
    write_forecast(name, forecast, candlecast.home)
    rows = forecast.quantiles.astype(str).to_numpy().tolist()
    return dg.MaterializeResult(data_version=dg.DataVersion(digest_of(rows)), metadata=_metadata(forecast, candlecast))


def _metadata(forecast: "ExampleForecast", candlecast: Candlecast) -> dict[str, Any]:
    from assets.examples.acceptance import correlations
    from assets.examples.plots import example_chart

    found = correlations(forecast.frame) if forecast.example.covariates else {}
    chart = example_chart(forecast)
    figures = ", ".join(f"{name.upper()} {value:.4g}" for name, value in forecast.own_scores.items())
    return {
        "forecast": picture(chart, candlecast.home),
        "result": f"{figures}; picture: {PictureFiles(candlecast.home.pictures).png(digest_of_picture(chart))}",
        "scores": table(forecast.scores),
        "model": forecast.model,
        **inline_bullets("notes", forecast.notes),
        **forecast.own_scores,
        **{f"correlation/{name}": value for name, value in found.items()},
        "dagster/row_count": len(forecast.quantiles),
    }
