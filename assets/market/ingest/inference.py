"""Frequency, calendar and time zone of a file that no settings describe, from its timestamps.

Belongs here: a guess with its evidence, for `candlecast inspect` and `candlecast init`. Not here: what contradicts
stated settings (findings): an ingest never guesses these three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from assets.market.ingest.contract import create_received
from assets.market.ingest.payload_rows import receive
from assets.market.ingest.understanding import fetch
from assets.market.parsing.exchanges import suggested_calendars
from resources.calendar import DAILY, TradingCalendar
from resources.errors import CandlecastError
from resources.publish import scratch_folder
from resources.settings import MarketSettings
from resources.sources.registry import reading_of

# Compared in this order; the first that the timestamps fit is taken.
CALENDARS = ("XNYS", "XSHG", "XHKG", "XLON", "XETR", "XTKS", "XBOM", "XKRX", "24/5", "24/7")
_ZONES = {"24/5": ("UTC", "Europe/Athens", "America/New_York")}
# Intraday grids are compared on the last sessions alone; fewer timestamps decide nothing.
_SESSIONS = 20
# Good enough to try no other calendar. Tokyo's half-hours fit Hong Kong's but for a tenth of its bars.
_GOOD = 0.02
# A zone other than the exchange's must be clearly better.
_OTHER_ZONE = 0.1
_POOR = 0.5
_MINUTE = 60
# Daily bars are 23 hours apart where clocks change.
_LONGEST_INTRADAY = 12 * 3600
_STAMPS = """
SELECT DISTINCT local, instant FROM received
WHERE NOT unparsed AND coalesce(instant, local) IS NOT NULL AND problem IS NULL ORDER BY ALL
"""
# The most frequent distance of rows within a session, of two as frequent the longer one, as in sessions with a half
# hour at their ends; and the shortest that is no exception.
_GAP = """
WITH gaps AS (
    SELECT gap, count(*) AS rows, sum(count(*)) OVER () AS total
    FROM (SELECT epoch(ts - lag(ts) OVER (PARTITION BY symbol ORDER BY ts))::BIGINT AS gap
          FROM (SELECT DISTINCT symbol, coalesce(instant, local) AS ts FROM received))
    WHERE gap IS NOT NULL GROUP BY gap
)
SELECT arg_max(gap, (if(gap <= $longest, rows, 0), if(rows >= 3, gap, -gap))), min(gap)
FROM gaps WHERE rows >= 0.05 * total
"""
_SYMBOLS = (
    "SELECT symbol FROM received WHERE symbol IS NOT NULL GROUP BY symbol ORDER BY count(*) DESC, symbol LIMIT 20"
)


@dataclass(frozen=True)
class InferredMarket:
    """The guess, and why it may be wrong.

    Attributes:
        settings: of the section [market]: calendar, frequency, and timezone where it is not the exchange's.
        notes: what the file does not decide, as text.
    """

    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Fit:
    """How far the timestamps are from those of a calendar: the share outside of it, and with missing bars; 0: none."""

    calendar: str
    timezone: str | None
    outside: float
    missing: float

    @property
    def cost(self) -> float:
        return 2 * self.outside + self.missing + (_OTHER_ZONE if self.timezone else 0)


def infer_market(file: Path, stated: Mapping[str, Any], scratch: Path, name: str = "") -> InferredMarket:
    """Guess calendar, frequency and time zone of a file.

    Args:
        stated: keys of the section [market] that are known; they are not guessed.
        name: of the file in messages; empty: its name without folders.

    Raises:
        CandlecastError: the file cannot be read; the message names the setting.
    """
    # The order of day and month is inferred from sessions: those of all exchanges are from Monday to Friday.
    market = MarketSettings.model_validate({"calendar": "24/5", **stated, "source": "files", "path": "*"})
    reading = replace(reading_of(market), frequency=stated.get("frequency", "1min"))
    with scratch_folder(scratch) as folder, duckdb.connect() as connection:
        payload, parquet = fetch(file, reading, folder, name)
        create_received(connection, TradingCalendar(reading.calendar))
        columns = receive(connection, 0, payload, parquet, reading)
        frequencies = [stated["frequency"]] if stated.get("frequency") else _frequencies(connection)
        stamps = connection.execute(_STAMPS).df()
        symbols = [symbol for (symbol,) in connection.execute(_SYMBOLS).fetchall()]
    names = [*columns.header.values(), *columns.ignored]
    suggested = suggested_calendars(symbols, names, "series" in columns.header)
    candidates = [*suggested, *(name for name in CALENDARS if name not in suggested)]
    if stated.get("calendar"):
        candidates = [str(stated["calendar"])]
    zone = columns.zone or stated.get("timezone")
    fits = {frequency: _best_fit(stamps, candidates, suggested, frequency, zone) for frequency in frequencies}
    frequency = min(fits, key=lambda one: (fits[one].outside > _GOOD, fits[one].cost))
    fit = fits[frequency]
    is_sure = fit.calendar == stated.get("calendar") or (fit.calendar in suggested and fit.outside == 0)
    is_sure = is_sure or (len(stamps) > _SESSIONS and fit.cost < _POOR)
    settings: dict[str, Any] = {"calendar": fit.calendar, "frequency": frequency}
    note = f"calendar {fit.calendar}: assumed, the timestamps of the file do not decide it: check it"
    notes = [] if is_sure else [note]
    if frequency != frequencies[0]:
        settings |= {"frequency": DAILY, "resample": True}
        notes.append(
            f"frequency: bars on clock hours, {frequencies[0]} apart with shorter ones, do not fit the bars of "
            f"{fit.calendar}: market.resample = true makes daily bars of them"
        )
    if fit.timezone and not zone:
        settings["timezone"] = fit.timezone
    return InferredMarket(settings, tuple(notes))


def _frequencies(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The distance of the rows of a symbol, and the shorter one of some, if it divides that."""
    usual, shortest = connection.execute(_GAP, {"longest": _LONGEST_INTRADAY}).fetchall()[0]
    gaps = [usual, shortest] if usual and usual % shortest == 0 else [shortest]
    return list(dict.fromkeys(map(_frequency, gaps)))


def _frequency(gap: int | None) -> str:
    """The frequency of rows that are so many seconds apart; most of a day or more: daily."""
    if not gap or gap > _LONGEST_INTRADAY:
        return DAILY
    minutes = max(1, round(gap / _MINUTE))
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}min"


def _best_fit(
    stamps: pd.DataFrame, candidates: Sequence[str], suggested: Sequence[str], frequency: str, zone: str | None
) -> _Fit:
    """The calendar and zone with the fewest rows outside and the fewest bars missing."""
    unknown = _Fit(candidates[0], None, 1.0, 1.0)
    if stamps.empty:
        return unknown
    fits: list[_Fit] = []
    for name in candidates:
        calendar = TradingCalendar(name, frequency)
        for other in _zones(calendar, stamps, zone):
            # A calendar may not reach that far.
            with suppress(CandlecastError):
                fits.append(_Fit(name, other, *_distance(stamps, calendar, other or zone)))
        best = min((fit for fit in fits if fit.calendar == name), key=lambda fit: fit.cost, default=unknown)
        if best.cost <= _GOOD or (name in suggested and best.outside == 0):
            return best
    return min(fits, key=lambda fit: fit.cost, default=unknown)


def _zones(calendar: TradingCalendar, stamps: pd.DataFrame, stated: str | None) -> Sequence[str | None]:
    """Time zones to try for timestamps without one; None: that of the exchange, or the stated one."""
    if stated or calendar.is_daily or len(stamps) <= _SESSIONS or stamps["instant"].notna().all():
        return (None,)
    others = _ZONES.get(calendar.name, ("UTC",))
    return (None, *(zone for zone in others if zone != calendar.timezone))


def _distance(stamps: pd.DataFrame, calendar: TradingCalendar, zone: str | None) -> tuple[float, float]:
    """The share of timestamps that are none of the calendar's, and the share of its bars that are missing."""
    if calendar.is_daily:
        days = _days(stamps, calendar)
        sessions = calendar.sessions(*calendar.within(days.min().date(), days.max().date()))
        missing = 1 - sessions.isin(days).mean() if len(sessions) else 1
        return float(1 - days.isin(sessions).mean()), float(missing)
    moments = _moments(stamps, zone or calendar.timezone)
    newest = np.unique(moments.to_numpy().astype("datetime64[D]"))[-_SESSIONS:]
    moments = moments[moments >= newest[0]]
    grid = calendar.grid(moments.min().date(), moments.max().date())
    if grid.empty:
        return 1.0, 1.0
    # A timestamp may be the start of its bar, or its end.
    outside = min(1 - moments.isin(grid[edge]).mean() for edge in ("ts", "closes_at"))
    on_days = grid[grid["ts"].dt.normalize().isin(newest)]
    seen = max(on_days[edge].isin(moments).mean() for edge in ("ts", "closes_at")) if len(on_days) else 0
    return float(outside), float(1 - seen)


def _days(stamps: pd.DataFrame, calendar: TradingCalendar) -> pd.DatetimeIndex:
    """The sessions of daily bars: the date as written, or the day at the exchange of an instant."""
    local, instant = stamps["local"], stamps["instant"]
    at_exchange = instant.dt.tz_localize("UTC").dt.tz_convert(calendar.timezone).dt.tz_localize(None)
    is_date = instant.isna() | (local == local.dt.normalize())
    return pd.DatetimeIndex(local.where(is_date, at_exchange).dt.normalize().unique())


def _moments(stamps: pd.DataFrame, zone: str) -> pd.Series:
    """Timestamps in UTC without a zone."""
    local = stamps["local"].dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    return stamps["instant"].fillna(local.dt.tz_convert("UTC").dt.tz_localize(None)).dropna().drop_duplicates()
