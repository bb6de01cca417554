"""Summaries of the stored forecasts of one forecaster: calibration, coverage, rate of corrections, content digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from assets.forecasting.forecaster import ForecastModel
from assets.forecasting.intervals import scored_intervals
from assets.forecasting.origins import forward_steps
from resources.calendar import TradingCalendar
from resources.derived_models import is_recalibrated, raw_model
from resources.sql import load_sql
from resources.warehouse import Warehouse

if TYPE_CHECKING:
    from assets.forecasts.generate import ForecastResult

YEAR = np.timedelta64(365, "D")
_IN_RANGE = "model = $model AND checkpoint = $checkpoint AND origin BETWEEN $first AND $last"
_CONTENT = f"""
SELECT count(*) AS rows,
       bit_xor(md5_number(concat_ws('|', symbol, origin, step, target_ts, field, level, value)))::VARCHAR AS digest
FROM forecast_quantiles WHERE {_IN_RANGE}
"""
_CONTENT_BY_ORIGIN = _CONTENT.replace("SELECT", "SELECT origin,", 1) + "GROUP BY origin"
_MADE_AT = f"SELECT origin, max(made_at) AS made_at FROM forecasts WHERE {_IN_RANGE} GROUP BY origin"
_CORRECTED = f"SELECT avg(corrected) AS rate FROM forecasts WHERE {_IN_RANGE}"


@dataclass(frozen=True)
class ForecastRange:
    """The stored forecasts of one forecaster between the first and the last of some origins."""

    forecaster: ForecastModel
    origins: Sequence[np.datetime64]

    @property
    def parameters(self) -> dict[str, object]:
        return {
            "model": self.forecaster.model,
            "checkpoint": self.forecaster.checkpoint,
            "first": min(self.origins).item(),
            "last": max(self.origins).item(),
        }


def judged(forecasts: ForecastRange) -> ForecastRange:
    """The range that says whether forecasts of a run are calibrated: of a few sessions, with the year before them."""
    if len(forecasts.origins) < 2:
        return forecasts
    return replace(forecasts, origins=[max(forecasts.origins) - YEAR, *forecasts.origins])


def forward_origins(warehouse: Warehouse, forecasts: ForecastRange, calendar: TradingCalendar) -> int:
    """The number of origins that were forecast before the session of their first target began."""
    times = warehouse.frame(_MADE_AT, forecasts.parameters)
    return int(forward_steps(times["origin"].to_numpy(), times["made_at"].to_numpy(), 1, calendar).sum())


def range_query(script: str) -> str:
    """One of this package's scripts over the forecasts of a range; run it with `ForecastRange.parameters`."""
    return load_sql("assets.forecasts", script).format(range=_IN_RANGE)


def calibration(warehouse: Warehouse, forecasts: ForecastRange, frequency: str) -> pd.DataFrame:
    """How often actual closes lie at or below, and below, each quantile: columns level, share, below, n."""
    return calibrations(warehouse, [forecasts], frequency)[0]


def calibrations(warehouse: Warehouse, forecasts: Sequence[ForecastRange], frequency: str) -> list[pd.DataFrame]:
    """The `calibration` of each of some ranges; those of the same origins are read together."""
    sql, found = load_sql("assets.forecasts", "calibration.sql"), dict[tuple[object, ...], pd.DataFrame]()
    keys = [tuple(one.parameters.values()) for one in forecasts]
    for first, last in dict.fromkeys(key[2:] for key in keys):
        models, checkpoints = zip(*(key[:2] for key in keys if key[2:] == (first, last)), strict=True)
        named = {"models": list(models), "checkpoints": list(checkpoints), "first": first, "last": last}
        every = warehouse.frame(sql, {**named, "frequency": frequency})
        for key in zip(models, checkpoints, strict=True):
            own = every[(every["model"] == key[0]) & (every["checkpoint"] == key[1])]
            found[*key, first, last] = own.drop(columns=["model", "checkpoint"]).reset_index(drop=True)
    return [found[key] for key in keys]


def before_and_after(
    warehouse: Warehouse, results: Sequence[ForecastResult], calibrated: Mapping[str, pd.DataFrame], frequency: str
) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """The `calibration` of the models that are recalibrated, and of their recalibrated forecasts, by model.

    Args:
        calibrated: by name of the forecaster, the result of `calibration`.
    """
    bases, afters = list[ForecastRange](), list[pd.DataFrame]()
    for one in results:
        forecaster = one.forecaster
        if is_recalibrated(forecaster.model) and len(after := calibrated[forecaster.name]):
            base = raw_model(forecaster.model)
            raw = replace(forecaster, model=base, checkpoint=forecaster.recipe["derived_from"][base])
            bases.append(judged(ForecastRange(raw, one.range.origins)))
            afters.append(after)
    befores = calibrations(warehouse, bases, frequency)
    models = [base.forecaster.model for base in bases]
    return dict(zip(models, zip(befores, afters, strict=True), strict=True))


def coverage(calibrated: pd.DataFrame) -> dict[float, float]:
    """The share of closes inside the two widest central intervals, ends included, by nominal coverage.

    Empty without actuals.
    """
    share, below = (dict(zip(calibrated["level"], calibrated[name], strict=True)) for name in ("share", "below"))
    return {one.nominal: share[one.high] - below[one.low] for one in reversed(scored_intervals(list(share)))}


def content(warehouse: Warehouse, forecasts: ForecastRange) -> tuple[int, str]:
    """The number of quantiles and their digest."""
    found = warehouse.frame(_CONTENT, forecasts.parameters)
    return int(found["rows"][0]), str(found["digest"][0])


def content_by_origin(warehouse: Warehouse, forecasts: ForecastRange) -> dict[datetime, tuple[int, str]]:
    """The number of quantiles from each origin of a range, and their digest."""
    with warehouse.read() as connection:
        found = connection.execute(_CONTENT_BY_ORIGIN, forecasts.parameters).fetchall()
    return {origin: (int(rows), str(digest)) for origin, rows, digest in found}


def corrected_rate(warehouse: Warehouse, forecasts: ForecastRange) -> float:
    """The mean share of raw model output that was corrected: bars projected, crossing quantiles sorted."""
    return float(warehouse.frame(_CORRECTED, forecasts.parameters)["rate"][0])


def about_models(results: Sequence[ForecastResult]) -> pd.DataFrame:
    """What the models state of themselves: columns model, family, licence, cutoff, warning."""
    rows = []
    for model in (one.forecaster for one in results):
        until = "none" if model.trained_until is None else str(model.trained_until)
        cutoff = "not known" if model.trained_until == date.max else until
        about = {"model": model.name, "family": model.family, "licence": model.licence, "cutoff": cutoff}
        rows.append({**about, "warning": model.note})
    return pd.DataFrame(rows)


def failed_forecasts(results: Sequence[ForecastResult]) -> pd.DataFrame:
    """The forecasts that failed by themselves: columns model, symbol, origin, reason."""
    rows = [
        (one.forecaster.name, failed.task, failed.reason)
        for one in results
        for failed in one.failures
        if not failed.inherited
    ]
    found = [(model, task.symbol, str(task.origin), reason) for model, task, reason in rows]
    return pd.DataFrame(found, columns=["model", "symbol", "origin", "reason"])


def fallback_forecasts(results: Sequence[ForecastResult]) -> pd.DataFrame:
    """How many created forecasts are of a simpler model: columns model, symbol, reason, forecasts."""
    rows = [(one.forecaster.name, found.task.symbol, found.reason) for one in results for found in one.fallbacks]
    counts = pd.DataFrame(rows, columns=["model", "symbol", "reason"]).value_counts(sort=False)
    return counts.rename("forecasts").reset_index()


def costs_by_model(results: Sequence[ForecastResult]) -> dict[str, float]:
    """Seconds per forecast and highest memory of the models that forecast in this run."""
    costs: dict[str, float] = {}
    for one in results:
        if one.cost is not None:
            costs[f"seconds_per_forecast/{one.forecaster.name}"] = one.cost.seconds / one.cost.forecasts
            costs[f"peak_mib/{one.forecaster.name}"] = one.cost.peak_mib
    return costs


def not_made_text(sessions: Sequence[date], origins: int, starts: date, every: int, skipped: Mapping[str, int]) -> str:
    """What a run over some sessions did not forecast, and why; empty: nothing was left out.

    Args:
        origins: how many of the sessions were forecast from.
        starts: the first day of the origins (origins.first_origin). A single earlier session is an origin, several are
            not.
        every: spacing of the origins up to the end of windows.test.
        skipped: number of forecasts per reason.
    """
    left_out = len(sessions) - origins
    early = min(left_out, sum(session < starts for session in sessions))
    reasons = {
        f"before the origins of windows.test and the warm-up, which start on {starts}": early,
        f"between the origins (forecasts.every = {every})": left_out - early,
    }
    parts = [f"{n:,} of {len(sessions):,} sessions are {reason}" for reason, n in reasons.items() if n]
    return "; ".join([*parts, *(f"{count:,} forecasts: {reason}" for reason, count in skipped.items())])
