"""The forecasts that a benchmark makes: symbols, origins, targets, and outcomes.

Targets are the next sessions of the whole file, so that all symbols of an origin have the same ones; a symbol without a
bar at one of them, or with too few bars before, is left out at that origin.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np

from assets.forecasting.baselines.closed_form import random_walk_ewma
from assets.forecasting.forecaster import ForecastTask
from assets.forecasting.volatility.regression import LEAST_BARS
from assets.market.history import CLOSE, VOLUME, BarHistory
from assets.training.fit.base_weights import WEIGHTS
from resources.errors import CandlecastError

HORIZON, QUARTER = 10, 66
# Where a card names the symbols of training.
CARD_SECTIONS = ("training", "trained_on")
Histories = Mapping[str, BarHistory]


@dataclass(frozen=True)
class Sample:
    """Forecast tasks, ordered by origin; the first origins only warm up.

    Attributes:
        symbols: of which forecasts are made.
        origins: (origins,) datetime64[s]. targets: (origins, steps).
        scored_from: the number of the first origin that is scored.
        symbol, origin: (tasks,) numbers of symbol and origin.
        bar: (tasks,) number of the origin's bar in the history.
        actual: (tasks, steps) log return from the last close, adjusted for corporate actions.
        volatility: (tasks,) EWMA volatility at the origin. turnover: (tasks,) mean daily dollar volume of the last
            quarter at the origin.
    """

    symbols: tuple[str, ...]
    origins: np.ndarray
    targets: np.ndarray
    scored_from: int
    symbol: np.ndarray
    origin: np.ndarray
    bar: np.ndarray
    actual: np.ndarray
    volatility: np.ndarray
    turnover: np.ndarray

    def __len__(self) -> int:
        return len(self.symbol)

    @property
    def scored(self) -> np.ndarray:
        """(tasks,) bool: not a warm-up task."""
        return self.origin >= self.scored_from

    @property
    def years(self) -> np.ndarray:
        """(tasks,) year of the origin."""
        return np.asarray(self.origins[self.origin].astype("datetime64[Y]").astype(int) + 1970)

    def tasks(self, rows: slice, histories: Histories) -> list[ForecastTask]:
        """Some of the tasks as forecasters take them."""
        names = [self.symbols[number] for number in self.symbol[rows]]
        return [
            ForecastTask(name, self.origins[origin], histories[name], int(bar))
            for name, origin, bar in zip(names, self.origin[rows], self.bar[rows], strict=True)
        ]

    def of_symbols(self, count: int) -> tuple[Sample, np.ndarray]:
        """`count` of the symbols, evenly spaced, at all origins.

        Returns:
            The smaller sample, and the (tasks,) numbers of its tasks in this one.
        """
        names = np.unique(np.linspace(0, len(self.symbols) - 1, min(count, len(self.symbols))).round().astype(int))
        rows = np.flatnonzero(np.isin(self.symbol, names))
        smaller = replace(
            self,
            symbols=tuple(self.symbols[name] for name in names),
            symbol=np.searchsorted(names, self.symbol[rows]),
            **{name: getattr(self, name)[rows] for name in ("origin", "bar", "actual", "volatility", "turnover")},
        )
        return smaller, rows


def seen_symbols(folder: Path = WEIGHTS) -> set[str]:
    """The symbols that any of the packaged weights were trained on, by their cards.

    Raises:
        CandlecastError: a card names none, so that what is unseen is not known.
    """
    seen: set[str] = set()
    for file in sorted(folder.glob("*/card.json")):
        card = json.loads(file.read_text())
        named = [section["symbols"] for key in CARD_SECTIONS if (section := card.get(key)) and "symbols" in section]
        if not named:
            raise CandlecastError(f"{file} names no symbols that the weights were trained on: train them again")
        seen.update(*named)
    return seen


def evenly(symbols: Sequence[str], count: int | None) -> list[str]:
    """`count` of the symbols, evenly spaced in alphabetical order; None: all."""
    ordered = sorted(symbols)
    if count is None or count >= len(ordered):
        return ordered
    return [ordered[place] for place in np.linspace(0, len(ordered) - 1, count).round().astype(int)]


def build_sample(
    histories: Histories, symbols: Sequence[str], warm_up: date, first: date, last: date, every: int
) -> Sample:
    """The tasks of `symbols` at every `every`-th session of warm-up and scored range.

    Args:
        histories: of all symbols of the file: their bars are the sessions.
    """
    sessions = np.unique(np.concatenate([history.stamps for history in histories.values()]))
    days = sessions.astype("datetime64[D]")
    begin = int(np.searchsorted(days, np.datetime64(first)))
    end = min(int(np.searchsorted(days, np.datetime64(last), side="right")), len(sessions) - HORIZON)
    earliest = int(np.searchsorted(days, np.datetime64(warm_up)))
    # Counted from the first scored session in both directions: the warm-up does not move the scored origins.
    places = np.r_[np.arange(begin - every, earliest - 1, -every)[::-1], np.arange(begin, end, every)].astype(int)
    targets = sessions[places[:, None] + np.arange(1, HORIZON + 1)]
    parts = [_symbol_tasks(number, histories[name], sessions[places], targets) for number, name in enumerate(symbols)]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((joined["symbol"], joined["origin"]))
    scored_from = int((places < begin).sum())
    return Sample(
        tuple(symbols), sessions[places], targets, scored_from, **{name: one[order] for name, one in joined.items()}
    )


def _symbol_tasks(number: int, history: BarHistory, origins: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of `Sample` of one symbol."""
    wanted = np.column_stack([origins, targets])
    bars = np.minimum(np.searchsorted(history.stamps, wanted), len(history) - 1)
    complete = (history.stamps[bars] == wanted).all(axis=1) & (bars[:, 0] + 1 >= LEAST_BARS)
    kept = np.flatnonzero(complete)
    bars = bars[kept]
    log_close = np.log(history.quoted[:, CLOSE] * history.growth)
    dollars = history.quoted[:, CLOSE] * history.quoted[:, VOLUME]
    one = np.ones(1)
    return {
        "symbol": np.full(len(kept), number),
        "origin": kept,
        "bar": bars[:, 0],
        "actual": log_close[bars[:, 1:]] - log_close[bars[:, :1]],
        "volatility": np.array(
            [np.sqrt(random_walk_ewma(np.diff(log_close[: bar + 1]), one)[1][0]) for bar in bars[:, 0]]
        ),
        "turnover": np.array([np.nanmean(dollars[bar + 1 - QUARTER : bar + 1]) for bar in bars[:, 0]]),
    }
