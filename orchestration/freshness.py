"""Freshness: whether the watched assets are complete for the newest session that should be there by now.

https://docs.dagster.io/guides/test/asset-checks. Dagster's freshness policies look at the last materialisation of any
partition, so that a backfill of an old month looks fresh; the checks here look at the newest session due. The sensor
evaluates them whenever their result changes; the daily run and the UI can execute them. Not here: what a session lacks
(completeness).

Modules that compute are imported inside the functions: loading the definitions imports none of them.
"""

from datetime import UTC, date, datetime, timedelta

import dagster as dg

from assets.sessions import KEY_FORMAT
from orchestration.completeness import impatient, missing_at, watched_assets
from resources.candlecast import Candlecast
from resources.settings import Settings

CHECK_NAME = "newest_session_is_materialized"
# The schedule runs half an hour after midnight UTC; a run may take hours.
GRACE = timedelta(hours=6)
INTERVAL_SECONDS = 600
NOT_DUE = "No session is due yet."


def newest_due(candlecast: Candlecast, now: datetime, partitions: dg.DailyPartitionsDefinition) -> date | None:
    """The newest session that should be complete at `now` (UTC): closed for longer than `GRACE`; none: none yet."""
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


def check_keys(settings: Settings) -> list[dg.AssetCheckKey]:
    """The keys of the checks of all watched assets."""
    return [dg.AssetCheckKey(dg.AssetKey([name]), CHECK_NAME) for name in watched_assets(settings)]


def build_checks(settings: Settings, sessions: dg.DailyPartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """The check of every watched asset."""
    return [_check(name, sessions) for name in watched_assets(settings)]


def _check(name: str, sessions: dg.DailyPartitionsDefinition) -> dg.AssetChecksDefinition:

    @dg.asset_check(
        asset=name,
        name=CHECK_NAME,
        description="The newest session that is due is materialised, with all symbols that are awaited in it.",
    )
    def newest_session_is_materialized(
        context: dg.AssetCheckExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.AssetCheckResult:
        due = newest_due(candlecast, datetime.now(UTC), sessions)
        if due is None:
            return dg.AssetCheckResult(passed=True, severity=dg.AssetCheckSeverity.WARN, description=NOT_DUE)
        lacking = missing_at(context.instance, candlecast, due).get(name)
        return dg.AssetCheckResult(
            passed=not lacking,
            severity=dg.AssetCheckSeverity.WARN,
            description=_description(due, lacking),
            metadata={"newest_session_due": str(due)},
        )

    return newest_session_is_materialized


def build_sensor(candlecast: Candlecast, sessions: dg.DailyPartitionsDefinition) -> dg.SensorDefinition:
    """The sensor that evaluates the checks."""

    @dg.sensor(
        name="freshness",
        description="Whether bars, the forecasts of every model and the scores have the newest closed session, with "
        "every symbol that is awaited in it.",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def freshness(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        import duckdb

        from resources.errors import CandlecastError

        due = newest_due(candlecast, datetime.now(UTC), sessions)
        if due is None:
            return dg.SkipReason(NOT_DUE)
        try:
            lacking = missing_at(context.instance, impatient(candlecast), due)
        except (CandlecastError, duckdb.Error) as error:
            return dg.SkipReason(f"Not known now: {error}")
        state = _summary(due, lacking)
        if state == context.cursor:
            return dg.SkipReason(f"Unchanged: {state}")
        evaluations = [_evaluation(name, due, lacking.get(name)) for name in watched_assets(candlecast.settings)]
        return dg.SensorResult(skip_reason=state, asset_events=evaluations, cursor=state)

    return freshness


def _evaluation(name: str, due: date, lacking: str | None) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(name),
        check_name=CHECK_NAME,
        passed=not lacking,
        severity=dg.AssetCheckSeverity.WARN,
        description=_description(due, lacking),
        metadata={"newest_session_due": str(due)},
    )


def _description(due: date, lacking: str | None) -> str:
    return (
        f"session {due}: {lacking}; `daily` for it catches up what has arrived"
        if lacking
        else f"session {due}: complete"
    )


def _summary(due: date, lacking: dict[str, str]) -> str:
    found = "; ".join(f"{name}: {text}" for name, text in lacking.items())
    return f"session {due}: {found}" if found else f"session {due} is complete"
