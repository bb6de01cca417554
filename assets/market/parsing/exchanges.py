"""The exchange that symbols and names of columns suggest: suffixes, prefixes and pairs as vendors write them.

A suggestion is compared with the timestamps (assets.market.ingest.inference); it decides nothing alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from resources.sources.text_header import UNKNOWN_ZONE

_COINS = "BTC|XBT|ETH|LTC|XRP|BNB|SOL|DOGE|ADA|DOT|TRX|LINK|BCH|AVAX|MATIC|SHIB|UNI|ATOM|ETC|XLM|FIL|APT|ARB|OP|TON"
# Currencies of which a coin costs millions.
_SMALL_MONEY = "KRW|JPY|IDR|VND"
_MONEY = f"USD|EUR|GBP|CHF|AUD|CAD|NZD|CNH|HKD|SGD|SEK|NOK|MXN|ZAR|TRY|PLN|{_SMALL_MONEY}"
_METALS = "XAU|XAG|XPT|XPD"
# Of pairs quoted in such a currency, as BTC_KRW, USDIDR or Upbit's KRW-BTC.
LARGE_PRICES = (
    rf"(?i)(?:{_SMALL_MONEY})[-_/].+|.+[-_/](?:{_SMALL_MONEY})|"
    rf"(?:{_COINS}|{_MONEY}|{_METALS}|USDT|USDC)(?:{_SMALL_MONEY})(?:=X)?"
)
# Yahoo's suffixes, and Tushare's and Wind's.
_SUFFIXES_BY_CALENDAR = {
    "XSHG": "SS SZ SH XSHG XSHE BJ",
    "XHKG": "HK",
    "XTKS": "T",
    "XKRX": "KS KQ",
    "XTAI": "TW",
    "XSES": "SI",
    "XASX": "AX",
    "XNZE": "NZ",
    "XBOM": "NS BO",
    "XIDX": "JK",
    "XKLS": "KL",
    "XBKK": "BK",
    "XTAE": "TA",
    "XIST": "IS",
    "XLON": "L",
    "XETR": "DE",
    "XFRA": "F",
    "XPAR": "PA",
    "XAMS": "AS",
    "XBRU": "BR",
    "XLIS": "LS",
    "XMIL": "MI",
    "XMAD": "MC",
    "XSWX": "SW",
    "XWBO": "VI",
    "XSTO": "ST",
    "XCSE": "CO",
    "XOSL": "OL",
    "XHEL": "HE",
    "XDUB": "IR",
    "XTSE": "TO V",
    "BVMF": "SA",
    "XMEX": "MX",
    "XNYS": "US",
}
_SUFFIXES = {suffix: calendar for calendar, all_ in _SUFFIXES_BY_CALENDAR.items() for suffix in all_.split()}
_PATTERNS = (
    (re.compile(rf"(?:{_COINS})[-_/]?(?:{_MONEY}|BTC|ETH)(?:[-_].*)?", re.IGNORECASE), "24/7"),
    (re.compile(rf"(?:{_MONEY}|USDT|BTC)[-_/](?:{_COINS})", re.IGNORECASE), "24/7"),
    (re.compile(r"[A-Z0-9]{2,12}[-_/]?(?:USDT|USDC|BUSD|FDUSD|TUSD)(?:[-_:].*)?", re.IGNORECASE), "24/7"),
    (re.compile(rf"(?:{_MONEY}|{_METALS})[-_/]?(?:{_MONEY})(?:=X)?", re.IGNORECASE), "24/5"),
    (re.compile(r"(?:sh|sz|bj)[.]?\d{6}", re.IGNORECASE), "XSHG"),
    (re.compile(r"[A-Z0-9]{1,3}=F|[A-Z0-9]{1,3}[FGHJKMNQUVXZ]2\d"), "CMES"),
)
# HistData's files of currencies have no names but ours (resources.sources.text_header).
_FOREX_COLUMNS = frozenset({UNKNOWN_ZONE, "Date (UTC-5)", "TICKVOL", "<TICKVOL>"})
_LANGUAGES = (
    (re.compile("[\uac00-\ud7a3]"), "XKRX"),
    (re.compile("始値|終値|出来高|[\u3040-\u30ff]"), "XTKS"),
    (re.compile("開盤價|收盤價|成交股數"), "XTAI"),
)
_CHINESE_COLUMNS = re.compile(r"[\u4e00-\u9fff]|ts_code|pct_chg|preclose", re.IGNORECASE)


def suggested_calendars(symbols: Sequence[str], columns: Sequence[str], has_series: bool) -> list[str]:
    """Calendars that names suggest, the most suggested first.

    Args:
        symbols: some symbols; `columns`: the names in the header; `has_series`: whether there is a column of series,
            as in the files of the National Stock Exchange of India, which trades on the sessions of XBOM.
    """
    found = [calendar for symbol in symbols if (calendar := _of_symbol(symbol))]
    suggested = sorted(dict.fromkeys(found), key=found.count, reverse=True)
    suggested += [calendar for words, calendar in _LANGUAGES if any(words.search(name) for name in columns)]
    if any(_CHINESE_COLUMNS.search(name) for name in columns):
        suggested.append("XSHG")
    if not _FOREX_COLUMNS.isdisjoint(columns):
        suggested.append("24/5")
    if has_series:
        suggested.append("XBOM")
    return list(dict.fromkeys(suggested))


def _of_symbol(symbol: str) -> str | None:
    for pattern, calendar in _PATTERNS:
        if pattern.fullmatch(symbol):
            return calendar
    stem, _, suffix = symbol.rpartition(".")
    return _SUFFIXES.get(suffix.upper()) if stem else None
