"""The worked examples: which series, how far ahead, with which covariates; their forecasts and scores.

The last two days of each series are held out, forecast and scored with `series_forecast`, beside naive forecasts and,
if the example has covariates, beside the same model without them. Not here: the generating processes (processes), and
what must be true of the forecasts (acceptance).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import pandas as pd

from assets.examples.processes import TIMESTAMP, ElectricityLoad, Sine
from assets.forecasting.intervals import central_intervals
from assets.forecasting.series.models import NAIVE, SEASONAL_NAIVE
from assets.forecasting.series_forecast import SeriesForecast, SeriesRequest, forecast_series
from resources.errors import CandlecastError
from resources.layout import Home
from resources.publish import publish_bytes
from resources.settings import Settings

ExampleName: TypeAlias = Literal["sine", "electricity"]
HORIZON = 48
LEVELS = tuple(round(0.05 * number, 2) for number in range(1, 20))
WITH, WITHOUT = "with covariates", "without covariates"
METRICS = ("mae", "rmse", "mape", "crps")


@dataclass(frozen=True)
class Example:
    """A series to forecast, and the covariates that are known in advance."""

    frame: Callable[[], pd.DataFrame]
    target: str
    unit: str = ""
    covariates: tuple[str, ...] = ()


EXAMPLES: dict[ExampleName, Example] = {
    "sine": Example(Sine().frame, "value"),
    "electricity": Example(ElectricityLoad().frame, "load", "kW", ("temperature", "humidity")),
}


@dataclass(frozen=True)
class ExampleForecast:
    """The forecast of an example's held-out end.

    Attributes:
        frame: the whole series with its covariates.
        quantiles: timestamp, actual and one column per level, named by it.
        scores: mae, rmse and crps in the unit of the target, mape in %, and the coverage of the widest interval; one
            row per forecast: the model's, with and without covariates if the example has any, and naive ones.
        model: name, weights, digest and revision.
        notes: what a reader of the forecast must know.
    """

    example: Example
    frame: pd.DataFrame
    quantiles: pd.DataFrame
    scores: pd.DataFrame
    model: str
    notes: list[str]

    @property
    def own_scores(self) -> dict[str, float]:
        """The metrics of the model, with covariates if the example has any."""
        return {name: float(self.scores.iloc[0][name]) for name in METRICS}


def forecast_example(name: ExampleName, settings: Settings) -> ExampleForecast:
    """The forecast of an example by the model of `examples.model`.

    Raises:
        CandlecastError: the model is not there.
    """
    example, model = EXAMPLES[name], settings.examples.model
    frame = example.frame()
    covariates = example.covariates if model not in (NAIVE, SEASONAL_NAIVE) else ()
    forecasts = {WITH: _forecast(example, frame, settings, covariates)} if covariates else {}
    forecasts[WITHOUT] = _forecast(example, frame, settings)
    own = next(iter(forecasts.values()))
    rows = {label: _scores(one).loc[one.about.model] for label, one in forecasts.items()}
    rows |= {str(reference): row for reference, row in _scores(own).iterrows() if reference != own.about.model}
    scores = pd.DataFrame(rows).T.rename_axis("forecast").reset_index()
    quantiles = own.quantiles.drop(columns=["id", "target", "step"])
    return ExampleForecast(example, frame, quantiles, scores, own.about.text, own.notes)


def _forecast(
    example: Example, frame: pd.DataFrame, settings: Settings, covariates: tuple[str, ...] = ()
) -> SeriesForecast:
    """The forecast of the held-out hours, with its scores."""
    request = SeriesRequest(
        target=[example.target],
        known=covariates,
        timestamp=TIMESTAMP,
        levels=LEVELS,
        model=settings.examples.model,
        holdout=HORIZON,
    )
    forecast = forecast_series(frame, request, settings=settings)
    for one, reason in forecast.rejected.items():
        raise CandlecastError(f"{one}: {reason}")
    return forecast


def _scores(forecast: SeriesForecast) -> pd.DataFrame:
    """The metrics of a forecast and of the naive ones beside it, by model, with the coverage of the widest interval."""
    assert forecast.scores is not None
    return forecast.scores.set_index("model")[[*METRICS, central_intervals(LEVELS)[0].metric]]


def write_forecast(name: ExampleName, forecast: ExampleForecast, home: Home) -> None:
    """Store the quantiles of a forecast, replacing an earlier one."""
    buffer = io.BytesIO()
    forecast.quantiles.to_parquet(buffer, index=False)
    publish_bytes(_file(name, home), buffer.getvalue())


def read_forecast(name: ExampleName, home: Home) -> pd.DataFrame:
    """The quantiles that `write_forecast` stored.

    Raises:
        CandlecastError: there are none.
    """
    if not _file(name, home).is_file():
        raise CandlecastError(f"there is no {_file(name, home)}: materialise {name}_example")
    return pd.read_parquet(_file(name, home))


def _file(name: ExampleName, home: Home) -> Path:
    return home.examples / f"{name}.parquet"
