"""Groups of symbols that Chronos-2 forecasts together: whole groups of one origin, and never across origins.

A run may forecast a part of a group (some symbols, or those whose forecasts are missing). The others are then read from
the warehouse, so that a forecast does not depend on what else the run forecasts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from assets.forecasting.forecaster import ForecastTask
from assets.market.csv_files import csv_rows
from assets.market.history import BarHistory
from assets.market.selection import stored_symbol
from resources.disclosure import shown_path
from resources.errors import CandlecastError
from resources.settings import Settings

Histories = Callable[[], Mapping[str, BarHistory]]


@dataclass(frozen=True)
class GroupedTasks:
    """Tasks with the other members of their groups.

    Attributes:
        targets: (tasks, steps) datetime64[s].
        groups: the group of each task; None: it is forecast alone.
        places: where the wanted tasks are, in their order.
    """

    tasks: Sequence[ForecastTask]
    targets: np.ndarray
    groups: Sequence[Hashable]
    places: Sequence[int]


def read_groups(settings: Settings) -> dict[str, str]:
    """The group of each symbol that has one; empty without `chronos2.groups`.

    Raises:
        CandlecastError: the file does not exist or lacks a column, or a symbol has two groups.
    """
    if settings.chronos2.groups is None:
        return {}
    name = f"chronos2.groups = {shown_path(settings.chronos2.groups, settings.root)}"
    header, rows = csv_rows(settings.root / settings.chronos2.groups, name)
    missing = sorted({"symbol", "group"} - set(header))
    if missing:
        raise CandlecastError(f"{name}: column {', '.join(missing)} is missing; it has {', '.join(header)}")
    groups: dict[str, str] = {}
    for where, row in rows:
        symbol, group = stored_symbol(str(row["symbol"])), str(row["group"]).strip()
        if groups.setdefault(symbol, group) != group:
            raise CandlecastError(f"{name}, {where}: {symbol} is in {groups[symbol]} and in {group}: keep one row")
    return {symbol: group for symbol, group in groups.items() if group}


def complete_groups(
    tasks: Sequence[ForecastTask], targets: np.ndarray, groups: Mapping[str, str], lookback: int, histories: Histories
) -> GroupedTasks:
    """The tasks, with the other members of their groups that can be forecast from the same origins.

    Args:
        lookback: bars up to the origin without which a symbol is not forecast.
        histories: reads the histories of all symbols; called if a group is not complete.
    """
    if not groups:
        return GroupedTasks(tasks, targets, [None] * len(tasks), range(len(tasks)))
    keys = [(task.origin, groups[task.symbol]) if task.symbol in groups else None for task in tasks]
    known = {(task.symbol, task.origin): place for place, task in enumerate(tasks)}
    others: list[tuple[ForecastTask, int, Hashable]] = []
    for key in dict.fromkeys(key for key in keys if key is not None):
        origin, group = key
        row = keys.index(key)
        for symbol in sorted(symbol for symbol, own in groups.items() if own == group):
            if (symbol, origin) in known or (history := histories().get(symbol)) is None:
                continue
            index = history.index_of(origin)
            if index is not None and index + 1 >= lookback:
                others.append((ForecastTask(symbol, origin, history, index), row, key))
    both = [*zip(tasks, range(len(tasks)), keys, strict=True), *others]
    # By symbol, as the members' order within a group changes last bits.
    order = sorted(range(len(both)), key=lambda place: (both[place][0].origin, both[place][0].symbol))
    moved = {place: number for number, place in enumerate(order)}
    return GroupedTasks(
        [both[place][0] for place in order],
        targets[[both[place][1] for place in order]],
        [both[place][2] for place in order],
        [moved[place] for place in range(len(tasks))],
    )
