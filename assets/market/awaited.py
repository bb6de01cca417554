"""Awaited bars: the symbols that should have bars in a session, so that a session that arrived in part is noticed.

A symbol is awaited in a session if `market.symbols` selects it, the file of members (if there is one) has it on that
day, and it has a bar in one of the 20 sessions with bars before it. A symbol before its first bar is not awaited, and
one that stopped trading is not awaited for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pandas as pd

from assets.market.selection import OWN_BARS, source_filter, wanted_symbols
from assets.market.universe import DELISTED_AFTER, read_universe
from resources.settings import Settings
from resources.sql import load_sql
from resources.warehouse import Warehouse


def awaited_bars(settings: Settings, warehouse: Warehouse, sessions: Sequence[date]) -> pd.DataFrame:
    """The awaited symbols of some sessions: columns session (date), symbol, newest (its newest bar there; NaT: none).

    Raises:
        CandlecastError: the members file is missing or invalid, or a symbol of `market.symbols` has no bars.
    """
    parameters: dict[str, object] = {
        "sessions": list(sessions),
        "frequency": settings.market.frequency,
        "symbols": wanted_symbols(settings),
        "sources": source_filter(settings, warehouse),
        "preceding": DELISTED_AFTER,
    }
    found = warehouse.frame(load_sql("assets.market", "awaited.sql").format(own_bars=OWN_BARS), parameters)
    found["session"] = found["session"].dt.date
    if settings.market.members is None or found.empty:
        return found
    universe = read_universe(settings, warehouse)
    members = {day: set(universe.members(day)) for day in set(found["session"])}
    inside = [symbol in members[day] for day, symbol in zip(found["session"], found["symbol"], strict=True)]
    return found[inside].reset_index(drop=True)
