"""Names of columns as exporters and vendors write them: one table per role, and what a name states of zone and unit."""

from __future__ import annotations

import re
from zoneinfo import available_timezones

from resources.errors import CandlecastError

# In order of preference; compared in lower case, letters and digits only, without a stated zone or unit.
_CRYPTO = ("btc", "eth", "ltc", "xrp", "bnb", "sol", "doge", "ada", "dot", "trx", "link", "bch", "avax")
_MONEY = ("usd", "usdt", "usdc", "busd", "fdusd", "tusd", "eur", "gbp", "jpy", "krw", "cny")
ALIASES: dict[str, tuple[str, ...]] = {
    "symbol": (
        *("symbol", "ticker", "instrument", "code", "sym", "tic", "uniqueid", "secid", "stock", "asset", "代码"),
        *("tscode", "stockcode", "securitycode", "secucode", "tradingsymbol", "tckrsymb", "pair", "windcode"),
        *("股票代码", "证券代码", "合约代码", "合约", "종목코드", "コード", "銘柄コード", "symbols", "tickers"),
        *("name", "instrumentid", "productid", "stocksymbol", "instrumentname", "證券代號", "wertpapier"),
    ),
    "date": (
        *("date", "timestamp", "datetime", "tradedate", "tradingday", "session", "ts", "day", "time", "opentime"),
        *("timestamps", "candlebegintime", "traddt", "tradingdate", "tradetime", "barstarttime", "barstart"),
        *("dt", "t", "日期", "时间", "交易日期", "交易时间", "日期时间", "交易日", "date1", "unix", "unixtime"),
        *("tradedt", "datum", "fecha", "data", "기준일", "일자", "날짜", "日付", "日時"),
        *("unixtimestamp", "epoch", "localtime", "pricedate", "utc", "gmt", "unnamed0", "indexlevel0"),
        *("windowstart", "tsevent", "dtyyyymmdd", "exchangedate", "datadate", "日付け"),
    ),
    "open": (
        *("open", "openprice", "priceopen", "pxopen", "openpx", "o", "开盘", "开盘价", "opnpric"),
        *("eröffn", "eröffnung", "erster", "시가", "始値", "開盤價"),
    ),
    "high": (
        *("high", "highprice", "pricehigh", "pxhigh", "highpx", "max", "h", "最高", "最高价", "hghpric"),
        *("hoch", "고가", "高値", "最高價"),
    ),
    "low": (
        *("low", "lowprice", "pricelow", "pxlow", "lowpx", "min", "l", "最低", "最低价", "lwpric"),
        *("tief", "저가", "安値", "最低價"),
    ),
    "close": (
        *("close", "closeprice", "priceclose", "pxclose", "last", "pxlast", "c", "收盘", "收盘价", "clspric"),
        *("closelast", "closinglevel", "closepx", "zuletzt", "종가", "終値", "price"),
        *("schluss", "schlusskurs", "收盤價"),
    ),
    "amount": (
        *("amount", "amt", "quotevolume", "dollarvolume", "money", "成交额", "成交金额", "tottrdval", "ttltrfval"),
        *("quoteassetvolume", "quotevol", "tradedvalue", "totaltradedvalue", "tradingvalue", "turnovervalue"),
        *("totalturnoverrs", "거래대금", "売買代金", "turnoverrs", "turnoverlacs"),
        *(*(f"volume{money}" for money in _MONEY), "turnover", "成交金額", "volumen"),
    ),
    "volume": (
        *("volume", "vol", "totalvolume", "tradedvolume", "v", "成交量", "总手", "tottrdqty", "ttltradgvol"),
        *("totaltradedquantity", "totaltradequantity", "tradedquantity", "noofshares", "sharestraded", "sharevolume"),
        *("basevolume", "volumetraded", "tradingvolume", "pxvolume", *(f"volume{coin}" for coin in _CRYPTO)),
        *("ttltrdqnty", "거래량", "出来高", "stuecke", "stücke", "成交股數", "volumen"),
        *("quantity", "qty", "realvolume", "tickvol", "tickvolume"),
    ),
    "dividend": (*("dividend", "dividends", "divamount", "divcash", "cashdividend", "dividendamount", "exdividend"),),
    "split": ("split", "splits", "stocksplits", "splitfactor", "splitratio", "splitcoefficient"),
    "adj_close": ("adjclose", "adjustedclose", "closeadj", "closeadjusted", "adjustedcloseprice"),
    "factor": ("factor", "adjfactor", "hfqfactor", "adjustfactor", "adjustmentfactor", "cumfactor", "复权因子"),
    "series": ("series", "sctysrs"),
}
# Names of another meaning elsewhere: used where the values agree with the role (payload_rows).
CONDITIONAL = {"symbol": frozenset({"name"}), "amount": frozenset({"turnover"})}
# Names that have a role only beside a column of one of the others: pieces tell that "Volumen" is money.
BESIDE = {("amount", "volumen"): frozenset({"stuecke", "stücke"})}
# Names of a time column beside a date column; both together are the timestamp.
CLOCKS = ("time", "clock", "tradetime", "时间", "交易时间")
DAYS = ("date", "tradedate", "tradingdate", "tradingday", "day", "日期", "交易日期", "交易日")

UNITS = {
    "手": 100.0,
    "lots": 100.0,
    "lot": 100.0,
    "百股": 100.0,
    "千股": 1e3,
    "万股": 1e4,
    "千元": 1e3,
    "万元": 1e4,
    "千": 1e3,
    "万": 1e4,
    "亿": 1e8,
    "亿元": 1e8,
    "thousands": 1e3,
    "thousand": 1e3,
    "millions": 1e6,
    "million": 1e6,
    "mn": 1e6,
    "lacs": 1e5,
    "lakhs": 1e5,
    "crores": 1e7,
    "股": 1.0,
    "元": 1.0,
    "份": 1.0,
}
_UNIT = re.compile(
    r"[(（\[]\s*([^()（）\[\]]+?)\s*[)）\]]\s*$|_(lacs|lakhs|crores|lots|thousands|millions)$", re.IGNORECASE
)
_OFFSET = re.compile(r"(gmt|utc)(?:\s*([+-])(\d{1,2})(?::?(\d{2}))?)?", re.IGNORECASE)
_PLACE = re.compile(r"[A-Za-z]+/[A-Za-z_]+(?:/[A-Za-z_]+)?")
# Of one meaning.
_SHORT_ZONES = {
    "ET": "America/New_York",
    "JST": "Asia/Tokyo",
    "HKT": "Asia/Hong_Kong",
    "KST": "Asia/Seoul",
    "SGT": "Asia/Singapore",
    "MSK": "Europe/Moscow",
    "AWST": "Australia/Perth",
}
# Of several places, or open whether summer time is kept; an example by the names.
_UNCLEAR_ZONES_BY_EXAMPLE = {
    "America/New_York": "EST EDT",
    "America/Chicago": "CST CDT CT",
    "America/Denver": "MST MDT MT",
    "America/Los_Angeles": "PST PDT PT",
    "Europe/Lisbon": "WET WEST",
    "Europe/London": "BST",
    "Europe/Berlin": "CET CEST MET MEST MEZ MESZ",
    "Europe/Athens": "EET EEST",
    "Asia/Kolkata": "IST",
    "Australia/Sydney": "AEST AEDT AET",
    "Australia/Adelaide": "ACST ACDT",
    "Pacific/Auckland": "NZST NZDT NZT",
}
_UNCLEAR_ZONES = {name: example for example, names in _UNCLEAR_ZONES_BY_EXAMPLE.items() for name in names.split()}
# The last is a name in brackets that is not in the tables, such as (BRT).
_SHORT = re.compile(
    rf"(?<![A-Za-z])({'|'.join([*_SHORT_ZONES, *_UNCLEAR_ZONES])})(?![A-Za-z])|(?<=[(\[])\s*([A-Z]{{2,4}}T)\s*(?=[)\]])"
)


def plain_name(name: str, role: str = "") -> str:
    """The letters and digits of a name in lower case, without numbering, unit, and for dates the time zone."""
    name = re.sub(r"^\s*\d+\.\s*", "", name)
    if role == "date":
        # A column may be called just "UTC".
        name = _without_zone(name) if _letters(_without_zone(name)) else name
    elif unit_of_name(name) != 1 or (_unit(name) in UNITS):
        name = _UNIT.sub("", name)
    return _letters(name)


def _letters(name: str) -> str:
    return "".join(letter for letter in name.strip().lower() if letter.isalnum())


def unit_of_name(name: str) -> float:
    """The factor that a name states, as in 成交量(手); 1: none."""
    return UNITS.get(_unit(name), 1.0)


def _unit(name: str) -> str:
    found = _UNIT.search(name)
    return (found[1] or found[2] or "").lower() if found else ""


def zone_of_name(name: str, file: str) -> str | None:
    """The time zone that the name of a date column states, as in "Gmt time"; None: none.

    Raises:
        CandlecastError: it states a zone that has several meanings, or is not known.
    """
    if (found := _stated_offset(name)) is not None:
        sign, hours, minutes = found[2], found[3], found[4] or "00"
        return f"UTC{sign}{int(hours):02d}:{minutes}" if hours and int(hours + minutes) else "UTC"
    if (place := _PLACE.search(name)) and place[0] in available_timezones():
        return place[0]
    if short := _SHORT.search(name):
        zone = short[1] or short[2]
        if zone in _SHORT_ZONES:
            return _SHORT_ZONES[zone]
        raise CandlecastError(
            f"{file}: column {name!r}: the zone {zone} is not known or has several meanings: set market.timezone, e.g. "
            f'timezone = "{_UNCLEAR_ZONES.get(zone, "America/New_York")}", or "Etc/GMT+5" for five hours behind UTC '
            "all year"
        )
    return None


def _stated_offset(name: str) -> re.Match[str] | None:
    """GMT or UTC at the beginning or the end of a name."""
    for found in _OFFSET.finditer(name):
        rest = (name[: found.start()], name[found.end() :])
        if any(not any(letter.isalnum() for letter in part) for part in rest):
            return found
    return None


def _without_zone(name: str) -> str:
    if (found := _stated_offset(name)) is not None:
        return name[: found.start()] + name[found.end() :]
    return _SHORT.sub("", _PLACE.sub("", name))
