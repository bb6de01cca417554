"""The schedules.

https://docs.dagster.io/guides/automate/schedules. The partition of a session appears at 00:00 UTC after it, the same
evening in New York. Holidays have no partition, so that nothing runs for them. Not here: which sessions a run covers
(catch_up).

Modules that compute are imported inside the functions: loading the definitions imports none of them.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, get_args

import dagster as dg

from assets.sessions import RANGE_END, RANGE_START, Vintages, vintage_partitions
from orchestration.catch_up import CatchUp, Reasons, incomplete_by_records, plan_runs, reasons_to_run
from orchestration.completeness import impatient
from orchestration.jobs import Job, JobName
from resources.candlecast import Candlecast
from resources.checkpoints import Kind

if TYPE_CHECKING:
    from datetime import datetime

# Half an hour for the source to settle after midnight UTC.
HOUR, MINUTE = 0, 30
# After the daily run of the last session before a vintage.
TRAINING_HOUR = 12
TRAINED = get_args(Kind)


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
        "that an outage or a failed run left out, that arrived in part, or that a correction changes are caught up.",
    )
    def daily_after_close(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        tick = context.scheduled_execution_time
        closed = sessions.get_partition_keys(current_time=tick)
        if not closed:
            return dg.SkipReason("no session is closed yet")
        planned = plan_runs(candlecast, closed, _reasons(context, candlecast, closed))
        if not planned:
            return dg.SkipReason(f"session {closed[-1]} is complete")
        return [_request(one, closed[-1], tick) for one in planned]

    vintages = vintage_partitions(candlecast.settings)
    return [daily_after_close, _train_vintage(jobs["train"], vintages)] if vintages else [daily_after_close]


def _train_vintage(job: Job, vintages: Vintages) -> dg.ScheduleDefinition:
    @dg.schedule(
        name="train_vintage",
        job=job,
        cron_schedule=f"{MINUTE} {TRAINING_HOUR} * * *",
        execution_timezone="UTC",
        description="Trains the vintages whose date has come and that are missing, before their first session is over.",
    )
    def train_vintage(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        tick = context.scheduled_execution_time
        materialized = [context.instance.get_materialized_partitions(dg.AssetKey([kind])) for kind in TRAINED]
        missing = [
            key for key in vintages.get_partition_keys(current_time=tick) if any(key not in one for one in materialized)
        ]
        # A run that failed, such as one whose bars had not arrived, is tried again on the next day.
        requests = [dg.RunRequest(run_key=f"{key} {tick:%Y-%m-%d}", partition_key=key) for key in missing]
        return requests or dg.SkipReason("every vintage is trained")

    return train_vintage


def _reasons(context: dg.ScheduleEvaluationContext, candlecast: Candlecast, closed: Sequence[str]) -> Reasons:
    """Why sessions should be run; if the home cannot be read now, what Dagster's records alone say."""
    import duckdb

    from resources.errors import CandlecastError

    try:
        return reasons_to_run(context.instance, impatient(candlecast), closed)
    except (CandlecastError, duckdb.Error, OSError) as error:
        # The run of the newest session must not wait for it: it fails with the same message, or catches up.
        context.log.warning("sessions that arrived in part or changed are not known now: %s", error)
        return Reasons(incomplete_by_records(context.instance, candlecast, closed))


def _request(planned: CatchUp, newest: str, tick: "datetime") -> dg.RunRequest:
    # Of sessions before the newest one there may be several runs, and again on the next day.
    key = newest if planned.last == newest and not planned.assets else f"{planned.first} {tick:%Y-%m-%d}"
    assets = [dg.AssetKey(name) for name in planned.assets] or None
    if planned.first == planned.last:
        return dg.RunRequest(run_key=key, partition_key=planned.last, asset_selection=assets)
    tags = {RANGE_START: planned.first, RANGE_END: planned.last}
    return dg.RunRequest(run_key=key, tags=tags, asset_selection=assets)
