"""Summaries of the stored forecasts of forecasters: calibration, coverage, rate of corrections, content digests.

Those of all forecasters of a run are read by one query (`by_range`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import reduce
from operator import xor
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from assets.forecasting.forecaster import ForecastModel
from assets.forecasting.intervals import percent, scored_intervals
from assets.forecasting.origins import forward_steps
from resources.calendar import TradingCalendar
from resources.candlecast import Candlecast
from resources.derived_models import is_recalibrated, raw_model
from resources.sql import load_sql
from resources.warehouse import Warehouse

if TYPE_CHECKING:
    from assets.forecasts.generate import ForecastResult

# By origin, the number of quantiles and their digest.
ContentByOrigin = Mapping[datetime, tuple[int, str]]
YEAR = np.timedelta64(365, "D")
# Days of origins, over all models, that one query reads at most: what it groups by forecast stays within memory.
MOST_TOGETHER = 100
IN_RANGE = """
(model, checkpoint) IN (SELECT unnest($models), unnest($checkpoints)) AND origin BETWEEN $first AND $last
"""
_CONTENT = f"""
SELECT model, checkpoint, origin, count(*) AS rows,
       bit_xor(md5_number(concat_ws('|', symbol, origin, step, target_ts, field, level, value)))::VARCHAR AS digest
FROM forecast_quantiles WHERE {IN_RANGE} GROUP BY ALL
"""
_MADE_AT = f"SELECT model, checkpoint, origin, max(made_at) AS made_at FROM forecasts WHERE {IN_RANGE} GROUP BY ALL"
_LAST_TARGET = f"""
SELECT model, checkpoint, max(target_ts) AS last FROM forecast_quantiles
WHERE {IN_RANGE} AND field = 'close' GROUP BY ALL
"""
_CORRECTED = f"SELECT model, checkpoint, avg(corrected) AS rate FROM forecasts WHERE {IN_RANGE} GROUP BY ALL"


@dataclass(frozen=True)
class ForecastRange:
    """The stored forecasts of one forecaster between the first and the last of some origins."""

    forecaster: ForecastModel
    origins: Sequence[np.datetime64]

    @property
    def named(self) -> tuple[str, str]:
        """Model and checkpoint."""
        return self.forecaster.model, self.forecaster.checkpoint

    @property
    def span(self) -> tuple[datetime, datetime]:
        """The first and the last origin."""
        first, last = np.array([min(self.origins), max(self.origins)], dtype="datetime64[us]").tolist()
        return first, last


def judged(forecasts: ForecastRange) -> ForecastRange:
    """The range that says whether forecasts of a run are calibrated: of a few sessions, with the year before them."""
    if len(forecasts.origins) < 2:
        return forecasts
    return replace(forecasts, origins=[max(forecasts.origins) - YEAR, *forecasts.origins])


def by_range(
    warehouse: Warehouse,
    sql: str,
    ranges: Sequence[ForecastRange],
    parameters: Mapping[str, object] = MappingProxyType({}),
    bounded: bool = True,
) -> list[pd.DataFrame]:
    """The rows of a query for each of some ranges, without the columns model and checkpoint. Those of the same origins
    are read together.

    Args:
        sql: with the parameters models, checkpoints, first and last, and the columns model and checkpoint.
        bounded: whether to read MOST_TOGETHER at once, of a query that groups by forecast.
    """
    found: dict[tuple[object, ...], pd.DataFrame] = {}
    for own in _together(ranges, bounded):
        models, checkpoints = (list(names) for names in zip(*(one.named for one in own), strict=True))
        first, last = own[0].span
        named = {"models": models, "checkpoints": checkpoints, "first": first, "last": last}
        every = warehouse.frame(sql, {**named, **parameters})
        rows = every.groupby(["model", "checkpoint"], sort=False).indices if len(every) else {}
        plain = every.drop(columns=["model", "checkpoint"])
        for one in own:
            place = rows.get(one.named, np.array([], dtype=int))
            found[*one.named, *one.span] = plain.iloc[place].reset_index(drop=True)
    return [found[*one.named, *one.span] for one in ranges]


def _together(ranges: Sequence[ForecastRange], bounded: bool) -> Iterator[list[ForecastRange]]:
    by_span: dict[tuple[datetime, datetime], list[ForecastRange]] = {}
    for one in ranges:
        by_span.setdefault(one.span, []).append(one)
    for (first, last), own in by_span.items():
        count = max(1, MOST_TOGETHER // (1 + (last - first).days)) if bounded else len(own)
        yield from (own[start : start + count] for start in range(0, len(own), count))


def range_query(script: str) -> str:
    """One of this package's scripts over the forecasts of ranges, for `by_range`."""
    return load_sql("assets.forecasts", script).format(range=IN_RANGE)


def forward_origins(warehouse: Warehouse, ranges: Sequence[ForecastRange], calendar: TradingCalendar) -> list[int]:
    """Of each range the number of origins that were forecast before the session of their first target began."""
    times = by_range(warehouse, _MADE_AT, ranges, bounded=False)
    return [int(forward_steps(own["origin"].to_numpy(), own["made_at"].to_numpy(), 1, calendar).sum()) for own in times]


def calibration(warehouse: Warehouse, forecasts: ForecastRange, frequency: str) -> pd.DataFrame:
    """How often actual closes lie at or below, and below, each quantile: columns level, share, below, n."""
    return calibrations(warehouse, [forecasts], frequency)[0]


def calibrations(warehouse: Warehouse, forecasts: Sequence[ForecastRange], frequency: str) -> list[pd.DataFrame]:
    """The `calibration` of each of some ranges."""
    ends = [one for own in by_range(warehouse, _LAST_TARGET, forecasts, bounded=False) for one in own["last"]]
    sql = load_sql("assets.forecasts", "calibration.sql")
    until = max(ends).to_pydatetime() if ends else datetime.min
    return by_range(warehouse, sql, forecasts, {"frequency": frequency, "until": until}, bounded=False)


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


def contents_by_origin(warehouse: Warehouse, ranges: Sequence[ForecastRange]) -> list[ContentByOrigin]:
    """Of each range the number of quantiles from each origin, and their digest."""
    return [
        {origin.to_pydatetime(): (int(rows), str(digest)) for origin, rows, digest in own.itertuples(index=False)}
        for own in by_range(warehouse, _CONTENT, ranges, bounded=False)
    ]


def total_content(by_origin: ContentByOrigin) -> tuple[int, str]:
    """The number of quantiles from all origins, and their digest."""
    digest = reduce(xor, (int(own) for _, own in by_origin.values())) if by_origin else None
    return sum(rows for rows, _ in by_origin.values()), str(digest)


def corrected_rates(warehouse: Warehouse, ranges: Sequence[ForecastRange]) -> list[float]:
    """Of each range the mean share of raw output that was corrected: bars projected, crossing quantiles sorted."""
    rates = by_range(warehouse, _CORRECTED, ranges, bounded=False)
    return [float(own["rate"].iloc[0]) if len(own) else np.nan for own in rates]


def run_by_model(
    candlecast: Candlecast, results: Sequence[ForecastResult], calibrated: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """What a run did, one row per model, with what is stored of its origins.

    Args:
        calibrated: by name of the forecaster, the result of `calibration`.
    """
    runs, rows = [one.range for one in results], []
    forward = forward_origins(candlecast.warehouse, runs, candlecast.calendar)
    corrected = corrected_rates(candlecast.warehouse, runs)
    for one, run, ahead, rate in zip(results, runs, forward, corrected, strict=True):
        forecaster = one.forecaster
        covered = coverage(calibrated[forecaster.name])
        row = {
            "model": forecaster.name,
            "checkpoint": forecaster.checkpoint,
            "created": one.created,
            "existing": one.existing,
            "failed": len(one.failures),
            "fallback": len(one.fallbacks),
            "in sample": sum(forecaster.in_sample(origin) for origin in run.origins),
            "forward": ahead,
            "corrected": rate,
        }
        rows.append(row | {f"coverage of the {percent(nominal)} interval": share for nominal, share in covered.items()})
    return pd.DataFrame(rows)


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
