"""Forecast tasks with the gaps of their histories filled, as the weights were fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from assets.forecasting.forecaster import ForecastTask
from assets.market.gaps import GapFill


def fill_lookbacks(tasks: Sequence[ForecastTask], fill: GapFill) -> list[ForecastTask]:
    """The same tasks over filled histories. Origins are bars, so no filled value depends on a bar after them."""
    if fill.rule == "none":
        return list(tasks)
    histories = {id(task.history): task.history for task in tasks}
    filled = {key: fill.apply(history) for key, history in histories.items()}
    found = [(task, filled[id(task.history)]) for task in tasks]
    return [replace(task, history=history, index=history.index_of(task.origin) or 0) for task, history in found]
