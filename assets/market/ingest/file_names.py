"""Whether the rows of a file fit what was left out of its name to get the symbol.

ES-2024-12 is a contract or a file of one month, ES_M5 a contract of June 2025 or five-minute bars: where the rows do
not decide, both readings and their settings are named. Not here: how a name is split (resources.sources.file_symbols).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pandas as pd

from assets.market.ingest.findings import Finding
from assets.market.ingest.payload_columns import PayloadColumns
from assets.market.ingest.payloads import Payload
from resources.sources.file_symbols import FileSymbol, file_symbol
from resources.sources.files import KEY, ending_of
from resources.sources.protocol import Reading
from resources.sources.text_header import UNKNOWN_ZONE

# M5 and H4 are frequencies of MetaTrader, and months of futures.
_MONTH_CODE = re.compile(r"[MH]\d{1,2}", re.IGNORECASE)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CODES = "fghjkmnquvxz"
# XBTUSD_60 of Kraken: a number that may be the frequency.
_NUMBER = re.compile(r"(.+?)[-_ ](\d{1,4})")
# Roots of futures have up to three characters.
_LONGEST_ROOT = 3
_ROWS = """
SELECT min(ts)::DATE, max(ts)::DATE,
       mode(gap) FILTER (gap > INTERVAL 0 SECOND)
FROM (
    SELECT ts, ts - lag(ts) OVER (ORDER BY ts) AS gap
    FROM (SELECT DISTINCT coalesce(local, instant) AS ts FROM received WHERE payload = $number AND NOT left_out)
)
"""


@dataclass(frozen=True)
class _Month:
    """The month in a file's name."""

    year: int
    month: int

    def contains(self, first: date, last: date) -> bool:
        return all((day.year, day.month) == (self.year, self.month) for day in (first, last))


def name_findings(
    connection: duckdb.DuckDBPyConnection, number: int, payload: Payload, columns: PayloadColumns, reading: Reading
) -> list[Finding]:
    """Both readings of a file name whose frequency or month may be part of the symbol, and an unknown zone."""
    if columns.header["date"] == UNKNOWN_ZONE and not (columns.zone or reading.timezone):
        return [_unknown_zone(number, columns.file), *_symbol_findings(connection, number, payload, columns, reading)]
    return _symbol_findings(connection, number, payload, columns, reading)


def _unknown_zone(number: int, file: str) -> Finding:
    message = (
        f"{file}: neither the file nor its name states the time zone of its timestamps, and the calendar's "
        'is assumed: set market.timezone, e.g. "UTC" (NinjaTrader, whose stamps end their bars), "Europe/Athens" (many '
        'MetaTrader servers) or "Etc/GMT+5" (HistData)'
    )
    return Finding(number, "warning", message)


def _symbol_findings(
    connection: duckdb.DuckDBPyConnection, number: int, payload: Payload, columns: PayloadColumns, reading: Reading
) -> list[Finding]:
    if "symbol" in columns.header or reading.symbol_from is not None:
        return []
    key = payload.request.key
    path = key.removeprefix(KEY) if key.startswith(KEY) else payload.request.file
    named = file_symbol(path, ending_of(Path(path)), None)
    first, last, gap = connection.execute(_ROWS, {"number": number}).fetchall()[0]
    if first is None:
        return []
    minutes = int(gap.total_seconds() // 60) if gap else 0
    if not named.frequencies and not named.dates:
        ending = _NUMBER.fullmatch(named.stem)
        is_minutes = ending and int(ending[2]) == _minutes_of(reading.frequency) == (minutes or int(ending[2]))
        return [_minutes_left(number, columns.file, ending)] if ending and is_minutes else []
    for part in named.frequencies:
        if _MONTH_CODE.fullmatch(part) and _minutes(part) not in (minutes, _minutes_of(reading.frequency)):
            return [_unclear(number, columns.file, named, f"bars of {part}", "error")]
    month = None if named.frequencies else _month(named.dates)
    if month and (len(named.symbol) <= _LONGEST_ROOT or not month.contains(first, last)):
        return [_unclear(number, columns.file, named, f"bars of {month.year}-{month.month:02d}", "error")]
    is_day = not named.frequencies and len("".join(named.dates)) == len("20241227")
    if is_day and len(named.symbol) <= _LONGEST_ROOT and first != last:
        return [_unclear(number, columns.file, named, "a file of that date", "warning")]
    return []


def _unclear(number: int, file: str, named: FileSymbol, other: str, severity: str) -> Finding:
    rest = named.stem.partition(named.symbol)[2]
    pattern = "{symbol}" + re.sub(r"[A-Za-z0-9.]+", "{part}", rest)
    message = (
        f"{file}: its symbol may be {named.symbol!r} ({other}) or {named.stem!r} (a contract): "
        f'set market.symbol_from = "{pattern}" for the first, "stem" for the second'
    )
    return Finding(number, "error" if severity == "error" else "warning", message, {"symbol_from": "stem"})


def _minutes_left(number: int, file: str, ending: re.Match[str]) -> Finding:
    symbol, part = ending[1], ending[2]
    pattern = f"{{symbol}}{ending[0][ending.end(1) : ending.start(2)]}{{minutes}}"
    message = (
        f"{file}: its symbol is read as {ending[0]!r}, and {part} is its frequency in minutes: set "
        f'market.symbol_from = "{pattern}" if the symbol is {symbol!r}, or "stem" if it is not'
    )
    return Finding(number, "warning", message, {"symbol_from": pattern})


def _month(dates: tuple[str, ...]) -> _Month | None:
    """The month that parts of a name state: 2024 12, 202412, Dec 2024, Z 2024; None: another date, or none."""
    if len(dates) == 1 and re.fullmatch(r"\d{6}", dates[0]):
        return _Month(int(dates[0][:4]), int(dates[0][4:]))
    if len(dates) != 2:
        return None
    one, two = dates
    if re.fullmatch(r"\d{4}", one) and re.fullmatch(r"\d{1,2}", two) and 1 <= int(two) <= 12:
        return _Month(int(one), int(two))
    if not re.fullmatch(r"\d{4}", two) or not one.isalpha():
        return None
    name = one.lower()
    return _Month(int(two), (_CODES.index(name) if len(name) == 1 else _MONTHS.index(name[:3])) + 1)


def _minutes(part: str) -> int:
    return int(part[1:]) * (60 if part[0] in "Hh" else 1)


def _minutes_of(frequency: str) -> int:
    return round(pd.Timedelta(frequency).total_seconds() / 60)
