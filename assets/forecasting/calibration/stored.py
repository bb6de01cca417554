"""Stored forecasts as panels: the quantiles of some models from the warehouse, with the outcomes from the bars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from assets.forecasting.calibration.outcomes import known_outcomes, log_closes
from assets.forecasting.calibration.panel import ForecastPanel
from assets.forecasting.filters import FORECAST_FILTER, ForecastFilter
from assets.forecasting.forecaster import ForecastKey, ForecastTask
from assets.market.history import CLOSE, BarHistory, stored_histories
from resources.calendar import TradingCalendar
from resources.publish import digest_of
from resources.settings import Settings
from resources.sql import load_sql
from resources.warehouse import Warehouse

# Quantiles of a base in memory at once, and of all bases that stay there: 384 MiB.
VALUES_PER_PANEL, VALUES_KEPT = 2_000_000, 48_000_000
_FAILED = """
SELECT symbol, origin, any_value(reason) AS reason FROM failed_forecasts
WHERE model = $model AND checkpoint = $checkpoint AND origin BETWEEN $first AND $last GROUP BY ALL
"""


@dataclass(frozen=True)
class Base:
    """A model whose stored forecasts are read.

    Attributes:
        checkpoints: those of its vintages, the oldest first; the last one is that of the forecasts that are derived
            from.
    """

    model: str
    checkpoints: tuple[str, ...]


class StoredForecasts:
    """The stored forecasts and the bars of one home, under some settings.

    Earlier forecasts are those from planned origins, of the symbols of the settings: which others a home holds, and
    which symbols a run is asked for, changes nothing.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._steps, self._levels = settings.windows.predict_window, settings.forecasts.levels
        self.calendar = TradingCalendar(settings.market.calendar, settings.market.frequency)
        self._targets: dict[np.datetime64, np.ndarray] = {}

    @cached_property
    def warehouse(self) -> Warehouse:
        """The warehouse of the home."""
        return Warehouse.of(self._settings)

    @cached_property
    def filter(self) -> ForecastFilter:
        """Which forecasts are earlier ones."""
        return ForecastFilter.of(self._settings, self.warehouse, warm_up=self._settings.warm_up)

    @cached_property
    def histories(self) -> Mapping[str, BarHistory]:
        """The bars of all symbols of the settings."""
        return stored_histories(self._settings)

    def earlier(self, bases: Sequence[Base]) -> EarlierForecasts:
        """All earlier forecasts of some models, as they are when they are first asked for."""
        named = tuple(bases)
        if named not in self._earlier:
            self._earlier[named] = EarlierForecasts(self, bases, self._keys(bases))
        return self._earlier[named]

    @cached_property
    def _earlier(self) -> dict[tuple[Base, ...], EarlierForecasts]:
        return {}

    @property
    def forecasts_at_once(self) -> int:
        """How many forecasts are in memory at once."""
        return max(1, VALUES_PER_PANEL // (self._steps * len(self._levels)))

    def reasons(self, base: Base, tasks: Sequence[ForecastTask]) -> list[tuple[str, bool]]:
        """Why a model has no forecast of each task, and whether that is its own recorded failure."""
        parameters: dict[str, object] = {
            "model": base.model,
            "checkpoint": base.checkpoints[-1],
            "first": min(task.origin for task in tasks).item(),
            "last": max(task.origin for task in tasks).item(),
        }
        failed = self.warehouse.frame(_FAILED, parameters)
        stamps = failed["origin"].to_numpy().astype("datetime64[s]")
        known = dict(zip(zip(failed["symbol"], stamps, strict=True), failed["reason"], strict=True))
        unmade = f"{base.model} has no forecast from this origin: it was not made, or input drift blocks it"
        own = [known.get((task.symbol, task.origin)) for task in tasks]
        return [(unmade, False) if reason is None else (f"{base.model} failed: {reason}", True) for reason in own]

    def digest(self, bases: Sequence[Base], last: np.datetime64) -> str:
        """The digest of the earlier forecasts and the closes up to a timestamp."""
        keys = self.earlier(bases).keys
        own = keys[keys["origin"].to_numpy() <= last].astype(str).to_numpy().tolist()
        return digest_of([own, self._closes_digest(last)])

    def _closes_digest(self, last: np.datetime64) -> str:
        if last not in self._digests:
            known = {name: one.rows(slice(int(np.searchsorted(one.stamps, last, side="right"))))
                     for name, one in self.histories.items()}  # fmt: skip
            self._digests[last] = digest_of([[name, log_closes(one).tolist()] for name, one in known.items()])
        return self._digests[last]

    @cached_property
    def _digests(self) -> dict[np.datetime64, str]:
        return {}

    def _keys(self, bases: Sequence[Base]) -> pd.DataFrame:
        """Origin and symbol of every earlier forecast, by origin and symbol, and a column per base with the checkpoint
        of its forecast (missing: none)."""
        keys: pd.DataFrame | None = None
        for base in bases:
            own = self.keys_of(base).rename(columns={"checkpoint": base.model})
            keys = own if keys is None else keys.merge(own, on=["origin", "symbol"], how="outer")
        assert keys is not None
        return keys.sort_values(["origin", "symbol"], ignore_index=True)

    def keys_of(self, base: Base) -> pd.DataFrame:
        """Origin, symbol and checkpoint of every earlier forecast of a model, by origin and symbol."""
        if base not in self._known_keys:
            sql = load_sql(__package__, "earlier_forecasts.sql").format(forecast_filter=FORECAST_FILTER)
            named = {**self.filter.parameters, "model": base.model, "checkpoints": list(base.checkpoints)}
            found = self.warehouse.frame(sql, named)
            self._known_keys[base] = found.sort_values(["origin", "symbol"], ignore_index=True)
        return self._known_keys[base]

    @cached_property
    def _known_keys(self) -> dict[Base, pd.DataFrame]:
        return {}

    def kept(self, base: Base) -> np.ndarray | None:
        """The quantiles of all earlier forecasts of a model, in the order of `keys_of`, read once for all models that
        are derived from it; None: they are too many to stay in memory."""
        if base not in self._kept:
            keys = self.keys_of(base)
            shape = (len(keys), self._steps, len(self._levels))
            if sum(one.size for one in self._kept.values()) + int(np.prod(shape)) > VALUES_KEPT:
                return None
            found = np.empty(shape)
            origins, symbols = keys["origin"].to_numpy().astype("datetime64[s]"), keys["symbol"].to_numpy(dtype=object)
            for rows in _chunks(origins, self.forecasts_at_once):
                own = keys["checkpoint"].iloc[rows]
                found[rows] = self.quantiles(base.model, own, origins[rows], symbols[rows])
            self._kept[base] = found
        return self._kept[base]

    @cached_property
    def _kept(self) -> dict[Base, np.ndarray]:
        return {}

    def quantiles(self, model: str, checkpoints: pd.Series, origins: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """Stored quantiles of the close, (n, steps, levels); NaN: not stored."""
        shape = (len(origins), self._steps, len(self._levels))
        values = np.full(shape, np.nan)
        wanted = pd.DataFrame({"number": np.arange(len(origins), dtype=np.int32), "symbol": symbols,
                               "origin": origins, "checkpoint": checkpoints.to_numpy()}).dropna()  # fmt: skip
        if wanted.empty:
            return values
        parameters = {"model": model, "first": origins.min().item(), "last": origins.max().item()}
        with self.warehouse.read() as connection:
            connection.register("wanted", wanted)
            found = connection.execute(load_sql(__package__, "quantiles.sql"), parameters).fetchnumpy()
        levels, steps = np.asarray(self._levels), np.asarray(found["step"])
        place = np.minimum(np.searchsorted(levels, found["level"]), len(levels) - 1)
        known = (levels[place] == found["level"]) & (steps <= self._steps)
        cell = (np.asarray(found["number"], dtype=np.int64) * shape[1] + steps - 1) * shape[2] + place
        values.ravel()[cell[known]] = found["value"][known]
        return values

    def outcomes(
        self, origins: np.ndarray, symbols: np.ndarray, histories: Mapping[str, BarHistory]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Closes at the origins (n,), log of the closes at the targets over them (n, steps), the targets (n, steps)."""
        unique, place = np.unique(origins, return_inverse=True)
        targets = np.stack([self._following(origin) for origin in unique])[place]
        return (*known_outcomes(origins, symbols, targets, histories), targets)

    def _following(self, origin: np.datetime64) -> np.ndarray:
        if origin not in self._targets:
            self._targets[origin] = self.calendar.following(origin, self._steps)
        return self._targets[origin]


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
        # Whether the quantiles of all bases are in memory.
        self._are_read = False

    def origins_before(self, origins: np.ndarray) -> np.ndarray:
        """The number of origins with earlier forecasts before each of some origins: (n,)."""
        return np.searchsorted(np.unique(self._origins), origins, side="left")

    def panels(self, histories: Mapping[str, BarHistory]) -> Iterator[ForecastPanel]:
        """The forecasts that have a bar at their origin, in time order.

        Args:
            histories: where the outcomes are read from.
        """
        for rows in _chunks(self._origins, self._stored.forecasts_at_once):
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
        if not self._are_read:
            return None
        rows = [self._places.get((task.symbol, task.origin.astype("datetime64[s]")), -1) for task in tasks]
        return None if -1 in rows else self._read(np.array(rows))

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
        self._are_read = True
        read = list[np.ndarray]()
        for base, places in zip(self._bases, self._rows_of_bases, strict=True):
            kept = self._stored.kept(base)
            if kept is None:
                self._are_read = False
                own = self.keys[base.model].iloc[rows]
                read.append(self._stored.quantiles(base.model, own, self._origins[rows], self._symbols[rows]))
                continue
            found = np.full((len(rows), *kept.shape[1:]), np.nan)
            made = places[rows] >= 0
            found[made] = kept[places[rows][made]]
            read.append(found)
        return np.stack(read)


def _logs(quantiles: np.ndarray, closes: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(quantiles / closes[:, None, None]))


def _chunks(origins: np.ndarray, size: int) -> Iterator[slice]:
    """Slices of about `size` rows that never split an origin; origins do not decrease."""
    start = 0
    while start < len(origins):
        end = min(start + size, len(origins))
        # A whole origin at least.
        end = int(np.searchsorted(origins, origins[end - 1], side="right"))
        yield slice(start, end)
        start = end
