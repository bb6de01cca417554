"""The earlier forecasts of some models as panels, and those of some tasks. Where they are stored: `stored`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from assets.forecasting.calibration.panel import ForecastPanel
from assets.forecasting.forecaster import ForecastKey, ForecastTask
from assets.market.history import CLOSE, BarHistory

if TYPE_CHECKING:
    from assets.forecasting.calibration.stored import Base, StoredForecasts


class EarlierForecasts:
    """The earlier forecasts of some models.

    Args:
        keys: by origin and symbol, with a column of checkpoints per base.
    """

    def __init__(self, stored: StoredForecasts, bases: Sequence[Base], keys: pd.DataFrame) -> None:
        self.keys, self._stored, self._bases = keys, stored, bases
        self._origins = keys["origin"].to_numpy().astype("datetime64[s]")
        self._symbols = keys["symbol"].to_numpy(dtype=object)
        # (bases, steps, levels) of the tasks that were asked for last.
        self._complete = dict[ForecastKey, np.ndarray]()
        # The row from which on the quantiles of all bases are in memory.
        self._read_from: int | None = None

    @property
    def origins(self) -> np.ndarray:
        """The origin of each row of `keys`, (n,) datetime64[s]."""
        return self._origins

    def origins_before(self, origins: np.ndarray) -> np.ndarray:
        """The number of origins with earlier forecasts before each of some origins: (n,)."""
        return np.searchsorted(np.unique(self._origins), origins, side="left")

    def panels(
        self, histories: Mapping[str, BarHistory], first: int = 0, end: int | None = None
    ) -> Iterator[ForecastPanel]:
        """The forecasts that have a bar at their origin, in time order.

        Args:
            histories: where the outcomes are read from.
            first, end: the rows of `keys` that are read, of whole origins; None: up to the last.
        """
        for own in chunks(self._origins[first:end], self._stored.forecasts_at_once):
            rows = slice(first + own.start, first + own.stop)
            origins = self._origins[rows]
            closes, outcomes, targets = self._stored.outcomes(origins, self._symbols[rows], histories)
            known = np.isfinite(closes)
            logs = _logs(self._read(np.arange(rows.start, rows.stop)), closes)[:, known]
            yield ForecastPanel(origins[known], targets[known], logs, outcomes[known])

    def of_tasks(self, tasks: Sequence[ForecastTask]) -> np.ndarray:
        """The newest quantiles for some tasks: (bases, tasks, steps, levels) logs of quantile over close; NaN: not
        stored."""
        closes = np.array([task.history.quoted[task.index, CLOSE] for task in tasks])
        found = self._known(tasks)
        return _logs(self._asked(tasks) if found is None else found, closes)

    def _asked(self, tasks: Sequence[ForecastTask]) -> np.ndarray:
        """Their quantiles, which checks of a run ask for again: those of complete forecasts are kept."""
        keys = [(task.symbol, task.origin) for task in tasks]
        if all(key in self._complete for key in keys):
            return np.stack([self._complete[key] for key in keys], axis=1)
        origins = np.array([origin for _, origin in keys], dtype="datetime64[s]")
        symbols = np.array([symbol for symbol, _ in keys], dtype=object)
        newest = [pd.Series([base.checkpoints[-1]] * len(tasks)) for base in self._bases]
        found = self._stored_quantiles(newest, origins, symbols)
        # What is missing may be made meanwhile.
        complete = np.isfinite(found).all(axis=(0, 2, 3))
        if len(tasks) * len(self._bases) <= self._stored.forecasts_at_once:
            self._complete = {keys[row]: found[:, row] for row in np.flatnonzero(complete)}
        return found

    def _stored_quantiles(
        self, checkpoints: Sequence[pd.Series], origins: np.ndarray, symbols: np.ndarray
    ) -> np.ndarray:
        with self._stored.warehouse.shared_reads():
            return np.stack(
                [
                    self._stored.quantiles(base.model, own, origins, symbols)
                    for base, own in zip(self._bases, checkpoints, strict=True)
                ]
            )

    def _known(self, tasks: Sequence[ForecastTask]) -> np.ndarray | None:
        """Their quantiles where all are in memory."""
        if self._read_from is None:
            return None
        rows = [self._places.get((task.symbol, task.origin.astype("datetime64[s]")), -1) for task in tasks]
        return None if min(rows) < self._read_from else self._read(np.array(rows))

    @cached_property
    def _places(self) -> dict[tuple[str, np.datetime64], int]:
        """The row of each forecast by the newest checkpoints of all bases."""
        newest = [(self.keys[base.model] == base.checkpoints[-1]).to_numpy() for base in self._bases]
        rows = np.flatnonzero(np.all(newest, axis=0))
        return {(str(self._symbols[row]), self._origins[row]): int(row) for row in rows}

    @cached_property
    def _rows_of_bases(self) -> list[np.ndarray]:
        """By base, the row of each forecast among its own; -1: it made none."""
        on = ["origin", "symbol"]
        numbered = [own[on].assign(row=np.arange(len(own))) for own in map(self._stored.keys_of, self._bases)]
        found = [self.keys[on].merge(one, on=on, how="left")["row"] for one in numbered]
        return [rows.fillna(-1).to_numpy(dtype=np.int64) for rows in found]

    def _read(self, rows: np.ndarray) -> np.ndarray:
        """The quantiles of some rows of `keys`: (bases, rows, steps, levels)."""
        first = int(rows.min())
        self._read_from = first if self._read_from is None else min(first, self._read_from)
        read = list[np.ndarray]()
        for base, places in zip(self._bases, self._rows_of_bases, strict=True):
            made = places[rows] >= 0
            found = np.full((len(rows), *self._stored.shape), np.nan)
            read.append(found)
            if not made.any():
                continue
            kept = self._stored.kept(base, int(places[rows][made].min()))
            if kept is None:
                self._read_from = None
                own = self.keys[base.model].iloc[rows]
                found[:] = self._stored.quantiles(base.model, own, self._origins[rows], self._symbols[rows])
                continue
            start, values = kept
            found[made] = values[places[rows][made] - start]
        return np.stack(read)


def _logs(quantiles: np.ndarray, closes: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(quantiles / closes[:, None, None]))


def chunks(origins: np.ndarray, size: int) -> Iterator[slice]:
    """Slices of about `size` rows that never split an origin; origins do not decrease."""
    start = 0
    while start < len(origins):
        end = min(start + size, len(origins))
        # A whole origin at least.
        end = int(np.searchsorted(origins, origins[end - 1], side="right"))
        yield slice(start, end)
        start = end
