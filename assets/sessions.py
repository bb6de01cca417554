"""The trading-session partitions that every stage shares.

https://docs.dagster.io/guides/build/partitions-and-backfills. Belongs here: which sessions there are, and which of
them a run is about. Not here: the calendar itself (resources.calendar).
"""

from datetime import date, datetime, timedelta

import dagster as dg
import pandas as pd

from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.settings import Settings

KEY_FORMAT = "%Y-%m-%d"
# The tags that make one run about a range of sessions.
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
# How far ahead closed days are known to the partitions: longer than a server goes without a restart.
AHEAD = timedelta(days=180)


def session_partitions(settings: Settings, calendar: TradingCalendar) -> dg.DailyPartitionsDefinition:
    """One partition a session, from `market.start` to `market.end`, or to the newest that is over.

    In UTC session D appears at 00:00 after it, the same evening in New York. Where the calendar begins later or ends
    sooner than the settings, so do the partitions.

    Raises:
        CandlecastError: the calendar knows no session of the settings' range.
    """
    first, wanted = settings.market.start, settings.market.end or date.today() + AHEAD
    first, last = calendar.within(first, wanted)
    if last < first:
        raise CandlecastError(
            f"calendar {calendar.name} knows no session in {settings.market.start} … {wanted}: set market.start and "
            "market.end to days that it covers, or another market.calendar"
        )
    ends = settings.market.end is not None or last < wanted
    return dg.DailyPartitionsDefinition(
        start_date=first.strftime(KEY_FORMAT),
        end_date=(last + timedelta(days=1)).strftime(KEY_FORMAT) if ends else None,
        exclusions=_closed(calendar.sessions(first, last), first, last) or None,
    )


def _closed(sessions: pd.DatetimeIndex, first: date, last: date) -> list[str | datetime]:
    """The days without a session: weekdays that never hold one, and single days of the others."""
    never = sorted(set(range(7)) - set(sessions.dayofweek))
    days = pd.date_range(first, last).difference(sessions)
    single = [day.to_pydatetime() for day in days[~days.dayofweek.isin(never)]]
    # cron counts weekdays from Sunday, pandas from Monday.
    return [*(f"0 0 * * {(day + 1) % 7}" for day in never), *single]


def sessions_of(context: dg.AssetExecutionContext) -> list[date]:
    """The sessions that this run is about, oldest first."""
    return sorted(date.fromisoformat(key) for key in context.partition_keys)
