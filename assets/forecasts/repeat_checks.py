"""Acceptance checks that forecast a sample of a run's forecasts again: without look-ahead, and alike in any batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np

from assets.acceptance import CheckOutcome
from assets.forecasting.forecaster import ForecastKey, ForecastTask
from assets.forecasts.batches import key_of, target_timestamps
from assets.forecasts.generate import ForecastResult
from assets.forecasts.lookahead_check import (
    MadeForecast,
    batch_difference,
    differing,
    forecasts_changed_by_future_bars,
    made_forecast,
    newest_with_future,
    reversed_halves,
    tasks_to_repeat,
    unstable_forecasts,
    with_changed_futures,
)
from resources.candlecast import Candlecast

# The relative difference that rounding may make between a forecast in a batch and alone.
BATCH_TOLERANCE = 1e-4


def repeatable(candlecast: Candlecast, results: Sequence[ForecastResult]) -> set[str]:
    """The forecasters whose forecasts are the same to the bit with every later bar changed and in other batches.

    Both at once: what `check_lookahead` and `check_batches` look for is searched where this finds a difference alone.
    """
    return {
        one.forecaster.name
        for one in results
        if one.created
        and not any(
            differing(one.forecaster.load(), with_changed_futures(tasks), _targets(candlecast, tasks), digests)
            for tasks, digests in _other_batches(_made(candlecast, one))
        )
    }


def check_lookahead(
    candlecast: Candlecast, results: Sequence[ForecastResult], repeated: Set[str] = frozenset()
) -> CheckOutcome:
    """Forecast some series of one origin again with every later bar changed: no bit of the forecasts may change.

    Only for forecasters with new forecasts in this run: existing ones were checked when they were created.

    Args:
        repeated: a result of `repeatable`.
    """
    created = [one for one in results if one.created]
    if not created:
        return CheckOutcome(True, "no new forecasts; existing ones were checked when they were created")
    problems, chosen = [], list[ForecastTask]()
    for one in created:
        made = _made(candlecast, one)
        chosen = newest_with_future([own.task for own in made.values()])
        if one.forecaster.name in repeated:
            continue
        targets = _targets(candlecast, chosen)
        predict, digests = one.forecaster.load(), [made[task.symbol, task.origin].digest for task in chosen]
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


def check_batches(
    candlecast: Candlecast, results: Sequence[ForecastResult], repeated: Set[str] = frozenset()
) -> CheckOutcome:
    """Forecast a handful of symbols and origins again in other batches: the forecasts are the same but for rounding.

    Only for forecasters with new forecasts in this run, as for `check_lookahead`.

    Args:
        repeated: a result of `repeatable`.
    """
    problems, largest = [], 0.0
    for one in results:
        if not one.created or not one.forecast or one.forecaster.name in repeated:
            continue
        predict, made = one.forecaster.load(), _made(candlecast, one)
        halves = _other_batches(made)
        if not any(differing(predict, tasks, _targets(candlecast, tasks), own) for tasks, own in halves):
            continue
        chosen = [own.task for own in made.values()][::-1]
        quantiles = np.stack([own.quantiles for own in made.values()])[::-1]
        difference = batch_difference(predict, chosen, _targets(candlecast, chosen), quantiles)
        largest = max(largest, difference.max())
        if not largest <= BATCH_TOLERANCE:
            worst = chosen[int(difference.argmax())]
            problems.append(
                f"{one.forecaster.name} forecasts {worst.symbol} from {worst.origin} by {difference.max():.2g} "
                f"differently beside other forecasts than alone. It reads more than its own input "
                "there, such as a mean over the batch; correct the forecaster and use a new recipe"
            )
    fine = f"in other batches, forecasts differ by {largest:.2g} of a value at most"
    return CheckOutcome(not problems, "; ".join(problems) or fine)


def _other_batches(made: Mapping[ForecastKey, MadeForecast]) -> list[tuple[list[ForecastTask], list[bytes]]]:
    """The tasks of `_made` with the digests of their forecasts, as `reversed_halves`."""
    halves = reversed_halves(list(made.values()))
    return [([own.task for own in half], [own.digest for own in half]) for half in halves]


def _made(candlecast: Candlecast, one: ForecastResult) -> dict[ForecastKey, MadeForecast]:
    """Some forecasts of a run, by symbol and origin, ordered by origin."""
    sample = one.sample
    if not sample:  # all that were chosen failed
        tasks = tasks_to_repeat(one.forecast)
        made = one.forecaster.load()(tasks, _targets(candlecast, tasks))
        sample = [made_forecast(task, made, row) for row, task in enumerate(tasks)]
    return {key_of(own.task): own for own in sample}


def _targets(candlecast: Candlecast, tasks: Sequence[ForecastTask]) -> np.ndarray:
    return target_timestamps(tasks, candlecast.calendar, candlecast.settings.windows.predict_window)
