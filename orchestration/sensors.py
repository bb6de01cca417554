"""The sensors: freshness of the newest closed session, and new files in the drop folder.

https://docs.dagster.io/guides/automate/sensors. Dagster's freshness policies look at the last materialisation of any
partition, so that a backfill of an old month looks fresh; the sensor here asks for the partition of the newest session.

Modules that compute are imported inside the functions: loading the definitions imports none of them.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from assets.forecasts.assets import FORECAST_ASSETS
from assets.sessions import KEY_FORMAT, RANGE_END, RANGE_START
from resources.candlecast import Candlecast
from resources.disclosure import shown_path

FORECASTS = tuple(asset.family for asset in FORECAST_ASSETS)
WATCHED = ("bars", *FORECASTS, "forecast_scores")
CHECK_NAME = "newest_session_is_materialized"
# The schedule runs half an hour after midnight UTC; a run may take hours.
GRACE = timedelta(hours=6)
INTERVAL_SECONDS = 600
DROP_SECONDS = 30
RECORDS_AT_ONCE = 500


def newest_due(candlecast: Candlecast, now: datetime, partitions: dg.DailyPartitionsDefinition) -> date | None:
    """The newest session that should be materialised at `now` (UTC): closed for longer than `GRACE`; none: none yet."""
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
    """The watched assets whose partition of `session` was never materialised for all symbols."""
    key = session.strftime(KEY_FORMAT)
    return [name for name in WATCHED if key not in complete_sessions(instance, name, [key])]


def complete_sessions(instance: dg.DagsterInstance, name: str, keys: Iterable[str]) -> set[str]:
    """The sessions of `keys` whose partition of an asset was materialised for all symbols, not only for some."""
    asset = dg.AssetKey(name)
    materialized = instance.get_materialized_partitions(asset) & set(keys)
    if name not in FORECASTS or not materialized:
        return materialized
    found: set[str] = set()
    limited: dict[str, bool] = {}
    cursor, more = None, True
    # Newest first: the last run over a range usually covers all of it, however often it was run before.
    while more and found != materialized:
        wanted = dg.AssetRecordsFilter(asset, asset_partitions=sorted(materialized - found))
        result = instance.fetch_materializations(wanted, limit=RECORDS_AT_ONCE, cursor=cursor)
        for record in result.records:
            if record.run_id not in limited:
                limited[record.run_id] = _is_limited_to_symbols(instance.get_run_by_id(record.run_id), name)
            if record.partition_key and not limited[record.run_id]:
                found.add(record.partition_key)
        cursor, more = result.cursor, result.has_more
    return found


def _is_limited_to_symbols(run: dg.DagsterRun | None, name: str) -> bool:
    """Whether a run forecast only some symbols (`ForecastConfig.symbols`)."""
    ops: Any = run.run_config.get("ops", {}) if run else {}
    return bool(ops.get(name, {}).get("config", {}).get("symbols"))


def build_sensors(candlecast: Candlecast, sessions: dg.DailyPartitionsDefinition) -> list[dg.SensorDefinition]:
    """The freshness sensor, and that of the drop folder where the settings name one."""
    sensors = [_freshness(candlecast, sessions)]
    return [*sensors, _drop_folder(candlecast, sessions)] if candlecast.settings.market.drop else sensors


def _freshness(candlecast: Candlecast, sessions: dg.DailyPartitionsDefinition) -> dg.SensorDefinition:

    @dg.sensor(
        name="freshness",
        description="Whether bars, the forecasts of every model and the scores have the newest closed session.",
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
            return dg.SkipReason(f"Unchanged: {_summary(due, missing)}")
        evaluations = [_evaluation(name, due, name not in missing) for name in WATCHED]
        return dg.SensorResult(asset_events=evaluations, cursor=state)

    return freshness


def _drop_folder(candlecast: Candlecast, sessions: dg.DailyPartitionsDefinition) -> dg.SensorDefinition:
    settings = candlecast.settings
    folder = settings.root / str(settings.market.drop)
    shown = shown_path(str(settings.market.drop), settings.root)

    @dg.sensor(
        name="drop_folder",
        description=f"Ingests new files in {shown}, then moves them to done/ or refused/ with a note.",
        minimum_interval_seconds=DROP_SECONDS,
        job_name="ingest",
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def drop_folder(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        from assets.market.ingest.dropfolder import sessions_of_dropped_files, take_dropped_files

        taken = take_dropped_files(
            folder,
            candlecast.source.reading,
            candlecast.home,
            warehouse=candlecast.warehouse,
            within=(settings.market.start, settings.market.end),
        )
        for file in taken:
            context.log.info("%s: %s %s", file.file, file.outcome, file.reason)
        days = sessions_of_dropped_files(taken)
        if days:
            # A session has no partition before its day is over: its bars stay in the lake until the next run.
            keys = set(sessions.get_partition_keys())
            days = [day for day in days if day.strftime(KEY_FORMAT) in keys]
        if not days:
            return dg.SkipReason(f"{len(taken)} new files in {shown}, none with bars of a closed session")
        tags = {RANGE_START: days[0].strftime(KEY_FORMAT), RANGE_END: days[-1].strftime(KEY_FORMAT)}
        return dg.RunRequest(tags=tags)

    return drop_folder


def _evaluation(name: str, due: date, passed: bool) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(name),
        check_name=CHECK_NAME,
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"session {due} is materialised" if passed else f"session {due} is missing: run `daily` for it",
        metadata={"newest_session_due": str(due)},
    )


def _summary(due: date, missing: list[str]) -> str:
    return f"session {due} is missing in {', '.join(missing)}" if missing else f"session {due} is complete"
