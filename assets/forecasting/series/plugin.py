"""A forecaster of bars (assets.forecasting.plugin) as a model of any positive series: its values are the closes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from assets.forecasting.forecaster import forecast_seed
from assets.forecasting.plugin import Forecaster, ForecastInput
from assets.forecasting.plugin_models import BATCH_SIZE, SEEDS, isolated_rows, level_rule, read_plugin
from assets.forecasting.plugin_output import Row
from assets.forecasting.series.about import ModelAbout
from assets.forecasting.series.series import Series, SeriesError
from assets.market.history import CLOSE, FIELDS, PRICES
from resources.checkpoints import CheckpointStore
from resources.layout import Home
from resources.quantile_levels import OPTION
from resources.settings import ModelSettings, Settings

NAMED = 5


@dataclass(frozen=True)
class ForecasterModel:
    """A forecaster of the settings' [models.NAME], or of an entry point. Each target is forecast on its own.

    Attributes:
        fallbacks: the series whose forecasts were of a simpler model, by reason.
        remarks: what else a reader of its forecasts must know.
    """

    about: ModelAbout
    forecaster: Forecaster
    seed: int
    levels: tuple[float, float]
    covariates: bool = False
    steps: int | None = None
    fallbacks: dict[str, dict[str, None]] = field(default_factory=dict)
    remarks: dict[str, None] = field(default_factory=dict)

    @property
    def context(self) -> int | None:
        return self.forecaster.lookback

    @property
    def fallback_notes(self) -> list[str]:
        """The forecasts so far that were of a simpler model, one text per reason, and other remarks."""
        name = self.about.model
        return [
            *self.remarks,
            *(
                f"{name}: a forecast of {len(found):,} series ({', '.join([*found][:NAMED])}"
                f"{' …' if len(found) > NAMED else ''}): {reason}"
                for reason, found in self.fallbacks.items()
            ),
        ]

    def quantiles(self, series: Sequence[Series], levels: np.ndarray) -> list[np.ndarray | SeriesError]:
        read = [self._inputs(one) for one in series]
        inputs = [one for own in read if not isinstance(own, SeriesError) for one in own]
        rows = iter(self._rows(inputs, levels.tolist()))
        found: list[np.ndarray | SeriesError] = []
        for own in read:
            if isinstance(own, SeriesError):
                found.append(own)
                continue
            made = [self._closes(one, next(rows)) for one in own]
            failure = next((one for one in made if isinstance(one, SeriesError)), None)
            found.append(failure or np.stack([one for one in made if not isinstance(one, SeriesError)]))
        return found

    def _rows(self, inputs: Sequence[ForecastInput], levels: Sequence[float]) -> list[Row | str]:
        """The rows of some inputs, forecast together unless that changes the first of them."""
        rows = [
            row
            for start in range(0, len(inputs), BATCH_SIZE)
            for row in isolated_rows(self.forecaster, inputs[start : start + BATCH_SIZE], levels)
        ]
        if len(inputs) < 2 or _same(rows[0], isolated_rows(self.forecaster, inputs[:1], levels)[0]):
            return rows
        self.remarks[
            f"{self.about.model}: its forecast of {inputs[0].symbol} alone is another than beside other series: each "
            "is forecast alone, and another run may give other numbers"
        ] = None
        return [row for one in inputs for row in isolated_rows(self.forecaster, [one], levels)]

    def _inputs(self, series: Series) -> list[ForecastInput] | SeriesError:
        """The input of each target."""
        try:
            return [self._input(series, place) for place in range(len(series.names))]
        except SeriesError as error:
            return error

    def _input(self, series: Series, place: int) -> ForecastInput:
        known = np.isfinite(series.targets[place])
        values, name = series.targets[place][known], series.names[place]
        if not (values > 0).all():
            first = int(np.argmin(values > 0))
            raise SeriesError(
                f"column {name} is {values[first]} at {series.stamps[known][first]}, and {self.about.model} forecasts "
                "prices, which are positive: use --model chronos2"
            )
        stamps = _utc(series.stamps[known].append(series.ahead))
        count = len(values)
        bars = np.full((count, len(FIELDS)), np.nan)
        bars[:, PRICES] = values[:, None]
        start = max(0, count - self.forecaster.lookback) if self.forecaster.lookback else 0
        seed = forecast_seed(self.seed, f"{series.id}/{name}", stamps[count - 1]) % SEEDS
        return ForecastInput(str(series.id), stamps[start:count], bars[start:], stamps[count:], seed)

    def _closes(self, one: ForecastInput, row: Row | str) -> np.ndarray | SeriesError:
        if isinstance(row, str):
            return SeriesError(f"{self.about.model}: {row}")
        if row.fallback:
            self.fallbacks.setdefault(row.fallback, {})[one.symbol] = None
        return np.asarray(row.quantiles[:, row.fields.index(FIELDS[CLOSE])])


def _same(one: Row | str, other: Row | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return one.fields == other.fields and np.array_equal(one.quantiles, other.quantiles, equal_nan=True)


def forecaster_model(name: str, settings: Settings, levels: Sequence[float], horizon: int) -> ForecasterModel:
    """The model of [models.NAME], or of an entry point of that name.

    Args:
        levels: the quantile levels that are to be forecast, instead of those of the settings.
        horizon: the most steps that are to be forecast, instead of those of the settings.

    Raises:
        CandlecastError: it cannot be made, or does not give these levels or steps.
    """
    settings = settings.model_copy(
        update={
            "models": {name: ModelSettings(), **settings.models},
            "forecasts": settings.forecasts.model_copy(update={"levels": tuple(levels)}),
            "windows": settings.windows.model_copy(update={"predict_window": horizon}),
        }
    )
    plugin = read_plugin(settings, name, CheckpointStore(Home(settings.home)), OPTION)
    rule = level_rule(name, plugin.forecaster)
    note = f"{name} forecasts closes of bars: it reads the values as closes, one column at a time, and leaves gaps out"
    return ForecasterModel(
        ModelAbout(name, plugin.factory, licence=plugin.licence, notes=(note,)),
        plugin.forecaster,
        settings.seed,
        (rule.lowest, rule.highest),
    )


def _utc(stamps: pd.Index) -> np.ndarray:
    """Timestamps in UTC, datetime64[s]; whole numbers are counted in days."""
    if not isinstance(stamps, pd.DatetimeIndex):
        return np.asarray(stamps.to_numpy(dtype=np.int64).astype("datetime64[D]").astype("datetime64[s]"))
    naive = stamps if stamps.tz is None else stamps.tz_convert("UTC").tz_localize(None)
    return np.asarray(naive.to_numpy().astype("datetime64[s]"))
