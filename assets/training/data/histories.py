"""The histories that training windows are built from: bars of the own source, with events marked and gaps filled."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from assets.forecasting.cross_section import MarketReturns, market_of
from assets.market.events import with_events
from assets.market.gaps import GapFill
from assets.market.history import BarHistory, own_histories
from resources.candlecast import Candlecast
from resources.errors import CandlecastError
from resources.settings import Settings
from resources.warehouse import Warehouse


def training_histories(settings: Settings, warehouse: Warehouse, last: date | None = None) -> Mapping[str, BarHistory]:
    """Histories by symbol, prepared.

    Args:
        last: the newest session that is read, so that nothing later has an influence; none: all.
    """
    return prepared(own_histories(settings, warehouse, last), settings, warehouse)


def training_market(settings: Settings, warehouse: Warehouse) -> MarketReturns | None:
    """The market returns up to the cutoff, as forecasts read them; None: no model reads them.

    They are of all symbols of the settings, of bars that are not prepared, those before the training range included.
    """
    if "market_return" not in settings.chronos2.past_covariates:
        return None
    return market_of(own_histories(settings, warehouse, settings.windows.cutoff).values())


def require_bars_before(vintage: date, candlecast: Candlecast) -> None:
    """Refuse to train a vintage before the last session that it is trained on has bars.

    Raises:
        CandlecastError: with that session and the newest one that has bars.
    """
    last = candlecast.calendar.covered_sessions(*candlecast.settings.windows.validation)[-1]
    newest: date | None = candlecast.warehouse.rows("SELECT max(session) AS newest FROM bars")[0]["newest"]
    if newest is None or newest < last:
        raise CandlecastError(
            f"the vintage {vintage} is trained on bars up to {last}, and the newest bar is of {newest}: ingest the "
            "bars first, `candlecast run` does both"
        )


def prepared(histories: Mapping[str, BarHistory], settings: Settings, warehouse: Warehouse) -> Mapping[str, BarHistory]:
    """Histories with events marked and gaps filled, as `windows.events` and `windows.fill` say."""
    if settings.windows.events != "keep":
        histories = with_events(histories, warehouse, settings.market.frequency)
    fill = GapFill.of(settings)
    return {name: fill.apply(one) for name, one in histories.items()}
