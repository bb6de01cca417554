"""Bars with an event that a model may be kept from learning: `windows.events`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from assets.market.history import BarHistory
from resources.warehouse import Warehouse

EVENT_FLAGS = ("after_suspension", "jump", "looks_like_split")
_EVENTS = """
SELECT symbol, ts FROM bars
WHERE frequency = $frequency AND (list_has_any(flags, $flags) OR coalesce(split, 1) <> 1)
ORDER BY symbol, ts
"""


def with_events(histories: Mapping[str, BarHistory], warehouse: Warehouse, frequency: str) -> dict[str, BarHistory]:
    """The histories with their events marked: flags `after_suspension`, `jump`, `looks_like_split`, and splits."""
    found = warehouse.frame(_EVENTS, {"frequency": frequency, "flags": list(EVENT_FLAGS)})
    stamps = {symbol: part["ts"].to_numpy().astype("datetime64[s]") for symbol, part in found.groupby("symbol")}
    none = np.array([], dtype="datetime64[s]")
    return {
        symbol: replace(history, events=np.isin(history.stamps, stamps.get(symbol, none)))
        for symbol, history in histories.items()
    }
