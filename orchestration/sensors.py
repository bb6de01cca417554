"""What watches: is the newest session that is over also here, and has somebody dropped a file?

https://docs.dagster.io/guides/automate/sensors. Dagster's freshness policies look at the last materialisation,
whichever partition it was, so a backfill of an old month would look healthy; this one asks for the newest session by
name.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_args

import dagster as dg

from assets.forecasting.registry import Family
from assets.market.ingest.dropfolder import sessions_taken, take_in
from assets.sessions import KEY_FORMAT, RANGE_END, RANGE_START
from resources.candlecast import Candlecast

WATCHED = ("bars", "baseline_forecasts", "kronos_forecasts", "chronos2_forecasts", "forecast_scores")
CHECK_NAME = "newest_session_is_here"
# The schedule runs half an hour after midnight UTC; a run may take its time.
GRACE = timedelta(hours=6)
INTERVAL_SECONDS = 600
DROP_SECONDS = 30
RECORDS_AT_ONCE = 500


def newest_due(candlecast: Candlecast, now: datetime, partitions: dg.DailyPartitionsDefinition) -> date | None:
    """The newest session that should be here at `now` (UTC): closed, and its grace over. None: none is due yet."""
    market = candlecast.settings.market
    closed = candlecast.calendar.closed_by(now.astimezone(UTC).replace(tzinfo=None) - GRACE)
    last = min(closed, market.end) if market.end else closed
    if last < market.start:
        return None
    due = partitions.get_partition_keys_in_range(
        dg.PartitionKeyRange(partitions.get_first_partition_key() or "", partitions.get_last_partition_key() or "")
    )
    due = [key for key in due if key <= last.strftime(KEY_FORMAT)]
    return date.fromisoformat(due[-1]) if due else None


def missing_at(instance: dg.DagsterInstance, session: date) -> list[str]:
    """The watched assets whose partition of `session` was never made for every symbol."""
    key = session.strftime(KEY_FORMAT)
    return [name for name in WATCHED if key not in made_whole(instance, name, [key])]


def made_whole(instance: dg.DagsterInstance, name: str, keys: Iterable[str]) -> set[str]:
    """The sessions of `keys` whose partition of an asset was made for every symbol, not for some that a run named."""
    asset = dg.AssetKey(name)
    there = instance.get_materialized_partitions(asset) & set(keys)
    if name not in get_args(Family) or not there:
        return there
    found: set[str] = set()
    narrowed: dict[str, bool] = {}
    cursor, more = None, True
    # Newest first: one run over a range mostly answers for all, however often it was run before.
    while more and found != there:
        wanted = dg.AssetRecordsFilter(asset, asset_partitions=sorted(there - found))
        result = instance.fetch_materializations(wanted, limit=RECORDS_AT_ONCE, cursor=cursor)
        for record in result.records:
            if record.run_id not in narrowed:
                narrowed[record.run_id] = _names_symbols(instance.get_run_by_id(record.run_id), name)
            if record.partition_key and not narrowed[record.run_id]:
                found.add(record.partition_key)
        cursor, more = result.cursor, result.has_more
    return found


def _names_symbols(run: dg.DagsterRun | None, name: str) -> bool:
    """Whether a run was to make an asset for some symbols alone (`ForecastConfig`)."""
    ops: Any = run.run_config.get("ops", {}) if run else {}
    return bool(ops.get(name, {}).get("config", {}).get("symbols"))


def build_sensors(candlecast: Candlecast, sessions: dg.DailyPartitionsDefinition) -> list[dg.SensorDefinition]:
    """The freshness sensor, and the drop folder's where settings name one."""
    sensors = [_freshness(candlecast, sessions)]
    return [*sensors, _drop_folder(candlecast, sessions)] if candlecast.settings.market.drop else sensors


def _freshness(candlecast: Candlecast, sessions: dg.DailyPartitionsDefinition) -> dg.SensorDefinition:

    @dg.sensor(
        name="freshness",
        description="Is the newest session that is over here, in the bars, every model's forecasts and the scores?",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def freshness(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        due = newest_due(candlecast, datetime.now(UTC), sessions)
        if due is None:
            return dg.SkipReason("No session is due yet.")
        missing = missing_at(context.instance, due)
        state = f"{due}:{','.join(missing)}"
        if state == context.cursor:
            return dg.SkipReason(f"Unchanged: {_in_words(due, missing)}")
        evaluations = [_evaluation(name, due, name not in missing) for name in WATCHED]
        return dg.SensorResult(asset_events=evaluations, cursor=state)

    return freshness


def _drop_folder(candlecast: Candlecast, sessions: dg.DailyPartitionsDefinition) -> dg.SensorDefinition:
    settings = candlecast.settings
    folder = settings.root / str(settings.market.drop)

    @dg.sensor(
        name="drop_folder",
        description=f"New files in {settings.market.drop}: taken in, then moved to done/ or refused/ with a note.",
        minimum_interval_seconds=DROP_SECONDS,
        job_name="ingest",
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def drop_folder(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        taken = take_in(
            folder,
            candlecast.source.reading,
            candlecast.home,
            warehouse=candlecast.warehouse,
            within=(settings.market.start, settings.market.end),
        )
        for fate in taken:
            context.log.info("%s: %s %s", fate.file, fate.outcome, fate.reason)
        days = sessions_taken(taken)
        if days:
            # The newest session has no partition before its day is over: its bars wait in the lake for the next run.
            there = set(sessions.get_partition_keys())
            days = [day for day in days if day.strftime(KEY_FORMAT) in there]
        if not days:
            return dg.SkipReason(f"{len(taken)} files looked at in {folder}, none with bars to take")
        span = {RANGE_START: days[0].strftime(KEY_FORMAT), RANGE_END: days[-1].strftime(KEY_FORMAT)}
        return dg.RunRequest(tags=span)

    return drop_folder


def _evaluation(name: str, due: date, passed: bool) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(name),
        check_name=CHECK_NAME,
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"session {due} is here" if passed else f"session {due} is over and not here: run `daily` for it",
        metadata={"newest session due": str(due)},
    )


def _in_words(due: date, missing: list[str]) -> str:
    return f"session {due} is missing in {', '.join(missing)}" if missing else f"session {due} is here everywhere"
