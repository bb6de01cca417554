"""The partitions that the stages share: trading sessions, and the vintages of the models.

https://docs.dagster.io/guides/build/partitions-and-backfills. Belongs here: which sessions and vintages have a
partition, which of them a run covers, and which vintage a session reads. Not here: the calendar itself
(resources.calendar, resources.session_dates), and what a vintage is (resources.vintages).
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg

from resources.errors import CandlecastError
from resources.kept_calendars import AHEAD
from resources.layout import Home
from resources.session_dates import market_sessions
from resources.settings import Settings
from resources.vintages import first_vintage, has_vintages, vintages_until

KEY_FORMAT = "%Y-%m-%d"
# Dagster's tags of a run over a range of partitions.
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
DAY = timedelta(days=1)
_BEGINS = {"year": "0 0 1 1 *", "quarter": "0 0 1 1,4,7,10 *", "month": "0 0 1 * *"}
# More than the vintages of any training range: a hundred years of months.
_ALL_EARLIER = -1200
Vintages = dg.TimeWindowPartitionsDefinition


class SessionPartitions(dg.DailyPartitionsDefinition):
    """Partitions by session whose keys are those of a list as far as that reaches. Dagster computes them from schedules
    and exclusions, again for every check and every unpartitioned asset that reads all: 0.1 s for twenty years."""

    def get_partition_keys(
        self, current_time: datetime | None = None, dynamic_partitions_store: Any = None
    ) -> Sequence[str]:
        """The keys of all sessions that are over, oldest first."""
        if current_time is not None:
            return super().get_partition_keys(current_time, dynamic_partitions_store)
        newest, known = self.get_last_partition_key(), vars(self)
        if not known.get("keys") or known["keys"][-1] != newest:
            sessions: Sequence[str] = known.get("sessions", ())
            end = bisect_right(sessions, newest or "")
            listed = end and sessions[end - 1] == newest
            known["keys"] = sessions[:end] if listed else super().get_partition_keys(None, dynamic_partitions_store)
        return list(known["keys"])


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
    first, last, sessions = market_sessions(market, home)
    ends = market.end is not None or last < date.today() + AHEAD
    found = SessionPartitions(
        start_date=first.strftime(KEY_FORMAT),
        end_date=(last + DAY).strftime(KEY_FORMAT) if ends else None,
        exclusions=_closed_days(sessions, first, last) or None,
    )
    vars(found)["sessions"] = tuple(day.strftime(KEY_FORMAT) for day in sessions)
    return found


def vintage_partitions(settings: Settings) -> Vintages | None:
    """One partition per vintage up to `market.end`, or to today; none: there are no vintages.

    A vintage has its partition from its date on. The window of a partition is the sessions that the vintage forecasts.
    """
    windows, end = settings.windows, settings.market.end
    if not has_vintages(windows):
        return None
    # The vintage after the last one, which ends the window of that.
    after = next(one for one in vintages_until(windows, date.max) if one > end) if end else None
    return dg.TimeWindowPartitionsDefinition(
        start=first_vintage(windows).strftime(KEY_FORMAT),
        end=after.strftime(KEY_FORMAT) if after else None,
        cron_schedule=_BEGINS[windows.vintage],
        fmt=KEY_FORMAT,
        end_offset=1,
    )


def vintage_deps(assets: Iterable[str], vintages: Vintages | None) -> list[str | dg.AssetDep]:
    """The dependencies of a session's forecast on models: of its vintage, if there are vintages."""
    if vintages is None:
        return list(assets)
    own_vintage = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)
    return [dg.AssetDep(name, partition_mapping=own_vintage) for name in assets]


def sessions_before(assets: Iterable[str], vintages: Vintages | None) -> list[str | dg.AssetDep]:
    """The dependencies of a vintage on assets by session: all sessions before it."""
    if vintages is None:
        return list(assets)
    earlier = dg.TimeWindowPartitionMapping(_ALL_EARLIER, -1, allow_nonexistent_upstream_partitions=True)
    return [dg.AssetDep(name, partition_mapping=earlier) for name in assets]


def vintage_of_run(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, settings: Settings
) -> date | None:
    """The vintage that a run of training assets is of; none: there are no vintages.

    Raises:
        CandlecastError: the run has no vintage, or several.
    """
    if not has_vintages(settings.windows):
        return None
    chosen = context.has_partition_key or context.has_partition_key_range
    keys = list(context.partition_keys) if chosen else []
    if len(keys) != 1:
        raise CandlecastError(
            f"a run trains one vintage, and {len(keys)} were chosen. Choose one partition in the "
            "UI, or let `candlecast train` run them one after another"
        )
    return date.fromisoformat(keys[0])


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
