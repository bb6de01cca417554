"""The earlier forecasts of some models as panels, and those of some tasks. Where they are stored: `stored`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from assets.forecasting.calibration.base_keys import Base
from assets.forecasting.calibration.panel import ForecastPanel
from assets.forecasting.forecaster import ForecastTask
from assets.market.history import CLOSE, BarHistory

if TYPE_CHECKING:
    from assets.forecasting.calibration.stored import StoredForecasts


class EarlierForecasts:
    """The earlier forecasts of some models: a row per origin and symbol with a forecast of any of them, in this order.

    Attributes:
        symbols: (n,) the symbol of each row.
    """

    def __init__(self, stored: StoredForecasts, bases: Sequence[Base]) -> None:
        self._stored, self._bases, self._keys = stored, bases, [stored.keys_of(base) for base in bases]
        count = len(stored.symbols)
        codes = [self._numbers(own.origins, own.symbols) for own in self._keys]
        self._every = every = codes[0] if len(codes) == 1 else np.unique(np.concatenate(codes))
        self._origins = (every // max(count, 1)).astype("datetime64[s]")
        self.symbols = stored.symbols[every % max(count, 1)]
        # By base, the row of each forecast among its own; -1: it made none.
        self._rows_of_bases = [_places(every, own) for own in codes]

    @property
    def origins(self) -> np.ndarray:
        """The origin of each row, (n,) datetime64[s]."""
        return self._origins

    @cached_property
    def unique_origins(self) -> np.ndarray:
        """The origins, each once."""
        return np.unique(self._origins)

    def origins_before(self, origins: np.ndarray) -> np.ndarray:
        """The number of origins with earlier forecasts before each of some origins: (n,)."""
        return np.searchsorted(self.unique_origins, origins, side="left")

    def panels(
        self, histories: Mapping[str, BarHistory], first: int = 0, end: int | None = None
    ) -> Iterator[ForecastPanel]:
        """The forecasts that have a bar at their origin, in time order.

        Args:
            histories: where the outcomes are read from.
            first, end: the rows that are read, of whole origins; None: up to the last.
        """
        for own in chunks(self._origins[first:end], self._stored.forecasts_at_once):
            rows = slice(first + own.start, first + own.stop)
            origins = self._origins[rows]
            closes, outcomes, targets = self._stored.outcomes(origins, self.symbols[rows], histories)
            known = np.isfinite(closes)
            logs = _logs(self._read(np.arange(rows.start, rows.stop)), closes)[:, known]
            yield ForecastPanel(origins[known], targets[known], logs, outcomes[known])

    def of_tasks(self, tasks: Sequence[ForecastTask]) -> np.ndarray:
        """The newest quantiles for some tasks: (bases, tasks, steps, levels) logs of quantile over close; NaN: not
        stored."""
        closes = np.array([task.history.quoted[task.index, CLOSE] for task in tasks])
        found = self._known(tasks)
        asked = [(task.symbol, task.origin) for task in tasks] if found is None else []
        return _logs(self._stored.newest(self._bases, asked) if found is None else found, closes)

    def _known(self, tasks: Sequence[ForecastTask]) -> np.ndarray | None:
        """Their quantiles where those by the newest checkpoints of all bases are in memory."""
        origins = np.array([task.origin for task in tasks], dtype="datetime64[s]")
        named = np.array([task.symbol for task in tasks], dtype=object)
        symbols = _places(named, self._stored.symbols)
        rows = np.where(symbols < 0, -1, _places(self._numbers(origins, symbols), self._every))
        if rows.min() < 0:
            return None
        for base, keys, own in zip(self._bases, self._keys, self._rows_of_bases, strict=True):
            held = self._stored.held_from(base, keys)
            if held is None or own[rows].min() < held or (keys.checkpoints[own[rows]] != base.checkpoints[-1]).any():
                return None
        return self._read(rows)

    def _numbers(self, origins: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """Numbers that sort as origin and symbol.

        Args:
            symbols: places among the symbols with forecasts.
        """
        return np.asarray(origins.astype(np.int64) * len(self._stored.symbols) + symbols)

    def _read(self, rows: np.ndarray) -> np.ndarray:
        """The quantiles of some rows: (bases, rows, steps, levels)."""
        read = list[np.ndarray]()
        for base, keys, places in zip(self._bases, self._keys, self._rows_of_bases, strict=True):
            made = places[rows] >= 0
            found = np.full((len(rows), *self._stored.shape), np.nan)
            read.append(found)
            if not made.any():
                continue
            kept = self._stored.kept(base, keys, int(places[rows][made].min()))
            if kept is None:
                models = np.full(int(made.sum()), base.model, dtype=object)
                named = self._origins[rows][made], self.symbols[rows][made]
                found[made] = self._stored.quantiles(models, keys.checkpoints[places[rows][made]], *named)
                continue
            start, values = kept
            found[made] = values[places[rows][made] - start]
        return np.stack(read)


def _logs(quantiles: np.ndarray, closes: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(quantiles / closes[:, None, None]))


def _places(wanted: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The place of each wanted value among sorted ones, -1: it is not there."""
    if not len(values):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    return np.where(values[place] == wanted, place, -1)


def chunks(origins: np.ndarray, size: int) -> Iterator[slice]:
    """Slices of about `size` rows that never split an origin; origins do not decrease."""
    start = 0
    while start < len(origins):
        end = min(start + size, len(origins))
        # A whole origin at least.
        end = int(np.searchsorted(origins, origins[end - 1], side="right"))
        yield slice(start, end)
        start = end
