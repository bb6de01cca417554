"""The trading-session partitions that all stages share.

https://docs.dagster.io/guides/build/partitions-and-backfills. Belongs here: which sessions have a partition, and which
of them a run covers. Not here: the calendar itself (resources.calendar, resources.session_dates).
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import date, datetime, timedelta

import dagster as dg

from resources.errors import CandlecastError
from resources.layout import Home
from resources.session_dates import session_dates
from resources.settings import Settings

KEY_FORMAT = "%Y-%m-%d"
# Dagster's tags of a run over a range of partitions.
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
# How far ahead closed days are known to the partitions: longer than a server goes without a restart.
AHEAD = timedelta(days=180)
DAY = timedelta(days=1)


def session_partitions(settings: Settings, home: Home | None = None) -> dg.DailyPartitionsDefinition:
    """One partition per session, from `market.start` to `market.end`, or to the newest closed session.

    In UTC the partition of session D appears at 00:00 after it, the same evening in New York. Where the calendar
    begins later or ends sooner than the settings, so do the partitions.

    Args:
        home: where the calendar's dates are kept between processes; none: they are computed.

    Raises:
        CandlecastError: the calendar has no session in the settings' range.
    """
    market = settings.market
    wanted = market.end or date.today() + AHEAD
    covered = session_dates(market.calendar, wanted, home)
    first, last = max(market.start, covered[0]), min(wanted, covered[-1])
    if last < first:
        raise CandlecastError(
            f"calendar {market.calendar} has no session in {market.start} … {wanted}: set market.start and market.end "
            "to days that it covers, or another market.calendar"
        )
    ends = market.end is not None or last < wanted
    sessions = covered[bisect_left(covered, first) : bisect_right(covered, last)]
    return dg.DailyPartitionsDefinition(
        start_date=first.strftime(KEY_FORMAT),
        end_date=(last + DAY).strftime(KEY_FORMAT) if ends else None,
        exclusions=_closed_days(sessions, first, last) or None,
    )


def _closed_days(sessions: Sequence[date], first: date, last: date) -> list[str | datetime]:
    """The days without a session: weekdays that never have one as cron strings, and single days of the others."""
    closed_weekdays = sorted(set(range(7)) - {day.weekday() for day in sessions})
    days = (first + DAY * number for number in range((last - first).days + 1))
    closed = sorted({day for day in days if day.weekday() not in closed_weekdays} - set(sessions))
    # cron counts weekdays from Sunday, Python from Monday.
    weekly = [f"0 0 * * {(day + 1) % 7}" for day in closed_weekdays]
    return [*weekly, *(datetime(day.year, day.month, day.day) for day in closed)]


def sessions_of(context: dg.AssetExecutionContext) -> list[date]:
    """The sessions that a run covers, oldest first.

    Raises:
        CandlecastError: the run has no partition.
    """
    if not context.has_partition_key and not context.has_partition_key_range:
        chosen = json.dumps({RANGE_START: "2013-02-25", RANGE_END: "2013-03-01"})
        raise CandlecastError(
            f"{context.job_name}: no sessions were chosen. Choose partitions in the UI, or name the first and the last "
            f"session in the run's tags: --tags '{chosen}'"
        )
    return sorted(date.fromisoformat(key) for key in context.partition_keys)
