"""The schedules.

https://docs.dagster.io/guides/automate/schedules. The partition of a session appears at 00:00 UTC after it, the same
evening in New York. Holidays have no partition, so that nothing runs for them.

Modules that compute are imported inside the functions: loading the definitions imports none of them.
"""

from collections.abc import Mapping, Sequence
from datetime import date

import dagster as dg

from assets.sessions import RANGE_END, RANGE_START
from orchestration.jobs import Job, JobName
from orchestration.sensors import WATCHED, complete_sessions
from resources.candlecast import Candlecast

# Half an hour for the source to settle after midnight UTC.
HOUR, MINUTE = 0, 30
# How many sessions back gaps between materialised sessions are filled: a quarter of a year.
LOOK_BACK = 63


def build_schedules(
    candlecast: Candlecast,
    sessions: dg.DailyPartitionsDefinition,
    jobs: Mapping[JobName, Job],
) -> list[dg.ScheduleDefinition]:
    """The daily run, one per session: its run key is the session, so that a restart does not run it twice."""

    # Dagster's own schedule of a partitioned job requests the newest session alone: sessions missed by an outage or
    # a failed run would stay missing, and every later forecast would have a gap in its context.
    @dg.schedule(
        name="daily_after_close",
        job=jobs["daily"],
        cron_schedule=f"{MINUTE} {HOUR} * * *",
        execution_timezone="UTC",
        description="Per session: its bars, its forecasts, and the scores of forecasts whose target it is. Sessions "
        "that an outage, a failed run or a run for some symbols left incomplete are part of the same run.",
    )
    def daily_after_close(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        closed = sessions.get_partition_keys(current_time=context.scheduled_execution_time)
        missing = _missing_sessions(context.instance, closed)
        if not missing:
            return dg.SkipReason(f"session {closed[-1]} is complete" if closed else "no session is closed yet")
        if len(missing) == 1:
            return dg.RunRequest(run_key=closed[-1], partition_key=missing[-1])
        first, last = closed.index(missing[0]), closed.index(missing[-1])
        # A range inside windows.test may lie between two planned origins, and a run without an origin fails.
        while first and not _has_origin(closed[first : last + 1], candlecast):
            first -= 1
        return dg.RunRequest(run_key=closed[-1], tags={RANGE_START: closed[first], RANGE_END: closed[last]})

    return [daily_after_close]


def _missing_sessions(instance: dg.DagsterInstance, closed: Sequence[str]) -> Sequence[str]:
    """The closed sessions that are not complete in bars, every forecast and scores.

    Those after the newest complete session, and gaps of the last `LOOK_BACK` sessions after the oldest complete one;
    in a new home the newest session alone.
    """
    complete = set.intersection(*(complete_sessions(instance, name, closed) for name in WATCHED))
    if not complete:
        return closed[-1:]
    start, oldest, newest = closed[max(0, len(closed) - LOOK_BACK)], min(complete), max(complete)
    return [key for key in closed if key not in complete and key > oldest and (key >= start or key > newest)]


def _has_origin(keys: Sequence[str], candlecast: Candlecast) -> bool:
    from assets.forecasting.origins import origin_sessions

    settings = candlecast.settings
    days = [date.fromisoformat(key) for key in keys]
    return bool(origin_sessions(days, settings.windows.test, settings.forecasts.every, candlecast.calendar))
