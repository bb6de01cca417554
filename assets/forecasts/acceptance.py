"""Acceptance checks on the forecasts of a run: complete, finite and ordered, physically possible, without look-ahead,
and with intervals that cover about their nominal share of closes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from assets.acceptance import CheckOutcome
from assets.forecasting.forecaster import ForecastKey, ForecastTask
from assets.forecasting.intervals import percent
from assets.forecasting.path_files import paths_file
from assets.forecasts.attempts import FailedForecast
from assets.forecasts.generate import FallbackForecast, ForecastResult, target_timestamps
from assets.forecasts.lookahead_check import (
    batch_difference,
    content_digest,
    differing,
    forecasts_changed_by_future_bars,
    newest_with_future,
    tasks_to_repeat,
    unstable_forecasts,
    with_changed_futures,
)
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
# The relative difference that rounding may make between a forecast in a batch and alone.
BATCH_TOLERANCE = 1e-4
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

    return {
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
        "no_lookahead": check_lookahead(candlecast, results),
        "independent_of_batch": check_batches(candlecast, results),
        "every_series_is_forecast": check_failures(results),
        "bands_widen": check_widths(named(widths_by_step(warehouse, [judged(one) for one in ranges]))),
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


def check_lookahead(candlecast: Candlecast, results: Sequence[ForecastResult]) -> CheckOutcome:
    """Forecast some series of one origin again with every later bar changed: no bit of the forecasts may change.

    Only for forecasters with new forecasts in this run: existing ones were checked when they were created.
    """
    created = [one for one in results if one.created]
    if not created:
        return CheckOutcome(True, "no new forecasts; existing ones were checked when they were created")
    problems, chosen = [], list[ForecastTask]()
    for one in created:
        made = _made(candlecast, one)
        chosen = newest_with_future([task for task, _ in made.values()])
        targets = _targets(candlecast, chosen)
        predict, digests = one.forecaster.load(), [made[task.symbol, task.origin][1] for task in chosen]
        # What differs may depend on its batch alone.
        if differing(predict, with_changed_futures(chosen), targets, digests) and (
            changed := forecasts_changed_by_future_bars(predict, chosen, targets)
        ):
            symbols = ", ".join(task.symbol for task in changed)
            problems.append(
                f"{one.forecaster.name} gives other forecasts when they are computed again: {symbols} from "
                f"{chosen[0].origin}. Draw random numbers from the seed of the input alone, and use a new recipe"
                if unstable_forecasts(predict, chosen, targets)
                else f"{one.forecaster.name} reads bars after its origin {chosen[0].origin}: {symbols}. Its scores are "
                "invalid; correct the forecaster and use a new recipe"
            )
    fine = f"{len(chosen)} forecasts from {chosen[0].origin} are bit-identical with every later bar changed"
    return CheckOutcome(not problems, "; ".join(problems) or fine)


def check_batches(candlecast: Candlecast, results: Sequence[ForecastResult]) -> CheckOutcome:
    """Forecast a handful of symbols and origins again in other batches: the forecasts are the same but for rounding.

    Only for forecasters with new forecasts in this run, as for `check_lookahead`.
    """
    problems, largest = [], 0.0
    for one in results:
        if not one.created or not one.forecast:
            continue
        # In two halves, in reverse order: neither may matter.
        made, predict = list(_made(candlecast, one).values())[::-1], one.forecaster.load()
        halves = [half for half in (made[::2], made[1::2]) if half]
        repeated = [([task for task, _ in half], [digest for _, digest in half]) for half in halves]
        if not any(differing(predict, tasks, _targets(candlecast, tasks), own) for tasks, own in repeated):
            continue
        chosen = [task for task, _ in made]
        difference = batch_difference(predict, chosen, _targets(candlecast, chosen))
        largest = max(largest, difference.max())
        if not largest <= BATCH_TOLERANCE:
            worst = chosen[int(difference.argmax())]
            problems.append(
                f"{one.forecaster.name} forecasts {worst.symbol} from {worst.origin} by {difference.max():.2g} "
                f"differently beside {len(chosen) - 1} other forecasts than alone. It reads more than its own input "
                "there, such as a mean over the batch; correct the forecaster and use a new recipe"
            )
    fine = f"in other batches, forecasts differ by {largest:.2g} of a value at most"
    return CheckOutcome(not problems, "; ".join(problems) or fine)


def _made(candlecast: Candlecast, one: ForecastResult) -> dict[ForecastKey, tuple[ForecastTask, bytes]]:
    """Some forecasts of a run with the digests of what was made, by symbol and origin, ordered by origin."""
    sample = one.sample
    if not sample:  # all that were chosen failed
        tasks = tasks_to_repeat(one.forecast)
        made = one.forecaster.load()(tasks, _targets(candlecast, tasks))
        sample = [(task, content_digest(made, row)) for row, task in enumerate(tasks)]
    return {(task.symbol, task.origin): (task, digest) for task, digest in sample}


def _targets(candlecast: Candlecast, tasks: Sequence[ForecastTask]) -> np.ndarray:
    return target_timestamps(tasks, candlecast.calendar, candlecast.settings.windows.predict_window)


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
