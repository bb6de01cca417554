"""The worked examples: which series, how far ahead, with which covariates; their forecasts and scores.

The last two days of each series are withheld, forecast with `series_forecast`, and scored beside naive forecasts and,
if the example has covariates, beside the same model without them. Not here: the generating processes (processes), and
what must be true of the forecasts (acceptance).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from assets.examples.processes import TIMESTAMP, ElectricityLoad, Sine
from assets.forecasting.intervals import MEDIAN, central_intervals
from assets.forecasting.metrics import covered, crps
from assets.forecasting.series_forecast import SeriesWarning, predict
from resources.errors import CandlecastError
from resources.layout import Home
from resources.publish import publish_bytes
from resources.settings import Settings

ExampleName: TypeAlias = Literal["sine", "electricity"]
HORIZON = 48
LEVELS = tuple(round(0.05 * number, 2) for number in range(1, 20))
WITH, WITHOUT = "with covariates", "without covariates"
NAIVE = ("seasonal_naive", "naive")
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
    """The forecast of an example's withheld end.

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
    example = EXAMPLES[name]
    frame = example.frame()
    model = settings.examples.model
    covariates = example.covariates if model not in NAIVE else ()
    own = _predicted(example, frame, model, settings, covariates)
    forecasts = {WITH if covariates else WITHOUT: own}
    if covariates:
        forecasts[WITHOUT] = _predicted(example, frame, model, settings)
    forecasts |= {one: _predicted(example, frame, one, settings) for one in NAIVE}
    actual = frame[example.target].to_numpy()[-HORIZON:]
    scores = pd.DataFrame([{"forecast": one, **_scores(made, actual)} for one, made in forecasts.items()])
    quantiles = own.drop(columns=["id", "target", "step"]).assign(actual=actual)
    return ExampleForecast(example, frame, quantiles, scores, str(own.attrs["model"]), list(own.attrs["notes"]))


def _predicted(
    example: Example, frame: pd.DataFrame, model: str, settings: Settings, covariates: tuple[str, ...] = ()
) -> pd.DataFrame:
    """The forecast of the withheld hours: of the target the model gets those before them alone."""
    columns = [TIMESTAMP, *covariates]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SeriesWarning)  # they are in the notes
        return predict(
            frame[[*columns, example.target]].iloc[:-HORIZON],
            example.target,
            horizon=HORIZON,
            future=frame[columns].iloc[-HORIZON:] if covariates else None,
            levels=LEVELS,
            model=model,
            settings=settings,
        )


def _scores(forecast: pd.DataFrame, actual: np.ndarray) -> dict[str, float]:
    quantiles = forecast[[str(level) for level in LEVELS]].to_numpy(dtype=np.float64)
    error = actual - quantiles[:, LEVELS.index(MEDIAN)]
    widest = central_intervals(LEVELS)[0]
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "mape": float(np.abs(error / actual).mean() * 100),
        "crps": float(crps(quantiles, np.asarray(LEVELS), actual).mean()),
        widest.metric: float(covered(quantiles[:, 0], quantiles[:, -1], actual).mean()),
    }


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
