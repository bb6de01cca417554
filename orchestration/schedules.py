"""When things run by themselves.

https://docs.dagster.io/guides/automate/schedules. A session's partition appears at 00:00 UTC after it, the same evening
in New York; holidays have none, so nothing runs for them.
"""

from collections.abc import Mapping

import dagster as dg

from orchestration.jobs import Job, JobName

# Half an hour for the source to settle after midnight UTC.
HOUR, MINUTE = 0, 30


def build_schedules(jobs: Mapping[JobName, Job]) -> list[dg.ScheduleDefinition]:
    """The daily run, one a session; its run key is the session, so a restart never runs one twice."""
    schedule = dg.build_schedule_from_partitioned_job(
        jobs["daily"],
        name="daily_after_close",
        description="Every session: its bars, its forecasts, and the scores of the forecasts that it made true.",
        hour_of_day=HOUR,
        minute_of_hour=MINUTE,
    )
    return [schedule]  # type: ignore[list-item]
