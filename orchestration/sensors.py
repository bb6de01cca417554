"""The sensors: freshness of the newest closed session (freshness), and new files in the drop folder.

https://docs.dagster.io/guides/automate/sensors.

Modules that compute are imported inside the functions: loading the definitions imports none of them.
"""

import dagster as dg

from assets.sessions import KEY_FORMAT, RANGE_END, RANGE_START
from orchestration import freshness
from resources.candlecast import Candlecast
from resources.disclosure import shown_path

DROP_SECONDS = 30


def build_sensors(candlecast: Candlecast, sessions: dg.DailyPartitionsDefinition) -> list[dg.SensorDefinition]:
    """The freshness sensor, and that of the drop folder where the settings name one."""
    sensors = [freshness.build_sensor(candlecast, sessions)]
    return [*sensors, _drop_folder(candlecast, sessions)] if candlecast.settings.market.drop else sensors


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
