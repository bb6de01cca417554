"""The histories that training windows are built from: bars of the own source, with events marked and gaps filled."""

from __future__ import annotations

from collections.abc import Mapping

from assets.market.events import with_events
from assets.market.gaps import GapFill
from assets.market.history import BarHistory, read_histories
from assets.market.selection import source_filter, wanted_symbols
from resources.settings import Settings
from resources.warehouse import Warehouse


def training_histories(settings: Settings, warehouse: Warehouse) -> Mapping[str, BarHistory]:
    """Complete histories by symbol, prepared."""
    symbols, sources = wanted_symbols(settings), source_filter(settings, warehouse)
    histories = read_histories(warehouse, settings.market.frequency, symbols, sources=sources)
    return prepared(histories, settings, warehouse)


def prepared(histories: Mapping[str, BarHistory], settings: Settings, warehouse: Warehouse) -> Mapping[str, BarHistory]:
    """Histories with events marked and gaps filled, as `windows.events` and `windows.fill` say."""
    if settings.windows.events != "keep":
        histories = with_events(histories, warehouse, settings.market.frequency)
    fill = GapFill.of(settings)
    return {name: fill.apply(one) for name, one in histories.items()}
