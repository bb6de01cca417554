"""Stored forecasts as panels: the quantiles of some models from the warehouse, with the outcomes from the bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from assets.forecasting.calibration.earlier_forecasts import EarlierForecasts, chunks
from assets.forecasting.calibration.outcomes import known_outcomes, log_closes
from assets.forecasting.filters import FORECAST_FILTER, ForecastFilter
from assets.forecasting.forecaster import ForecastTask
from assets.market.history import BarHistory, stored_histories
from resources.calendar import TradingCalendar
from resources.layout import Home
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
    def shape(self) -> tuple[int, int]:
        """The numbers of steps and levels of a forecast."""
        return self._steps, len(self._levels)

    @property
    def home(self) -> Home:
        """Where the forecasts are stored."""
        return Home(self._settings.home)

    def contents(self, base: Base) -> pd.DataFrame:
        """The content of the stored forecasts of a model: columns origin, checkpoint, rows and content, by origin."""
        if base not in self._contents:
            named: dict[str, object] = {"model": base.model, "checkpoints": list(base.checkpoints)}
            self._contents[base] = self.warehouse.frame(load_sql(__package__, "contents.sql"), named)
        return self._contents[base]

    @cached_property
    def _contents(self) -> dict[Base, pd.DataFrame]:
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

    def kept(self, base: Base, first: int) -> tuple[int, np.ndarray] | None:
        """The quantiles of the earlier forecasts of a model from row `first` of `keys_of` on, or from an earlier row,
        and that row; read once for all models that are derived from it. None: they are too many to stay in memory."""
        known = self._kept.get(base)
        if known is None or known[0] > first:
            keys = self.keys_of(base).iloc[first:]
            shape = (len(keys), self._steps, len(self._levels))
            others = sum(values.size for one, (_, values) in self._kept.items() if one != base)
            if others + int(np.prod(shape)) > VALUES_KEPT:
                return None
            found = np.empty(shape)
            origins, symbols = keys["origin"].to_numpy().astype("datetime64[s]"), keys["symbol"].to_numpy(dtype=object)
            for rows in chunks(origins, self.forecasts_at_once):
                own = keys["checkpoint"].iloc[rows]
                found[rows] = self.quantiles(base.model, own, origins[rows], symbols[rows])
            self._kept[base] = first, found
        return self._kept[base]

    @cached_property
    def _kept(self) -> dict[Base, tuple[int, np.ndarray]]:
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
        targets = np.stack([self.following(origin) for origin in unique])[place]
        return (*known_outcomes(origins, symbols, targets, histories), targets)

    def following(self, origin: np.datetime64) -> np.ndarray:
        """The targets of an origin, (steps,) datetime64[s]."""
        if origin not in self._targets:
            self._targets[origin] = self.calendar.following(origin, self._steps)
        return self._targets[origin]
