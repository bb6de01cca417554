"""Acceptance checks on the forecasts of a run: complete, finite and ordered, physically possible, without look-ahead,
and with intervals that cover about their nominal share of closes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import pandas as pd

from assets.acceptance import CheckOutcome
from assets.forecasting.intervals import percent
from assets.forecasting.path_files import paths_file
from assets.forecasts.attempts import FailedForecast
from assets.forecasts.generate import FallbackForecast, ForecastResult
from assets.forecasts.repeat_checks import check_batches, check_lookahead, repeatable
from assets.forecasts.summary import ForecastRange, by_range, coverage, judged, range_query
from resources.candlecast import Candlecast
from resources.sql import load_sql
from resources.warehouse import Warehouse

ForecastCheckName = Literal[
    "complete",
    "finite_and_ordered",
    "physically_possible",
    "no_lookahead",
    "independent_of_batch",
    "every_series_is_forecast",
    "bands_widen",
    "coverage_is_nominal",
]
# The coverage check reports large deviations only; the scoreboard has intervals and significance.
COVERAGE_TOLERANCE = 0.15
MIN_TARGETS = 100
# The mean width over this many forecasts by 100 sample paths is off by about 1 %.
WIDTH_TOLERANCE, MIN_FORECASTS = 0.1, 20
EXAMPLES = 3
_REMEDY = (
    "see the table forecast_quantiles; a new run does not overwrite them, so find the cause before using a new recipe"
)


def check_forecasts(
    candlecast: Candlecast,
    results: Sequence[ForecastResult],
    calibrated: Mapping[str, pd.DataFrame],
) -> dict[ForecastCheckName, CheckOutcome]:
    """All checks over the forecasts between the first and the last origin of each forecaster's tasks.

    Args:
        calibrated: by name of the forecaster, the result of `summary.calibration`.
    """
    ranges, warehouse = [one.range for one in results], candlecast.warehouse

    def named(found: Sequence[pd.DataFrame]) -> dict[str, pd.DataFrame]:
        return {one.forecaster.name: frame for one, frame in zip(results, found, strict=True)}

    of_stored: dict[ForecastCheckName, CheckOutcome] = {
        "complete": _outcome(
            named(incomplete(warehouse, ranges)),
            "forecasts have missing or duplicate quantiles",
            "every forecast has each of its quantiles once",
        ),
        "finite_and_ordered": _outcome(
            named(disordered(warehouse, ranges)),
            "quantiles are not finite or decrease with their level",
            "all quantiles are finite and increase with their level",
        ),
        "physically_possible": _outcome(
            named(_impossible(candlecast, ranges)),
            "values are no valid bar",
            "in quantiles and paths, prices are positive, low ≤ open, close ≤ high, and volume is not negative",
        ),
    }
    widths = named(widths_by_step(warehouse, [judged(one) for one in ranges]))
    # Last: the companion may be computing what is asked for.
    repeated = repeatable(candlecast, results)
    return {
        **of_stored,
        "no_lookahead": check_lookahead(candlecast, results, repeated),
        "independent_of_batch": check_batches(candlecast, results, repeated),
        "every_series_is_forecast": check_failures(results),
        "bands_widen": check_widths(widths),
        "coverage_is_nominal": check_coverage(calibrated),
    }


def disordered(warehouse: Warehouse, ranges: Sequence[ForecastRange]) -> list[pd.DataFrame]:
    """Quantiles of each range that are not finite or decrease with their level: symbol, origin, step, field."""
    return by_range(warehouse, range_query("disordered_quantiles.sql"), ranges)


def impossible(warehouse: Warehouse, ranges: Sequence[ForecastRange]) -> list[pd.DataFrame]:
    """Quantiles of each range that are no valid bar, e.g. a price of 0, a high below the close: symbol, origin, step,
    level."""
    return by_range(warehouse, range_query("impossible_bars.sql"), ranges)


def incomplete(warehouse: Warehouse, ranges: Sequence[ForecastRange]) -> list[pd.DataFrame]:
    """Forecasts of each range with missing or duplicate quantiles: columns symbol, origin."""
    return by_range(warehouse, range_query("incomplete_forecasts.sql"), ranges)


def impossible_paths(warehouse: Warehouse, files: Sequence[Path]) -> pd.DataFrame:
    """Bars of sample paths that are no valid bar: columns symbol, filename, path, step."""
    return warehouse.frame(load_sql("assets.forecasts", "impossible_paths.sql"), {"files": [str(f) for f in files]})


def widths_by_step(warehouse: Warehouse, ranges: Sequence[ForecastRange]) -> list[pd.DataFrame]:
    """The mean log width of the widest band of the close, of each range: columns step, width, n (forecasts), ordered by
    step."""
    return by_range(warehouse, range_query("widths_by_step.sql"), ranges)


def check_widths(widths: Mapping[str, pd.DataFrame]) -> CheckOutcome:
    """Whether the band of every model is about as wide at each step as at any earlier one: uncertainty accumulates.

    Args:
        widths: by model, a result of `widths_by_step`.
    """
    problems = []
    for model, frame in widths.items():
        share = (frame["width"] / frame["width"].cummax()).where(frame["n"] >= MIN_FORECASTS, 1.0)
        if (share < 1 - WIDTH_TOLERANCE).any():
            step = int(frame["step"].iloc[int(share.to_numpy().argmin())])
            problems.append(
                f"{model}: the widest band at step {step} has {share.min():.0%} of the width of an earlier step; the "
                "model may not have learnt so long a horizon: lower windows.predict_window, or train for it"
            )
    fine = "no band shrinks with the step, or there are few forecasts"
    return CheckOutcome(not problems, "; ".join(problems) or fine)


def check_coverage(calibrated: Mapping[str, pd.DataFrame]) -> CheckOutcome:
    """Whether the central intervals of every model cover about their nominal share of closes."""
    problems = [
        f"{model}: the {percent(nominal)} interval covered {covered:.1%} of {frame['n'].min():,} closes"
        for model, frame in calibrated.items()
        if len(frame) and frame["n"].min() >= MIN_TARGETS
        for nominal, covered in coverage(frame).items()
        if abs(covered - nominal) > COVERAGE_TOLERANCE
    ]
    fine = f"every interval is within {COVERAGE_TOLERANCE:.0%} of its nominal coverage, or has few actuals yet"
    return CheckOutcome(not problems, "; ".join(problems) or fine)


def check_failures(results: Sequence[ForecastResult]) -> CheckOutcome:
    """Whether every forecast could be made, and by the model itself; severe where a model made none.

    Missing forecasts whose reason is a failure of the model that they are derived from are stated, and are no failure
    of the model: the check of that one's asset fails.
    """
    failures = {one.forecaster.name: [failed for failed in one.failures if not failed.inherited] for one in results}
    failed = [
        f"{one.forecaster.name}: {len(own):,} of {len(one.tasks):,} forecasts failed: "
        f"{'; '.join(islice(_by_reason(own), EXAMPLES))}"
        for one in results
        if (own := failures[one.forecaster.name])
    ]
    lacking = "; ".join(
        f"{one.forecaster.name} lacks {len(own):,} of {len(one.tasks):,}: "
        f"{'; '.join(islice(_by_reason(own), EXAMPLES))}"
        for one in results
        if (own := [failed for failed in one.failures if failed.inherited])
    )
    fallbacks = [
        f"{one.forecaster.name}: {len(one.fallbacks):,} of {len(one.tasks):,} forecasts are of a simpler model: "
        f"{'; '.join(islice(_by_reason(one.fallbacks), EXAMPLES))}"
        for one in results
        if one.fallbacks
    ]
    if not failed and not fallbacks:
        return CheckOutcome(True, f"every other forecast was made; {lacking}" if lacking else "every forecast was made")
    remedy = "The others are stored; the next run tries these again. Correct the model, its options or the bars"
    problems = [f"{'; '.join(failed)}. {remedy}"] if failed else []
    silent = any(len(failures[one.forecaster.name]) == len(one.tasks) for one in results)
    return CheckOutcome(False, ". ".join([*problems, *fallbacks, *([lacking] if lacking else [])]), severe=silent)


def _by_reason(failures: Sequence[FailedForecast] | Sequence[FallbackForecast]) -> Iterator[str]:
    """One text per reason, the most frequent first: the reason, the symbols, and the first origin."""
    counts = Counter(failure.reason for failure in failures)
    for reason, count in counts.most_common():
        own = [failure.task for failure in failures if failure.reason == reason]
        symbols = sorted({task.symbol for task in own})
        more = f" and {len(symbols) - EXAMPLES} more" if len(symbols) > EXAMPLES else ""
        named = f"{', '.join(symbols[:EXAMPLES])}{more}, first from {min(task.origin for task in own)}"
        yield f"{reason} ({count:,} of {named})"


def _impossible(candlecast: Candlecast, ranges: Sequence[ForecastRange]) -> list[pd.DataFrame]:
    """The result of `impossible`, with that of `impossible_paths` where there are sample paths."""
    frames = []
    for one, found in zip(ranges, impossible(candlecast.warehouse, ranges), strict=True):
        candidates = (paths_file(candlecast.home, *one.named, origin) for origin in one.origins)
        files = [file for file in candidates if file.is_file()]
        frames.append(pd.concat([found, impossible_paths(candlecast.warehouse, files)]) if files else found)
    return frames


def _outcome(found: Mapping[str, pd.DataFrame], problem: str, fine: str) -> CheckOutcome:
    """The outcome of a query per model that returns what is wrong."""
    problems = [
        f"{model}: {len(frame)} {problem}, first {frame.head(EXAMPLES).to_dict('records')}; {_REMEDY}"
        for model, frame in found.items()
        if len(frame)
    ]
    return CheckOutcome(not problems, "; ".join(problems) or fine)
