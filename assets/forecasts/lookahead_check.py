"""The look-ahead check: change every bar after an origin, forecast again, and compare the forecasts bit by bit.

Beside it, what else a forecast may depend on: its batch, and how often it is computed. Forecasts of a run are compared
with what was made of them (`differing`); the other functions forecast both sides, and say what a difference comes from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np

from assets.forecasting.forecaster import ForecastTask, Predict, Prediction
from assets.market.history import BarHistory

Item = TypeVar("Item")

# Series of the newest origin with later bars, and forecasts of all origins, that are computed again.
SERIES, SPREAD = 8, 5


class MadeForecast(NamedTuple):
    """A forecast as a run made it: its `content_digest`, and quantiles (steps, fields, levels)."""

    task: ForecastTask
    digest: bytes
    quantiles: np.ndarray


def made_forecast(task: ForecastTask, prediction: Prediction, row: int) -> MadeForecast:
    """The forecast of one task of a prediction."""
    return MadeForecast(task, content_digest(prediction, row), prediction.quantiles[row].copy())


def tasks_to_repeat(tasks: Sequence[ForecastTask]) -> list[ForecastTask]:
    """The tasks, ordered by origin, whose forecasts the checks of a run compute again."""
    chosen = {
        (one.symbol, one.origin): one for one in (*_spread(tasks, SPREAD), *_spread(newest_with_future(tasks), SERIES))
    }
    return sorted(chosen.values(), key=lambda task: task.origin)


def reversed_halves(items: Sequence[Item]) -> list[list[Item]]:
    """The items in two parts in reverse order, without an empty one: forecasts depend on neither."""
    backwards = list(items)[::-1]
    return [half for half in (backwards[::2], backwards[1::2]) if half]


def newest_with_future(tasks: Sequence[ForecastTask]) -> list[ForecastTask]:
    """The tasks of the newest origin with later bars; without any the check has nothing to change and passes."""
    with_future = [task for task in tasks if task.index + 1 < len(task.history)] or tasks
    origin = max(task.origin for task in with_future)
    return [task for task in tasks if task.origin == origin]


def differing(
    predict: Predict, tasks: Sequence[ForecastTask], targets: np.ndarray, made: Sequence[bytes]
) -> list[ForecastTask]:
    """The tasks whose forecast differs in any bit from the one that was made.

    Args:
        made: the `content_digest` of the forecast of each task.
    """
    again = predict(tasks, targets)
    return [task for row, task in enumerate(tasks) if content_digest(again, row) != made[row]]


def content_digest(prediction: Prediction, row: int) -> bytes:
    """A digest of all that is forecast of a task."""
    return hashlib.sha256(_content(prediction, row)).digest()


def with_changed_futures(tasks: Sequence[ForecastTask]) -> list[ForecastTask]:
    """The tasks with other bars after their origin."""
    return [replace(t, history=with_changed_future(t.history, t.index, seed)) for seed, t in enumerate(tasks)]


def with_changed_future(history: BarHistory, index: int, seed: int) -> BarHistory:
    """The same history up to bar `index`, with random prices, volumes, splits and dividends after it."""
    generator = np.random.default_rng(seed)
    after = len(history) - index - 1
    quoted, growth, shares = history.quoted.copy(), history.growth.copy(), history.shares.copy()
    quoted[index + 1 :] *= generator.uniform(0.2, 5, size=(after, 1))
    growth[index + 1 :] *= generator.uniform(0.5, 2)
    shares[index + 1 :] *= generator.integers(2, 5)
    return replace(history, quoted=quoted, growth=growth, shares=shares)


def forecasts_changed_by_future_bars(
    predict: Predict, tasks: Sequence[ForecastTask], targets: np.ndarray
) -> list[ForecastTask]:
    """The tasks whose forecast differs in any bit once the bars after their origin are changed."""
    before, after = predict(tasks, targets), predict(with_changed_futures(tasks), targets)
    return [task for row, task in enumerate(tasks) if _content(before, row) != _content(after, row)]


def unstable_forecasts(predict: Predict, tasks: Sequence[ForecastTask], targets: np.ndarray) -> list[ForecastTask]:
    """The tasks whose forecast differs in any bit when it is computed twice."""
    first, second = predict(tasks, targets), predict(tasks, targets)
    return [task for row, task in enumerate(tasks) if _content(first, row) != _content(second, row)]


def batch_difference(
    predict: Predict, tasks: Sequence[ForecastTask], targets: np.ndarray, made: np.ndarray | None = None
) -> np.ndarray:
    """The largest relative difference of each forecast from the one that is made alone: (tasks,) float64.

    Infinite where it fails alone or together.

    Args:
        made: the quantiles of the same tasks from other batches, which are compared, too.
    """
    # In reverse order: a forecast must not depend on the order either.
    together = [predict(tasks[::-1], targets[::-1]).quantiles[::-1], *([] if made is None else [made])]
    alone = np.concatenate([predict([task], targets[[row]]).quantiles for row, task in enumerate(tasks)])
    difference = np.abs(np.stack(together) - alone) / np.maximum(np.abs(alone), np.finfo(np.float64).tiny)
    return np.asarray(np.nan_to_num(difference, nan=np.inf).max(axis=(0, 2, 3, 4)))


def _content(prediction: Prediction, row: int) -> bytes:
    parts = [prediction.quantiles[row], prediction.corrected[row]]
    if prediction.paths is not None:
        parts.append(prediction.paths[row])
    return b"".join(np.asarray(part).tobytes() for part in parts)


def _spread(tasks: Sequence[ForecastTask], most: int) -> list[ForecastTask]:
    return [tasks[place] for place in np.unique(np.linspace(0, len(tasks) - 1, most).astype(int))]
