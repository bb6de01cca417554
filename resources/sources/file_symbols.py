"""The symbol of a file without a symbol column, from its name or its folder.

File names of exporters carry the frequency, dates and the exporter's own words beside the symbol: BTCUSDT-1h-2024-12,
EURUSD_M5_202401020000_202412312355, AAPL.US. Those are left out unless `market.symbol_from` says otherwise. Names of
futures look alike: M5 is also June 2025, and ES-2024-12 a contract. What was left out is kept in `FileSymbol`, so that
the rows can be compared with it (assets.market.ingest.file_names).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

from resources.errors import CandlecastError

_SEPARATORS = re.compile(r"(?:[-_, ]+)")
_MONTH_NAMES = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
# MetaTrader's frequencies end with M1 … M30, H1 … H12, D1, W1, MN1: other such parts, as H25, are months of futures.
_FREQUENCY = (
    r"(?:\d+\s?(?:s|m|h|d|w|mo|min|mins|minute|minutes|hour|hours|day|days|sec)"
    r"|m(?:[1-6]|10|12|15|20|30)|h(?:[1-4]|6|8|12)|[dw]1|mn1?)"
)
_DATE = (
    r"(?:(?:19|20)\d{2}|(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:[0-3]\d(?:\d{4}(?:\d{2})?)?)?|"
    r"(?:19|20)\d{2}\.\d{2}\.\d{2}|\d{2}\.\d{2}\.(?:19|20)\d{2})"
)
_DECORATION = re.compile(f"(?:{_FREQUENCY}|{_DATE})", re.IGNORECASE)
_FREQUENCY_PART = re.compile(_FREQUENCY, re.IGNORECASE)
# Investing.com's words after the symbol; Dukascopy's begin with "Candlestick".
_HISTORY = re.compile(r" historical data$", re.IGNORECASE)
# The parts of a date written with separators: 2024-12-31 is split into three.
_DATE_PART = re.compile(r"\d{1,2}")
_PREFIX = re.compile(r"dat|binance|coinbase|kraken|bitstamp|bitfinex|gemini|okx", re.IGNORECASE)
# HistData's second word; MT alone is a symbol.
_AFTER_DAT = re.compile(r"ascii|mt|ninjatrader|nt|xlsx", re.IGNORECASE)
# More parts than an exporter leaves beside the symbol: a name that somebody chose.
_MOST_PARTS = 2
# Binance_BTCUSDT_d of CryptoDataDownload, "BINANCE_BTCUSDT, 60" of TradingView.
_AFTER_EXCHANGE = re.compile(r"[dhm]|\d{1,4}", re.IGNORECASE)
_LISTING = re.compile(r"\.us$", re.IGNORECASE)
# A month of a contract before a year: its name, or the code of futures.
_MONTH = re.compile(rf"(?:{_MONTH_NAMES})[a-z]*|[FGHJKMNQUVXZ]", re.IGNORECASE)
_YEAR = re.compile(r"(?:19|20)\d{2}")


@dataclass(frozen=True)
class FileSymbol:
    """The symbol in a file's name, and what was left out of the name.

    Attributes:
        stem: the whole name without its ending.
        frequencies: parts that were taken for frequencies, such as "M5".
        dates: parts that were taken for dates, such as "2024", "12".
    """

    symbol: str
    stem: str
    frequencies: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()


def symbol_of(file: str, ending: str, rule: str | None) -> str:
    """The symbol of all rows of a file.

    Args:
        file: its path; `ending`: the end of its name that is no part of the symbol, such as ".csv.gz".
        rule: `market.symbol_from`.

    Raises:
        CandlecastError: the pattern does not match, or the file has no folder.
    """
    return file_symbol(file, ending, rule).symbol


def file_symbol(file: str, ending: str, rule: str | None) -> FileSymbol:
    """`symbol_of`, with the parts of the name that are left out of the symbol."""
    path = PurePath(file)
    stem = path.name.removesuffix(ending)
    if rule == "stem":
        return FileSymbol(stem, stem)
    if rule == "folder":
        if path.parent.name in ("", ".."):
            raise CandlecastError(f'{file}: market.symbol_from = "folder", and the file is in no folder: name one')
        return FileSymbol(path.parent.name, stem)
    return _undecorated(stem) if rule is None else FileSymbol(_matched(path.parent / stem, rule, file), stem)


def _matched(path: PurePath, pattern: str, file: str) -> str:
    parts = re.split(r"\{(\w+)\}", pattern)
    fields = [re.escape(part) if place % 2 == 0 else _field(part) for place, part in enumerate(parts)]
    found = re.search(f"(?:^|/){''.join(fields)}$", path.as_posix())
    if not found:
        raise CandlecastError(f"{file}: the name does not match market.symbol_from = {pattern!r}: correct the pattern")
    return found["symbol"]


def _field(name: str) -> str:
    return "(?P<symbol>[^/]+)" if name == "symbol" else "[^/]+"


def _undecorated(whole: str) -> FileSymbol:
    """The name without a listing, and without exporters' prefixes, frequencies and dates at its ends."""
    stem = _HISTORY.sub("", whole)
    parts = _SEPARATORS.split(stem)
    first, end = 0, next((n for n, part in enumerate(parts) if n and part.lower() == "candlestick"), len(parts))
    last = end
    while last - first > 1 and _is_decoration(parts, last - 1):
        last -= 1
    # A part of a date alone is no decoration: BRK-1 keeps it.
    while last < end and _DATE_PART.fullmatch(parts[last]):
        last += 1
    while last - first > 1 and (_PREFIX if first == 0 else _AFTER_DAT).fullmatch(parts[first]):
        first += 1
    if first and last - first > 1 and _AFTER_EXCHANGE.fullmatch(parts[last - 1]):
        last -= 1
    # A month before a year belongs to it: ES_Z_2024, ES-Dec-2024.
    if last - first > 1 and last < end and _YEAR.fullmatch(parts[last]) and _MONTH.fullmatch(parts[last - 1]):
        last -= 1
    frequencies = tuple(part for part in parts[last:end] if _FREQUENCY_PART.fullmatch(part))
    # OKX's symbols have three parts: ETH-USDT-SWAP-1m-2024-01.
    if (first, last) == (0, len(parts)) or last - first > _MOST_PARTS + bool(frequencies):
        return FileSymbol(_LISTING.sub("", stem), whole)
    dates = tuple(part for part in parts[last:end] if part not in frequencies)
    return FileSymbol(_LISTING.sub("", _joined(stem, parts, first, last)), whole, frequencies, dates)


def _joined(stem: str, parts: list[str], first: int, last: int) -> str:
    """The part of a name from one of its parts to another, with the separators between them."""
    start = stem.index(parts[first], sum(len(part) for part in parts[:first]))
    end = start
    for part in parts[first:last]:
        end = stem.index(part, end) + len(part)
    return stem[start:end]


def _is_decoration(parts: list[str], place: int) -> bool:
    if _DECORATION.fullmatch(parts[place]):
        return True
    # Month and day after a year, or after another part of a date.
    before = [part for part in parts[:place] if not _DATE_PART.fullmatch(part)]
    return bool(_DATE_PART.fullmatch(parts[place]) and before and re.fullmatch(r"(?:19|20)\d{2}", before[-1]))
