"""The stored forecasts that derived models read, and their outcomes from the bars.

What several models read is read once: the models of an asset share a `StoredForecasts`, and declare what they read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa

from assets.forecasting.calibration.base_keys import Base, BaseKeys, read_base_keys
from assets.forecasting.calibration.earlier_forecasts import EarlierForecasts, chunks
from assets.forecasting.calibration.fingerprints import Fingerprints
from assets.forecasting.calibration.known_reads import KnownReads, known_reads
from assets.forecasting.calibration.outcomes import known_outcomes
from assets.forecasting.filters import ForecastFilter
from assets.forecasting.forecaster import ForecastKey, ForecastTask
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


class StoredForecasts:
    """The stored forecasts and the bars of one home, under some settings.

    Earlier forecasts are those from planned origins, of the symbols of the settings: which others a home holds, and
    which symbols a run is asked for, changes nothing.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._steps, self._levels = settings.windows.predict_window, settings.forecasts.levels
        self.calendar = TradingCalendar(settings.market.calendar, settings.market.frequency)
        # Ordered sets.
        self._bases, self._derived = dict[Base, None](), dict[str, None]()
        # The declared models with their checkpoints.
        self.declared = set[tuple[str, str]]()
        self._targets = dict[np.datetime64, np.ndarray]()
        self._earlier = dict[tuple[Base, ...], EarlierForecasts]()
        # The last origins and symbols, with the closes and outcomes from the bars of the home.
        self._outcomes: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None = None
        self.fingerprints = Fingerprints(self)

    def declare(self, model: str, checkpoint: str, bases: Sequence[Base]) -> None:
        """Name a model that is derived from others: what all such models read is read together."""
        self._derived[model] = None
        self.declared.add((model, checkpoint))
        self._bases |= dict.fromkeys(bases)

    def is_made_here(self, base: Base) -> bool:
        """Whether a base is itself a declared model: its forecasts may be made between two reads."""
        return base.model in self._derived

    def together(self, base: Base) -> list[Base]:
        """The bases that are read with one: all whose forecasts are there before those of the declared models."""
        others = [one for one in self._bases if not self.is_made_here(one)]
        return others if base in others else [base]

    def together_alone(self, base: Base) -> list[Base]:
        """As `together`, but for vintages: the quantiles of one are not read for another."""
        return self.together(base) if self._have_no_vintages else [base]

    def every_base(self, base: Base) -> list[Base]:
        """All bases, also those whose forecasts are still to be made; with vintages, `base` alone."""
        return list(self._bases) if self._have_no_vintages else [base]

    @property
    def _have_no_vintages(self) -> bool:
        return len(self._bases) == len({one.model for one in self._bases})

    @cached_property
    def known(self) -> KnownReads:
        """What was read already, by this asset or by another one before."""
        return known_reads(self._settings, self.warehouse)

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

    @property
    def symbols(self) -> np.ndarray:
        """The symbols with forecasts, sorted: (symbols,) text."""
        if self.known.symbols is None:
            with self.warehouse.read() as connection:
                found = connection.execute("SELECT DISTINCT symbol FROM forecasts").fetchall()
            self.known.symbols = np.array(sorted(symbol for (symbol,) in found), dtype=object)
        return self.known.symbols

    def earlier(self, bases: Sequence[Base]) -> EarlierForecasts:
        """All earlier forecasts of some models, as they are when they are first asked for."""
        named = tuple(bases)
        if named not in self._earlier:
            self._earlier[named] = EarlierForecasts(self, bases)
        return self._earlier[named]

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of steps and levels of a forecast."""
        return self._steps, len(self._levels)

    @property
    def home(self) -> Home:
        """Where the forecasts are stored."""
        return Home(self._settings.home)

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
        """The digest of the earlier forecasts, without their quantiles, and the closes up to a timestamp."""
        made = [self.fingerprints.of_keys(base, last).hex() for base in bases]
        return digest_of([made, self.fingerprints.of_closes(sorted(self.histories), last).hex()])

    def keys_of(self, base: Base) -> BaseKeys:
        """The earlier forecasts of a model: one per origin and symbol, by the last checkpoint that made one."""
        if base not in self.known.keys:
            several = [one for one in self.together(base) if one not in self.known.keys]
            self.known.keys |= read_base_keys(self.warehouse, several, self.symbols, self.filter)
        return self.known.keys[base]

    def kept(self, base: Base, keys: BaseKeys, first: int) -> tuple[int, np.ndarray] | None:
        """The quantiles of the earlier forecasts of a model from row `first` of `keys_of` on, or from an earlier row,
        and that row; read once for all models that are derived from it. None: they are too many to stay in memory, or
        `keys_of` it are others meanwhile."""
        if self.keys_of(base) is not keys:
            return None
        if self._lacks(base, first):
            origin = self.keys_of(base).origins[first]
            starts = {one: int(np.searchsorted(self.keys_of(one).origins, origin)) for one in self.together_alone(base)}
            if sum(len(self.keys_of(one).origins) - start for one, start in starts.items()) > self.forecasts_at_once:
                starts = {base: first}
            if not self._keep({one: start for one, start in starts.items() if self._lacks(one, start)}):
                return None
        return self.known.kept[base]

    def held_from(self, base: Base, keys: BaseKeys) -> int | None:
        """The row of `keys_of` a model from which on its quantiles are in memory; None: they are not, or `keys_of` it
        are others meanwhile."""
        known = self.known.kept.get(base)
        return None if known is None or self.keys_of(base) is not keys else known[0]

    def _lacks(self, base: Base, first: int) -> bool:
        """Whether not all quantiles of a model from a row of `keys_of` on are in memory."""
        known = self.known.kept.get(base)
        return known is None or known[0] > first

    def _keep(self, starts: Mapping[Base, int]) -> bool:
        """Read the earlier forecasts of some models from a row of `keys_of` on; False: they are too many."""
        keys = {base: self.keys_of(base) for base in starts}
        counts = [len(keys[base].origins) - start for base, start in starts.items()]
        others = sum(values.size for one, (_, values) in self.known.kept.items() if one not in starts)
        if others + sum(counts) * self._steps * len(self._levels) > VALUES_KEPT:
            return False
        models = np.repeat(np.array([base.model for base in starts], dtype=object), counts)
        checkpoints, origins, symbols = (
            np.concatenate([getattr(keys[base], name)[start:] for base, start in starts.items()])
            for name in ("checkpoints", "origins", "symbols")
        )
        found = np.empty((len(models), self._steps, len(self._levels)))
        # Several models are few forecasts.
        parts = chunks(origins, self.forecasts_at_once) if len(starts) == 1 else [slice(None)]
        for rows in parts:
            named = self.symbols[symbols[rows]]
            found[rows] = self.quantiles(models[rows], checkpoints[rows], origins[rows], named)
        ends = np.cumsum(counts)
        for (base, start), count, end in zip(starts.items(), counts, ends, strict=True):
            self.known.kept[base] = start, found[end - count : end]
        return True

    def newest(self, bases: Sequence[Base], keys: Sequence[ForecastKey]) -> np.ndarray:
        """The quantiles of some forecasts by the newest checkpoints of some models: (bases, n, steps, levels); NaN: not
        stored. Those of complete forecasts are kept, since the checks of a run ask for them again."""
        named = {base: (base.model, base.checkpoints[-1]) for base in bases}
        if len(keys) * len(self._bases) > self.forecasts_at_once:
            return np.stack([self._newest_of([one], keys)[0] for one in named.values()])
        # What is missing may be made meanwhile.
        known = self.known.newest

        def is_missing(pair: tuple[str, str]) -> bool:
            return any(key not in known.get(pair, ()) for key in keys)

        if any(map(is_missing, named.values())):
            every = ((one.model, one.checkpoints[-1]) for base in bases for one in self.together_alone(base))
            read = list(dict.fromkeys(filter(is_missing, every)))
            for one, values in zip(read, self._newest_of(read, keys), strict=True):
                complete = np.flatnonzero(np.isfinite(values).all(axis=(1, 2)))
                known[one] = {keys[int(row)]: values[row] for row in complete}
        nothing, found = np.full(self.shape, np.nan), [known.get(one, {}) for one in named.values()]
        return np.stack([np.stack([own.get(key, nothing) for key in keys]) for own in found])

    def _newest_of(self, pairs: Sequence[tuple[str, str]], keys: Sequence[ForecastKey]) -> np.ndarray:
        """The quantiles of some forecasts by each of some (model, checkpoint): (pairs, n, steps, levels)."""
        models, checkpoints = (np.repeat(np.array(part, dtype=object), len(keys)) for part in zip(*pairs, strict=True))
        symbols = np.array([symbol for symbol, _ in keys] * len(pairs), dtype=object)
        origins = np.array([origin for _, origin in keys] * len(pairs), dtype="datetime64[s]")
        return self.quantiles(models, checkpoints, origins, symbols).reshape(len(pairs), len(keys), *self.shape)

    def quantiles(
        self, models: np.ndarray, checkpoints: np.ndarray, origins: np.ndarray, symbols: np.ndarray
    ) -> np.ndarray:
        """Stored quantiles of the close of some forecasts, (n, steps, levels); NaN: not stored."""
        shape = (len(origins), self._steps, len(self._levels))
        values = np.full(shape, np.nan)
        if not len(origins):
            return values
        texts = {"model": models, "checkpoint": checkpoints, "symbol": symbols}
        wanted = pa.table({"number": np.arange(len(origins), dtype=np.int32), "origin": origins,
                           **{name: pa.array(part, pa.string()) for name, part in texts.items()}})  # fmt: skip
        parameters = {"first": origins.min().item(), "last": origins.max().item()}
        # DuckDB leaves out the blocks of other models.
        names = {f"model{place}": name for place, name in enumerate(sorted(set(models)))}
        own = " OR ".join(f"q.model = ${name}" for name in names)
        with self.warehouse.read() as connection:
            connection.register("wanted", wanted)
            sql = load_sql(__package__, "quantiles.sql").format(models=f"({own})")
            found = connection.execute(sql, parameters | names).fetchnumpy()
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
        others = {name: one for name, one in histories.items() if one is not self.histories.get(name)}
        rows = np.isin(symbols, list(others))
        if rows.all() or not self.histories.keys() <= histories.keys():
            return (*known_outcomes(origins, symbols, targets, histories), targets)
        # Most models have the same earlier forecasts; the check of look-ahead changes the bars of a few symbols.
        closes, outcomes = self._own_outcomes(origins, symbols, targets)
        if rows.any():
            closes, outcomes = closes.copy(), outcomes.copy()
            closes[rows], outcomes[rows] = known_outcomes(origins[rows], symbols[rows], targets[rows], others)
        return closes, outcomes, targets

    def _own_outcomes(
        self, origins: np.ndarray, symbols: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Those from the bars of the home; the last ones are kept."""
        if self._outcomes is None or not (
            np.array_equal(self._outcomes[0], origins) and np.array_equal(self._outcomes[1], symbols)
        ):
            self._outcomes = origins, symbols, *known_outcomes(origins, symbols, targets, self.histories)
        return self._outcomes[2:]

    def following(self, origin: np.datetime64) -> np.ndarray:
        """The targets of an origin, (steps,) datetime64[s]."""
        if origin not in self._targets:
            self._targets[origin] = self.calendar.following(origin, self._steps)
        return self._targets[origin]
