"""The symbol of a file without a symbol column, from its name or its folder.

File names of exporters carry the frequency, dates and the exporter's own words beside the symbol: BTCUSDT-1h-2024-12,
EURUSD_M5_202401020000_202412312355, AAPL.US. Those are left out unless `market.symbol_from` says otherwise.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from resources.errors import CandlecastError

_SEPARATORS = re.compile(r"(?:[-_, ]+)")
_FREQUENCY = r"(?:\d+\s?(?:s|m|h|d|w|mo|min|mins|minute|minutes|hour|hours|day|days|sec)|[mhdw]\d{1,3}|mn1?)"
_DATE = (
    r"(?:(?:19|20)\d{2}|(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:[0-3]\d(?:\d{4}(?:\d{2})?)?)?|"
    r"(?:19|20)\d{2}\.\d{2}\.\d{2}|\d{2}\.\d{2}\.(?:19|20)\d{2})"
)
_DECORATION = re.compile(f"(?:{_FREQUENCY}|{_DATE})", re.IGNORECASE)
# Investing.com's words after the symbol; Dukascopy's begin with "Candlestick".
_HISTORY = re.compile(r" historical data$", re.IGNORECASE)
# The parts of a date written with separators: 2024-12-31 is split into three.
_DATE_PART = re.compile(r"\d{1,2}")
_PREFIX = re.compile(r"dat|ascii|mt|ninjatrader|binance|coinbase|kraken|bitstamp|bitfinex|gemini|okx", re.IGNORECASE)
# More parts than an exporter leaves beside the symbol: a name that somebody chose.
_MOST_PARTS = 2
# Binance_BTCUSDT_d of CryptoDataDownload, "BINANCE_BTCUSDT, 60" of TradingView.
_AFTER_EXCHANGE = re.compile(r"[dhm]|\d{1,4}", re.IGNORECASE)
_LISTING = re.compile(r"\.us$", re.IGNORECASE)


def symbol_of(file: str, ending: str, rule: str | None) -> str:
    """The symbol of all rows of a file.

    Args:
        file: its path; `ending`: the end of its name that is no part of the symbol, such as ".csv.gz".
        rule: `market.symbol_from`.

    Raises:
        CandlecastError: the pattern does not match, or the file has no folder.
    """
    path = PurePath(file)
    stem = path.name.removesuffix(ending)
    if rule == "stem":
        return stem
    if rule == "folder":
        if path.parent.name in ("", ".."):
            raise CandlecastError(f'{file}: market.symbol_from = "folder", and the file is in no folder: name one')
        return path.parent.name
    return _undecorated(stem) if rule is None else _matched(path.parent / stem, rule, file)


def _matched(path: PurePath, pattern: str, file: str) -> str:
    parts = re.split(r"\{(\w+)\}", pattern)
    fields = [re.escape(part) if place % 2 == 0 else _field(part) for place, part in enumerate(parts)]
    found = re.search(f"(?:^|/){''.join(fields)}$", path.as_posix())
    if not found:
        raise CandlecastError(f"{file}: the name does not match market.symbol_from = {pattern!r}: correct the pattern")
    return found["symbol"]


def _field(name: str) -> str:
    return "(?P<symbol>[^/]+)" if name == "symbol" else "[^/]+"


def _undecorated(stem: str) -> str:
    """The name without a listing, and without exporters' prefixes, frequencies and dates at its ends."""
    stem = _HISTORY.sub("", stem)
    parts = _SEPARATORS.split(stem)
    first, last = 0, next((n for n, part in enumerate(parts) if n and part.lower() == "candlestick"), len(parts))
    while last - first > 1 and _is_decoration(parts, last - 1):
        last -= 1
    # A part of a date alone is no decoration: BRK-1 keeps it.
    while last < len(parts) and _DATE_PART.fullmatch(parts[last]):
        last += 1
    while last - first > 1 and _PREFIX.fullmatch(parts[first]):
        first += 1
    if first and last - first > 1 and _AFTER_EXCHANGE.fullmatch(parts[last - 1]):
        last -= 1
    if (first, last) == (0, len(parts)) or last - first > _MOST_PARTS:
        return _LISTING.sub("", stem)
    start = stem.index(parts[first], sum(len(part) for part in parts[:first]))
    end = start
    for part in parts[first:last]:
        end = stem.index(part, end) + len(part)
    return _LISTING.sub("", stem[start:end])


def _is_decoration(parts: list[str], place: int) -> bool:
    if _DECORATION.fullmatch(parts[place]):
        return True
    # Month and day after a year, or after another part of a date.
    before = [part for part in parts[:place] if not _DATE_PART.fullmatch(part)]
    return bool(_DATE_PART.fullmatch(parts[place]) and before and re.fullmatch(r"(?:19|20)\d{2}", before[-1]))
