"""When things run by themselves.

https://docs.dagster.io/guides/automate/schedules. A session's partition appears at 00:00 UTC after it, the same evening
in New York; holidays have none, so nothing runs for them.
"""

from collections.abc import Mapping, Sequence
from datetime import date

import dagster as dg

from assets.forecasting.origins import origin_sessions
from assets.sessions import RANGE_END, RANGE_START
from orchestration.jobs import Job, JobName
from orchestration.sensors import WATCHED, made_whole
from resources.candlecast import Candlecast

# Half an hour for the source to settle after midnight UTC.
HOUR, MINUTE = 0, 30
# How far back, in sessions, a hole is looked for between sessions that were made: a quarter of a year.
LOOK_BACK = 63


def build_schedules(
    candlecast: Candlecast,
    sessions: dg.DailyPartitionsDefinition,
    jobs: Mapping[JobName, Job],
) -> list[dg.ScheduleDefinition]:
    """The daily run, one a session; its run key is the session, so a restart never runs one twice."""

    # Dagster's own schedule of a partitioned job asks for the newest session alone: what an outage or a failed run
    # left out would stay out, and every later forecast would look back on a hole.
    @dg.schedule(
        name="daily_after_close",
        job=jobs["daily"],
        cron_schedule=f"{MINUTE} {HOUR} * * *",
        execution_timezone="UTC",
        description="Every session: its bars, its forecasts, and the scores of the forecasts that it made true. What "
        "an outage, a failed run or a run for some symbols left out is made with it, in the same run.",
    )
    def daily_after_close(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        there = sessions.get_partition_keys(current_time=context.scheduled_execution_time)
        behind = _not_made(context.instance, there)
        if not behind:
            return dg.SkipReason(f"session {there[-1]} is here everywhere" if there else "no session is over yet")
        if len(behind) == 1:
            return dg.RunRequest(run_key=there[-1], partition_key=behind[-1])
        first, last = there.index(behind[0]), there.index(behind[-1])
        # A range inside windows.test may lie between two planned origins, and a run without an origin fails.
        while first and not _has_origin(there[first : last + 1], candlecast):
            first -= 1
        return dg.RunRequest(run_key=there[-1], tags={RANGE_START: there[first], RANGE_END: there[last]})

    return [daily_after_close]


def _not_made(instance: dg.DagsterInstance, there: Sequence[str]) -> Sequence[str]:
    """The sessions after the newest that is here in the bars, in every forecast and in the scores, and the holes of
    the last `LOOK_BACK` sessions since the first that is; of a new home the newest session alone."""
    made = set.intersection(*(made_whole(instance, name, there) for name in WATCHED))
    if not made:
        return there[-1:]
    oldest = there[max(0, len(there) - LOOK_BACK)]
    return [key for key in there if key not in made and key > min(made) and (key >= oldest or key > max(made))]


def _has_origin(keys: Sequence[str], candlecast: Candlecast) -> bool:
    settings = candlecast.settings
    days = [date.fromisoformat(key) for key in keys]
    return bool(origin_sessions(days, settings.windows.test, settings.forecasts.every, candlecast.calendar))
