"""Coverage of the central intervals of derived forecasts, over all origins and by year, with intervals by dates.

The bands of recalibrated forecasts and of combinations should cover their nominal share of closes. Whether they do is
judged by the interval of the coverage (bootstrap): outside of the bounds of the settings is only what is outside with
its whole interval. Not here: the coverage of each origin (origin_coverage), coverage as a score (evaluation), and the
check of every model (acceptance).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assets.acceptance import CheckOutcome
from assets.forecasting.bootstrap import (
    block_count,
    block_draws,
    bootstrap_intervals,
    origin_weights,
    weighted_means,
)
from assets.forecasting.calibration.panel import LEAST_ORIGINS, LEAST_OUTCOMES
from assets.forecasting.intervals import CentralInterval, central_intervals, percent
from resources.settings import EvaluationSettings

ALL = "all"
_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class Bound:
    """A central interval and the bounds of its coverage."""

    interval: CentralInterval
    low: float
    high: float


def bounds_of(levels: Sequence[float], bounds: Mapping[str, tuple[float, float]]) -> list[Bound]:
    """The bounds of those intervals that the levels have, the widest first.

    Args:
        bounds: `forecasts.coverage_bounds`, by nominal coverage in per cent.
    """
    by_nominal = {round(float(nominal) / 100, 6): own for nominal, own in bounds.items()}
    known = (one for one in central_intervals(levels) if one.nominal in by_nominal)
    return [Bound(one, *by_nominal[one.nominal]) for one in known]


def without_unlearnt(by_origin: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of `origin_coverage` at which the model had enough outcomes of every step to learn from, and how many
    origins are left out: columns model, origins.

    Before, a recalibrated forecast is the model's, and says nothing about the recalibration.
    """
    kept, left_out = list[pd.DataFrame](), dict[str, int]()
    for model, own in by_origin.groupby("model") if len(by_origin) else ():
        ordered = own.sort_values("origin", ignore_index=True)
        # Earlier origins whose last target was still to come.
        pending = np.arange(len(ordered)) - np.searchsorted(ordered["ends"], ordered["origin"], side="right")
        learnt_from = ordered["learnt_from"].to_numpy(dtype=np.float64, na_value=np.nan)
        known = learnt_from - np.maximum(pending, 0)
        enough = (known >= LEAST_ORIGINS) & (known * ordered["outcomes"].to_numpy() >= LEAST_OUTCOMES)
        judged = np.isnan(learnt_from) | enough
        kept.append(ordered[judged])
        if not judged.all():
            left_out[str(model)] = int((~judged).sum())
    found = pd.concat(kept, ignore_index=True) if kept else by_origin
    return found, pd.DataFrame(list(left_out.items()), columns=["model", "origins"])


def coverage_by_period(
    by_origin: pd.DataFrame, bounds: Sequence[Bound], settings: EvaluationSettings, seed: int
) -> pd.DataFrame:
    """Coverage over all origins and by year: columns model, nominal, period, coverage, low, high, origins.

    An origin weighs as much as the time until the next one. low and high are NaN with too few origins.
    """
    rows: dict[str, list[dict[str, object]]] = {}
    for alike in _with_equal_times(by_origin).values():
        times = alike[0][["origin", "ends"]]
        # Resamples are the same: those of all models are drawn together.
        values = np.hstack([own[[one.interval.nominal for one in bounds]].to_numpy(dtype=np.float64) for own in alike])
        for period, part in _periods(times["origin"]):
            figures = _intervals(times[part], values[part], settings, seed)
            by_model = zip(*(one.reshape(len(alike), len(bounds)) for one in figures), strict=True)
            for own, (coverage, low, high) in zip(alike, by_model, strict=True):
                model, count = str(own["model"].iloc[0]), int(part.sum())
                rows.setdefault(model, []).extend(
                    {"model": model, "nominal": one.interval.nominal, "period": period, "coverage": coverage[place],
                     "low": low[place], "high": high[place], "origins": count}
                    for place, one in enumerate(bounds)
                )  # fmt: skip
    columns = ["model", "nominal", "period", "coverage", "low", "high", "origins"]
    return pd.DataFrame([row for model in sorted(rows) for row in rows[model]], columns=columns)


def check_bounds(
    coverage: pd.DataFrame, bounds: Sequence[Bound], block: bool, left_out: pd.DataFrame | None = None
) -> CheckOutcome:
    """Whether no coverage is outside of its bounds with its whole interval.

    Args:
        block: whether a failure stops what is made from the forecasts.
        left_out: origins that are not judged, as of `without_unlearnt`.
    """
    few = _left_out_text(left_out) if left_out is not None and len(left_out) else ""
    if not bounds:
        return CheckOutcome(True, "forecasts.levels has none of the intervals of forecasts.coverage_bounds")
    known = coverage[coverage["low"].notna()]
    if known.empty:
        named = int(coverage["origins"].max()) if len(coverage) else 0
        return CheckOutcome(True, f"too few origins with outcomes for an interval of the coverage: {named}{few}")
    problems = []
    for one in bounds:
        rows = known[known["nominal"] == one.interval.nominal]
        outside = rows[(rows["low"] > one.high) | (rows["high"] < one.low)]
        problems += [_text(row, one) for row in outside.to_dict("records")]
    if problems:
        remedy = (
            "Learn from more recent outcomes (calibration.half_life), forecast more origins, or, if such coverage is "
            "acceptable, widen forecasts.coverage_bounds"
        )
        blocked = " What is made from them is blocked (forecasts.coverage)." if block else ""
        return CheckOutcome(False, f"{'; '.join(problems)}{few}. {remedy}.{blocked}", severe=block)
    shown = ", ".join(one.interval.text for one in bounds)
    unknown = int(coverage["low"].isna().groupby([coverage["model"], coverage["period"]]).any().sum())
    short = f"; {unknown} periods have too few origins to tell" if unknown else ""
    return CheckOutcome(True, f"no coverage of the {shown} intervals is certainly outside of its bounds{short}{few}")


def _left_out_text(left_out: pd.DataFrame) -> str:
    return (
        f"; the first origins of {len(left_out)} models, {left_out['origins'].max()} at most, are left out: too few "
        "outcomes were known to learn from"
    )


def _with_equal_times(by_origin: pd.DataFrame) -> dict[bytes, list[pd.DataFrame]]:
    """The rows of each model, by origin; together those of models with the same origins and ends."""
    found: dict[bytes, list[pd.DataFrame]] = {}
    for _, own in by_origin.groupby("model") if len(by_origin) else ():
        ordered = own.sort_values("origin", ignore_index=True)
        found.setdefault(ordered[["origin", "ends"]].to_numpy().tobytes(), []).append(ordered)
    return found


def _periods(origins: pd.Series[pd.Timestamp]) -> Iterator[tuple[str, np.ndarray]]:
    """The periods, with the places of their origins: (n,) bool."""
    years = origins.dt.year.to_numpy()
    yield ALL, np.ones(len(years), dtype=bool)
    for year in np.unique(years):
        yield str(year), years == year


def _intervals(
    times: pd.DataFrame, values: np.ndarray, settings: EvaluationSettings, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of (origins, columns) values with their lower and upper ends, (columns,) each.

    Args:
        times: columns origin, ends.
    """
    origins = times["origin"].to_numpy()
    reach = float(np.median((times["ends"].to_numpy() - origins) / _DAY))
    days = (origins - origins[0]) / _DAY
    longest = max(reach, float(np.median(np.diff(days))) if len(days) > 1 else reach)
    weights = origin_weights(days, longest)
    blocks = block_count(weights, 2 * max(reach, float(weights.max())))
    means = weighted_means(values, weights)
    if not blocks:
        return means, np.full(means.shape, np.nan), np.full(means.shape, np.nan)
    drawn = block_draws(values, weights, blocks, settings.bootstrap_draws, seed)
    low, high = bootstrap_intervals(drawn, means, 1 - settings.confidence, 1, blocks)
    return means, np.clip(low, 0, 1), np.clip(high, 0, 1)


def _text(row: Mapping[object, object], bound: Bound) -> str:
    period = "over all origins" if row["period"] == ALL else f"in {row['period']}"
    return (
        f"{row['model']}: the {bound.interval.text} interval covered {row['coverage']:.1%} {period} "
        f"({row['low']:.1%} … {row['high']:.1%}), bounds {percent(bound.low)} … {percent(bound.high)}"
    )
