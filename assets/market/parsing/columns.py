"""Recognition of columns: from their names in the header, or from `[market.columns]` in the settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resources.errors import CandlecastError
from resources.sources.protocol import ROW, UNPARSED

# Names used by exporters and vendors, in order of preference; compared in lower case, letters and digits only.
ALIASES: dict[str, tuple[str, ...]] = {
    "symbol": ("symbol", "ticker", "instrument", "code", "sym", "tic", "uniqueid", "secid", "stock", "asset", "代码"),
    "date": (
        *("date", "timestamp", "datetime", "tradedate", "tradingday", "session", "ts", "day", "time", "opentime"),
        *("dt", "t", "日期", "时间", "unnamed0", "indexlevel0"),
    ),
    "open": ("open", "openprice", "priceopen", "pxopen", "o", "开盘"),
    "high": ("high", "highprice", "pricehigh", "pxhigh", "max", "h", "最高"),
    "low": ("low", "lowprice", "pricelow", "pxlow", "min", "l", "最低"),
    "close": ("close", "closeprice", "priceclose", "pxclose", "last", "pxlast", "c", "收盘"),
    "volume": ("volume", "vol", "totalvolume", "tradedvolume", "v", "成交量"),
    "amount": ("amount", "amt", "turnover", "quotevolume", "dollarvolume", "money", "成交额"),
    "dividend": ("dividend", "dividends", "divamount", "divcash", "cashdividend", "dividendamount"),
    "split": ("split", "splits", "stocksplits", "splitfactor", "splitratio", "splitcoefficient"),
    "adj_close": ("adjclose", "adjustedclose", "closeadj", "closeadjusted", "adjustedcloseprice"),
    "factor": ("factor",),
}
# Names of a time column beside a date column; both together are the timestamp.
CLOCKS = ("time", "clock", "tradetime")
PRICES = ("open", "high", "low", "close")
REQUIRED = ("date", *PRICES)
NUMBERS = (*PRICES, "volume", "amount", "dividend", "split", "adj_close", "factor")


@dataclass(frozen=True)
class Columns:
    """Standard column name → name in the payload, and the name of a separate time column, if there is one."""

    names: Mapping[str, str]
    clock: str | None

    def __contains__(self, ours: str) -> bool:
        return ours in self.names


def read_header(header: Sequence[str], configured: Mapping[str, str], file: str, symbol: str | None) -> Columns:
    """Find the standard columns in the header of a payload.

    Args:
        configured: standard name → name in the file, from the settings. Takes precedence; must be in the header.
        symbol: symbol of all rows, if the payload needs no symbol column.

    Raises:
        CandlecastError: a column is missing or ambiguous.
    """
    offered = [name for name in header if name not in (ROW, UNPARSED)]
    names = _configured(offered, configured, file)
    free = [name for name in offered if name not in names.values()]
    for ours, aliases in ALIASES.items():
        if ours not in names and (found := _find(free, aliases, ours, file)) is not None:
            names[ours] = found
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise CandlecastError(
            f"{file}: no column for {', '.join(missing)}; the header has {', '.join(map(repr, offered))}. "
            f'Set it in the settings: [profiles.NAME.market.columns] {missing[0]} = "…"'
        )
    if "symbol" not in names and symbol is None:
        raise CandlecastError(f'{file}: no column for the symbol: set it in [market.columns] symbol = "…"')
    return Columns(names, _clock(free, names))


def _configured(offered: Sequence[str], configured: Mapping[str, str], file: str) -> dict[str, str]:
    for ours, theirs in configured.items():
        if ours not in ALIASES:
            raise CandlecastError(f"market.columns.{ours}: not a column of bars; allowed: {', '.join(ALIASES)}")
        if theirs not in offered:
            raise CandlecastError(
                f"{file}: no column {theirs!r} (market.columns.{ours}); the header has {', '.join(map(repr, offered))}"
            )
    return dict(configured)


def _find(free: Sequence[str], aliases: Sequence[str], ours: str, file: str) -> str | None:
    for alias in aliases:
        found = [name for name in free if _plain(name) == alias]
        if len(found) > 1:
            raise CandlecastError(
                f"{file}: {' and '.join(map(repr, found))} could both be {ours}: "
                f'set it in [market.columns] {ours} = "…"'
            )
        if found:
            return found[0]
    return None


def _clock(free: Sequence[str], names: Mapping[str, str]) -> str | None:
    found = [name for name in free if name not in names.values() and _plain(name) in CLOCKS]
    return found[0] if found and _plain(names["date"]) in ("date", "tradedate", "day", "日期") else None


def _plain(name: str) -> str:
    return "".join(letter for letter in name.strip().lower() if letter.isalnum())
