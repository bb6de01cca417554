"""The histories that training windows are built from: bars of the own source, with events marked and gaps filled."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import pandas as pd

from assets.market.events import with_events
from assets.market.gaps import GapFill
from assets.market.history import BarHistory, read_histories
from assets.market.selection import source_filter, wanted_symbols
from resources.candlecast import Candlecast
from resources.errors import CandlecastError
from resources.settings import Settings
from resources.warehouse import Warehouse


def training_histories(settings: Settings, warehouse: Warehouse, last: date | None = None) -> Mapping[str, BarHistory]:
    """Histories by symbol, prepared.

    Args:
        last: the newest session that is read, so that nothing later has an influence; none: all.
    """
    symbols, sources = wanted_symbols(settings), source_filter(settings, warehouse)
    histories = read_histories(warehouse, settings.market.frequency, symbols, last, sources)
    return prepared(histories, settings, warehouse)


def require_bars_before(vintage: date, candlecast: Candlecast) -> None:
    """Refuse to train a vintage before the last session that it is trained on has bars.

    Raises:
        CandlecastError: with that session and the newest one that has bars.
    """
    calendar, windows = candlecast.calendar, candlecast.settings.windows
    last = calendar.sessions(*calendar.within(*windows.validation))[-1].date()
    found = candlecast.warehouse.frame("SELECT max(session) AS newest FROM bars")["newest"][0]
    newest = None if pd.isna(found) else found.date()
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
