"""Which of the stored bars the settings select: those of `market.symbols` and of the profile's own source.

A home can hold bars of another source, as after `market.source` was changed. They stay stored, but training, forecasts,
scores and signals do not read them. A bar that both sources contain belongs to both, whichever its values are from.
"""

from __future__ import annotations

from resources.settings import Settings
from resources.warehouse import Warehouse

# The source of the files of a drop folder.
DROPPED = "files"
# A condition on a row of `bars`; $sources: null for all.
OWN_BARS = """($sources IS NULL OR list_contains($sources, source) OR (symbol, ts, frequency) IN (
    SELECT (symbol, ts, frequency) FROM bar_versions WHERE list_contains($sources, source) AND NOT withdrawn
))"""
_OTHERS = f"""
SELECT source, count(*) AS bars FROM bars
WHERE frequency = $frequency AND NOT {OWN_BARS} GROUP BY source ORDER BY source
"""
_SYMBOLS = f"SELECT DISTINCT symbol FROM bars WHERE frequency = $frequency AND {OWN_BARS} ORDER BY symbol"


def wanted_symbols(settings: Settings) -> list[str] | None:
    """The symbols of the settings in the warehouse's spelling, sorted; None: all symbols."""
    symbols = settings.market.symbols
    return None if symbols == "all" else sorted({stored_symbol(symbol) for symbol in symbols})


def stored_symbol(symbol: str) -> str:
    """A symbol in the warehouse's spelling: upper case, BTC/USDT as BTC-USDT."""
    return symbol.strip().upper().replace("/", "-")


def source_filter(settings: Settings, warehouse: Warehouse) -> list[str] | None:
    """The value of $sources in OWN_BARS: the sources of the settings; None where the home has bars of no other."""
    own = {settings.market.source, *([DROPPED] if settings.market.drop else [])}
    with warehouse.read() as connection:
        stored = {str(source) for (source,) in connection.execute("SELECT DISTINCT source FROM bars").fetchall()}
    return sorted(own) if stored - own else None


def own_symbols(settings: Settings, warehouse: Warehouse) -> list[str] | None:
    """The symbols of the settings; of `all`, those of the own source, or None where the home has bars of no other."""
    wanted, sources = wanted_symbols(settings), source_filter(settings, warehouse)
    if wanted is not None or sources is None:
        return wanted
    with warehouse.read() as connection:
        found = connection.execute(_SYMBOLS, {"frequency": settings.market.frequency, "sources": sources}).fetchall()
    return [str(symbol) for (symbol,) in found]


def bars_of_other_sources(settings: Settings, warehouse: Warehouse) -> dict[str, int]:
    """The number of bars by source that are stored and not used."""
    sources = source_filter(settings, warehouse)
    if sources is None:
        return {}
    with warehouse.read() as connection:
        found = connection.execute(_OTHERS, {"frequency": settings.market.frequency, "sources": sources}).fetchall()
    return {str(source): int(bars) for source, bars in found}
