"""Forecasts of any series: `predict` takes a DataFrame and returns one.

    >>> from assets.forecasting.series_forecast import predict
    >>> predict(frame, "load", past=["price"], future=weather, horizon=24, model="amazon/chronos-2")

Missing values stay missing for the model. A series that cannot be forecast is left out with a reason, and the others
are forecast. Not here: how frames are read (series.frames), the models (series.models), scores (series.holdout).
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from assets.forecasting.series.about import ModelAbout
from assets.forecasting.series.columns import find_layout
from assets.forecasting.series.frames import SeriesSet, read_series
from assets.forecasting.series.holdout import evaluate
from assets.forecasting.series.models import (
    CHRONOS2,
    PACKAGED,
    SeriesModel,
    at_revision,
    chronos2_weights,
    finite_quantiles,
    load_series_model,
)
from assets.forecasting.series.series import Series, SeriesError, forecast_rows
from assets.forecasting.series.stamps import frequency_text, season_of
from assets.forecasting.series.tables import Reading, Resample
from resources.errors import CandlecastError
from resources.licences import UNKNOWN, refusal
from resources.progress import Progress, silent
from resources.quantile_levels import OPTION, LevelRule, require_levels
from resources.settings import Settings

LEVELS = (0.1, 0.5, 0.9)


class SeriesWarning(UserWarning):
    """Something of a series, its file or its model that a reader of the forecasts must know."""


@dataclass(frozen=True)
class SeriesRequest:
    """The target, covariates and horizon of a forecast; the arguments of `predict`."""

    target: Sequence[str] = ()
    horizon: int = 0
    past: Sequence[str] = ()
    known: Sequence[str] = ()
    id: str | None = None
    timestamp: str | None = None
    wide: bool | None = None
    categorical: Sequence[str] = ()
    frequency: str | None = None
    timezone: str | None = None
    date_format: str | None = None
    resample: Resample | None = None
    levels: Sequence[float] = LEVELS
    model: str = PACKAGED
    revision: str | None = None
    season: int | None = None
    holdout: int = 0


@dataclass(frozen=True)
class SeriesForecast:
    """Forecasts of the series of a frame.

    Attributes:
        quantiles: the columns id, target, step, timestamp and one per level, named by it; of a holdout also actual.
        season: in steps, of the seasonal naive forecast.
        rejected: the reason for each series that is not forecast.
        not_scored: the reason for each series whose end is not forecast and scored, of a request with a horizon too.
        notes: what a reader must know: how the frame was read, limits of the model.
        histories: the series that were forecast.
        scores: of a holdout, by series, target and model (series.holdout); None: there is none.
    """

    quantiles: pd.DataFrame
    rejected: dict[Hashable, str]
    notes: list[str]
    about: ModelAbout
    frequency: str
    season: int
    histories: list[Series] = field(default_factory=list)
    not_scored: dict[Hashable, str] = field(default_factory=dict)
    scores: pd.DataFrame | None = None


def predict(
    frame: pd.DataFrame,
    target: str | Sequence[str] = (),
    *,
    horizon: int,
    past: Sequence[str] = (),
    future: pd.DataFrame | None = None,
    known: Sequence[str] = (),
    id: str | None = None,
    timestamp: str | None = None,
    wide: bool | None = None,
    categorical: Sequence[str] = (),
    frequency: str | None = None,
    timezone: str | None = None,
    date_format: str | None = None,
    resample: Resample | None = None,
    levels: Sequence[float] = LEVELS,
    model: str = PACKAGED,
    revision: str | None = None,
    season: int | None = None,
    settings: Settings | None = None,
) -> pd.DataFrame:
    """Quantile forecasts of the series of a frame.

    Args:
        frame: long (a row per series and timestamp) or wide (a column per series).
        target: the columns to forecast. Several of a long frame are forecast together, as one multivariate series.
            Default: a column of a usual name, or each column of a wide frame.
        horizon: steps to forecast.
        past: covariates of which only the past is known.
        future: values of covariates that are known in advance, by timestamp and id; its columns must be in `frame`.
        known: the columns that are known in advance. Default: those of `future`. Without `future` their values are in
            the rows of `frame` after the last value of the target.
        id: column of the series' ids; default: a column of a usual name, else there is one series.
        timestamp: column of timestamps or whole numbers; default: a column of a usual name.
        wide: each target is a series of its own.
        categorical: covariates that are categories though they are numbers; text is one anyway.
        frequency: such as "h", "15min", "D", "B", "ME"; default: inferred. Rows that are missing are gaps.
        timezone: the zone of naive timestamps; aware ones are converted to it.
        date_format: of text that is not ISO 8601, as of strptime; or "excel", "epoch" (since 1970) or "number".
        resample: how the rows of one interval of `frequency` become one. Default: irregular timestamps are refused.
        levels: quantile levels.
        model: "packaged" (compact weights of the package), "chronos2" (the checkpoint in use of the settings' home),
            "naive", "seasonal_naive", a folder of Chronos-2 weights, a forecaster of [models.NAME] or of an entry
            point, or a hub id with `@revision` if wanted.
        revision: of a hub id: a commit, a tag or a branch. With settings the home must have pinned it (`candlecast
            fetch`); without, it is read from the hub, or with HF_HUB_OFFLINE from its cache. Default: the main branch.
        season: in steps, of "seasonal_naive"; default: that of the frequency.
        settings: candlecast's settings: home, device, threads.

    Returns:
        The columns id, target, step, timestamp, and one per level, named by it ("0.1", "0.5", "0.9"); rows by series
        in the order of the frame, target and step. `.attrs` has "model", "revision" (the commit of a hub's weights),
        "digest" (of a folder's), "frequency", "rejected" and "notes".

    Raises:
        CandlecastError: the frame, a column, a level or the model is not usable, or no series is.
    """
    request = SeriesRequest(
        target=[target] if isinstance(target, str) else target, horizon=horizon, past=past, known=known, id=id,
        timestamp=timestamp, wide=wide, categorical=categorical, frequency=frequency, timezone=timezone,
        date_format=date_format, resample=resample, levels=levels, model=model, revision=revision, season=season,
    )  # fmt: skip
    forecast = forecast_series(frame, request, future, settings)
    if forecast.quantiles.empty:
        one, reason = next(iter(forecast.rejected.items()))
        raise CandlecastError(f"no series can be forecast ({len(forecast.rejected)}): {one}: {reason}")
    for text in [f"{one} is not forecast: {reason}" for one, reason in forecast.rejected.items()] + forecast.notes:
        warnings.warn(text, SeriesWarning, stacklevel=2)
    forecast.quantiles.attrs.update(
        model=forecast.about.text,
        revision=forecast.about.revision,
        digest=forecast.about.digest,
        frequency=forecast.frequency,
        rejected=dict(forecast.rejected),
        notes=list(forecast.notes),
    )
    return forecast.quantiles


def forecast_series(
    frame: pd.DataFrame,
    request: SeriesRequest,
    future: pd.DataFrame | None = None,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> SeriesForecast:
    """The forecasts of a frame's series, with the series that are rejected and notes; see `predict`.

    With `request.holdout` the last values are held out, forecast and scored; with a `horizon` as well, the steps after
    the last value are forecast too, and they are the `quantiles`.

    Raises:
        CandlecastError: nothing can be forecast at all.
    """
    if request.horizon < 1 and request.holdout < 1:
        raise CandlecastError(f"--horizon {request.horizon}: at least 1 step, or --holdout N for scores")
    levels = np.array(require_levels(request.levels, OPTION))
    frame, future = _index_as_columns(frame), None if future is None else _index_as_columns(future)
    reading = _reading(frame, request, future)
    found = read_series(frame, reading, request.horizon, future)
    longest = max(request.horizon, request.holdout)
    season = request.season or season_of(found.frequency)
    name = at_revision(request.model, request.revision, settings)
    model = load_series_model(name, settings, season, levels.tolist(), longest)
    _require_licence(model.about, request.model, settings)
    _require_possible(model, request.levels, found.histories)
    notes = [*dict.fromkeys(found.notes), *model.about.notes, *_limits(model, found.histories, longest)]
    forecast = SeriesForecast(
        pd.DataFrame(), dict(found.rejected), notes, model.about, frequency_text(found.frequency), season
    )
    if request.holdout:
        scored = evaluate(found.histories, model, request.holdout, levels, season, progress)
        (forecast.not_scored if request.horizon else forecast.rejected).update(scored.rejected)
        forecast = replace(forecast, quantiles=scored.quantiles, histories=scored.histories, scores=scored.scores)
    if request.horizon:
        forecast = _forecast(forecast, found, model, levels, progress)
    forecast.notes.extend(getattr(model, "fallback_notes", ()))
    return forecast


def _forecast(
    forecast: SeriesForecast, found: SeriesSet, model: SeriesModel, levels: np.ndarray, progress: Progress
) -> SeriesForecast:
    """The forecasts after the last values."""
    kept: list[tuple[Series, np.ndarray]] = []
    for series, made in zip(found.series, finite_quantiles(model, found.series, levels, progress), strict=True):
        if isinstance(made, SeriesError):
            forecast.rejected[series.id] = str(made)
            continue
        kept.append((series, made))
    quantiles = forecast_rows([one for one, _ in kept], [made for _, made in kept], levels)
    return replace(forecast, quantiles=quantiles, histories=[one for one, _ in kept])


def _index_as_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with an index of timestamps, or one that has names, as columns, all of which have text as name."""
    frame = frame.rename(columns=str)
    if isinstance(frame.index, pd.DatetimeIndex) and frame.index.name is None:
        return frame.rename_axis("timestamp").reset_index()
    return frame.reset_index() if any(name is not None for name in frame.index.names) else frame


def _reading(frame: pd.DataFrame, request: SeriesRequest, future: pd.DataFrame | None) -> Reading:
    layout = find_layout(
        frame.columns,
        target=request.target,
        past=request.past,
        known=request.known,
        future=None if future is None else future.columns,
        id=request.id,
        timestamp=request.timestamp,
        wide=request.wide,
        categorical=request.categorical,
    )
    return Reading(
        layout,
        frequency=request.frequency,
        timezone=request.timezone,
        date_format=request.date_format,
        resample=request.resample,
    )


def _require_licence(about: ModelAbout, name: str, settings: Settings | None) -> None:
    if settings is None:
        return
    if about.model != CHRONOS2:
        key = f"models.{about.model}.licence"
    else:
        own = name in chronos2_weights(settings)
        key = "chronos2.licence" if own else "licence in the card.json of the weights"
    if reason := refusal(about.licence or UNKNOWN, settings.compute.licences, key):
        raise CandlecastError(reason)


def _require_possible(model: SeriesModel, levels: Sequence[float], series: Sequence[Series]) -> None:
    require_levels(levels, OPTION, LevelRule(*model.levels, giver=model.about.model))
    if not model.covariates and any(one.past for one in series):
        raise CandlecastError(
            f"--model {model.about.model} reads no covariates: leave out --past, --known and --future"
        )


def _limits(model: SeriesModel, series: Sequence[Series], horizon: int) -> list[str]:
    """What a model does with series that are longer than it reads, or with horizons beyond its pass."""
    notes = []
    longer = [one for one in series if model.context is not None and len(one.stamps) > model.context]
    if longer:
        notes.append(f"{model.about.model} reads the last {model.context:,} timestamps of a series")
    if model.steps is not None and horizon > model.steps:
        notes.append(
            f"{model.about.model} forecasts {model.steps:,} steps in one pass, and its further steps continue nine of "
            "its own quantiles: intervals beyond the first pass are too narrow"
        )
    return notes
