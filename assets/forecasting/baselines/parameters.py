"""Estimated parameters of the baselines, stored in the home: made once per training range, and read by every run.

They are estimated on the bars of `windows.train`, of the symbols with enough of them, and kept while those bars are the
same: a symbol that is added later is forecast with them, and changes no forecast of the others. A correction of the
bars, another range or another vintage has other estimates. Not here: how they are estimated (garch, har),
and the forecasts (estimated).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assets.forecasting.baselines.garch import GarchLaw, log_returns, pooled_law
from assets.forecasting.baselines.har import MarketRanges, fit_har
from assets.forecasting.forecaster import market_recipe
from assets.forecasting.models.garch import LEAST_RETURNS
from assets.forecasting.volatility.regression import VolatilityWeights
from assets.market.history import BarHistory, read_histories
from assets.market.selection import OWN_BARS, own_symbols, source_filter
from resources.integrity import publish_kept_json, read_kept_json
from resources.layout import Home
from resources.publish import digest_of
from resources.settings import Settings
from resources.sql import load_sql
from resources.warehouse import Warehouse

VERSION = 1


@dataclass(frozen=True)
class Estimates:
    """The parameters of the estimated baselines. None: they could not be estimated."""

    garch: GarchLaw | None = None
    gjr_garch: GarchLaw | None = None
    har: VolatilityWeights | None = None

    def numbers(self, model: str) -> dict[str, Any] | None:
        """The parameters of one model as JSON values, which determine its forecasts."""
        found = getattr(self, model)
        if isinstance(found, VolatilityWeights):
            return {"weights": found.weights.tolist(), "shape": found.shape.tolist()}
        return asdict(found) if found is not None else None

    @classmethod
    def of_numbers(cls, numbers: Mapping[str, Any]) -> Estimates:
        """The estimates of the `numbers` of each model."""
        garch, gjr_garch, har = (numbers[model] for model in ("garch", "gjr_garch", "har"))
        return cls(
            GarchLaw(**garch) if garch else None,
            GarchLaw(**gjr_garch) if gjr_garch else None,
            VolatilityWeights(np.array(har["weights"]), np.array(har["shape"])) if har else None,
        )


def stored_estimates(settings: Settings) -> Estimates:
    """The estimates of the settings' training range; empty ones: none were made yet, or they were damaged."""
    stored = _read(settings)
    return Estimates.of_numbers(stored["numbers"]) if stored else Estimates()


def refresh_estimates(settings: Settings, warehouse: Warehouse) -> Estimates:
    """The estimates of the settings' training range, made where they are missing or the bars they were made of changed.

    They are kept while one of their symbols is among those of the settings. Nothing is stored while no symbol has
    LEAST_RETURNS returns in the range.
    """
    stored = _read(settings)
    used = list(stored["bars"]) if stored else []
    with warehouse.shared_reads():
        wanted = own_symbols(settings, warehouse)
        if stored and _any_in(used, wanted) and _fingerprints(settings, warehouse, used) == stored["bars"]:
            return Estimates.of_numbers(stored["numbers"])
    known = _fingerprints(settings, warehouse, wanted)
    symbols = [symbol for symbol, (bars, *_) in known.items() if int(bars) > LEAST_RETURNS]
    if not symbols:
        return Estimates()
    frequency, sources = settings.market.frequency, source_filter(settings, warehouse)
    histories = read_histories(warehouse, frequency, symbols, settings.windows.train[1], sources)
    made = estimate(settings, histories, read_market(settings, warehouse))
    content = {
        "bars": {symbol: known[symbol] for symbol in symbols},
        "numbers": {model: made.numbers(model) for model in ("garch", "gjr_garch", "har")},
    }
    publish_kept_json(_file(settings), content)
    return made


def estimate(settings: Settings, histories: Mapping[str, BarHistory], market: MarketRanges) -> Estimates:
    """The estimates of some histories on `windows.train`; later bars have no effect."""
    (first, last), steps = settings.windows.train, settings.windows.predict_window
    known = [one for one in (history.until(last) for history in histories.values()) if len(one) > LEAST_RETURNS]
    if not known:
        return Estimates()
    returns = {one.symbol: log_returns(one)[one.days[1:] >= np.datetime64(first)] for one in known}
    return Estimates(
        pooled_law(returns, False), pooled_law(returns, True), fit_har(known, market, (first, last), steps)
    )


def read_market(settings: Settings, warehouse: Warehouse) -> MarketRanges:
    """The ranges of the symbols of the settings, of all stored bars."""
    parameters = _parameters(settings, warehouse, own_symbols(settings, warehouse))
    with warehouse.read() as connection:
        found = connection.execute(_sql("market_ranges.sql"), parameters).fetchnumpy()
    bars = [np.ma.filled(np.ma.asarray(found[name], dtype=np.float64), np.nan) for name in ("high", "low")]
    return MarketRanges.of(np.asarray(found["ts"]).astype("datetime64[s]"), *bars)


def _any_in(used: list[str], wanted: list[str] | None) -> bool:
    return wanted is None or not set(wanted).isdisjoint(used)


def _fingerprints(settings: Settings, warehouse: Warehouse, symbols: list[str] | None) -> dict[str, list[str]]:
    """The number of bars of each symbol in the training range, and hashes of bars and actions."""
    first, last = settings.windows.train
    parameters = {**_parameters(settings, warehouse, symbols), "first": first, "last": last}
    with warehouse.read() as connection:
        rows = connection.execute(_sql("training_bars.sql"), parameters).fetchall()
    return {str(symbol): [str(one) for one in content] for symbol, *content in rows}


def _parameters(settings: Settings, warehouse: Warehouse, symbols: list[str] | None) -> dict[str, object]:
    return {
        "frequency": settings.market.frequency,
        "symbols": symbols,
        "sources": source_filter(settings, warehouse),
    }


def _sql(name: str) -> str:
    return load_sql(__package__, name).format(own_bars=OWN_BARS)


def _read(settings: Settings) -> dict[str, Any] | None:
    found: dict[str, Any] | None = read_kept_json(_file(settings), Home(settings.home).root)
    return found


def _file(settings: Settings) -> Path:
    first, last = settings.windows.train
    named = {"version": VERSION, "steps": settings.windows.predict_window, **market_recipe(settings.market)}
    return Home(settings.home).estimates / f"{first}_{last}-{digest_of(named)[:8]}.json"
