"""Scores of forecasts on the held-out end of series, beside naive and seasonal naive forecasts.

Metrics are over the held-out values that are known: mean absolute error, root mean squared error and mean absolute
percentage error of the median, CRPS, and the coverage of the central intervals.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from assets.forecasting.intervals import central_intervals
from assets.forecasting.metrics import covered, crps
from assets.forecasting.series.models import NAIVE, SEASONAL_NAIVE, SeriesModel, finite_quantiles, naive_model
from assets.forecasting.series.series import Series, SeriesError, forecast_rows, without_end
from resources.progress import Progress

# CRPS is an integral over the levels: three would be too few.
DENSE = np.round(np.arange(0.05, 0.96, 0.05), 2)
# The row of the scores that is over all series.
ALL = "all series"


@dataclass
class Holdout:
    """Forecasts of the held-out ends of series, and their scores.

    Attributes:
        scores: see `score_frame`.
        quantiles: as of `forecast_rows`, with the column actual.
        histories: the series up to their held-out ends.
    """

    scores: pd.DataFrame
    quantiles: pd.DataFrame
    rejected: dict[Hashable, str] = field(default_factory=dict)
    histories: list[Series] = field(default_factory=list)


@dataclass(frozen=True)
class ScoredForecast:
    """One model's forecast of one series: quantiles (targets, steps, levels), actuals (targets, steps)."""

    model: str
    series: Series
    quantiles: np.ndarray
    actuals: np.ndarray


def evaluate(
    histories: Sequence[Series], model: SeriesModel, steps: int, levels: np.ndarray, season: int, progress: Progress
) -> Holdout:
    """Forecast the last `steps` timestamps of each series by a model, and by the naive forecasts beside it."""
    every = np.unique(np.round(np.r_[levels, DENSE], 6))
    every = every[(every >= model.levels[0]) & (every <= model.levels[1])]
    references = [naive_model(NAIVE, 1), naive_model(SEASONAL_NAIVE, season)]
    scored: list[ScoredForecast] = []
    wanted: list[np.ndarray] = []
    known: list[np.ndarray] = []
    found = Holdout(pd.DataFrame(), pd.DataFrame())
    cuts: list[tuple[Series, np.ndarray]] = []
    for series in histories:
        try:
            cuts.append(without_end(series, steps))
        except SeriesError as error:
            found.rejected[series.id] = str(error)
    made = finite_quantiles(model, [cut for cut, _ in cuts], every, progress)
    for (cut, actuals), quantiles in zip(cuts, made, strict=True):
        if isinstance(quantiles, SeriesError):
            found.rejected[cut.id] = str(quantiles)
            continue
        found.histories.append(cut)
        wanted.append(quantiles[..., np.searchsorted(every, np.round(levels, 6))])
        known.append(actuals.ravel())
        scored.append(ScoredForecast(model.about.model, cut, quantiles, actuals))
        for one in references:
            (naive,) = one.quantiles([cut], every)
            if one.about.model != model.about.model and not isinstance(naive, SeriesError):
                scored.append(ScoredForecast(one.about.model, cut, naive, actuals))
    if known:
        found.quantiles = forecast_rows(found.histories, wanted, levels).assign(actual=np.concatenate(known))
        found.scores = score_frame(scored, every, levels.tolist())
    return found


def score_frame(forecasts: Sequence[ScoredForecast], levels: np.ndarray, wanted: Sequence[float]) -> pd.DataFrame:
    """One row of metrics per series, target and model, and per model over all series.

    Args:
        levels: of the quantiles.
        wanted: the levels whose central intervals are scored.

    Returns:
        The columns id, target, model, mae, rmse, mape, crps, one coverage per interval, n. A metric that is not defined
        is NaN: mape where an actual is 0, all where a model has no forecast.
    """
    rows = [
        (one.model, one.series.id, name, one.quantiles[place], one.actuals[place])
        for one in forecasts
        for place, name in enumerate(one.series.names)
    ]
    scores = [
        {"id": one, "target": target, "model": model, **_metrics(quantiles, actuals, levels, wanted)}
        for model, one, target, quantiles, actuals in rows
    ]
    models = dict.fromkeys(row[0] for row in rows)
    for model in models if len(rows) > len(models) else ():
        quantiles = np.concatenate([row[3] for row in rows if row[0] == model])
        actuals = np.concatenate([row[4] for row in rows if row[0] == model])
        scores.append({"id": ALL, "target": ALL, "model": model, **_metrics(quantiles, actuals, levels, wanted)})
    return pd.DataFrame(scores)


def _metrics(
    quantiles: np.ndarray, actuals: np.ndarray, levels: np.ndarray, wanted: Sequence[float]
) -> dict[str, float]:
    """The metrics of one series: quantiles (steps, levels), actuals (steps,)."""
    known = np.isfinite(actuals)
    quantiles, actual = quantiles[known], actuals[known]
    error = actual - quantiles[:, int(np.argmin(np.abs(levels - 0.5)))]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share, squared = np.abs(error / actual), error**2
    coverages = {
        one.metric: covered(quantiles[:, _place(levels, one.low)], quantiles[:, _place(levels, one.high)], actual)
        for one in central_intervals(wanted)
    }
    per_value = {"mae": np.abs(error), "rmse": squared, "mape": 100 * share, "crps": crps(quantiles, levels, actual)}
    means = {name: _mean(values, defined=np.isfinite(error)) for name, values in {**per_value, **coverages}.items()}
    means["rmse"] = float(np.sqrt(means["rmse"]))
    return {**means, "n": int(known.sum())}


def _mean(values: np.ndarray, defined: np.ndarray) -> float:
    """The mean; NaN where a value or the forecast is not defined."""
    return float(values.mean()) if len(values) and defined.all() and np.isfinite(values).all() else float("nan")


def _place(levels: np.ndarray, level: float) -> int:
    return int(np.argmin(np.abs(levels - level)))
