"""The trading-session partitions that every stage shares.

https://docs.dagster.io/guides/build/partitions-and-backfills. Belongs here: which sessions there are, and which of
them a run is about. Not here: the calendar itself (resources.calendar).
"""

from datetime import date, datetime, timedelta

import dagster as dg

from resources.calendar import TradingCalendar
from resources.settings import Settings

KEY_FORMAT = "%Y-%m-%d"
# The tags that make one run about a range of sessions.
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
WEEKENDS = ["0 0 * * 6", "0 0 * * 0"]


def session_partitions(settings: Settings, calendar: TradingCalendar) -> dg.DailyPartitionsDefinition:
    """One partition a session, from `market.start` to `market.end`, or to the newest that is over.

    In UTC session D appears at 00:00 after it, the same evening in New York.
    """
    first = settings.market.start
    last = settings.market.end or date.today() + timedelta(days=180)
    holidays = calendar.holidays(first, last)
    exclusions: list[str | datetime] = [] if calendar.name == "24/7" else [*WEEKENDS, *holidays]
    return dg.DailyPartitionsDefinition(
        start_date=first.strftime(KEY_FORMAT),
        end_date=(settings.market.end + timedelta(days=1)).strftime(KEY_FORMAT) if settings.market.end else None,
        exclusions=exclusions or None,
    )


def sessions_of(context: dg.AssetExecutionContext) -> list[date]:
    """The sessions that this run is about, oldest first."""
    return sorted(date.fromisoformat(key) for key in context.partition_keys)
