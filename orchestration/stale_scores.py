"""Stale scores: sessions whose scores are older than a change of bars that they use.

A correction changes the score of a target, but also the close at the origin and the scale of MASE, the mean move of the
year before the origin: every target up to a year and a horizon after the corrected bar.
"""

from collections.abc import Collection, Mapping, Sequence

import dagster as dg

from assets.metadata import DATA_VERSION_TAG
from resources.settings import Settings

BARS, SCORES = dg.AssetKey("bars"), dg.AssetKey("forecast_scores")
MATERIALIZED = dg.DagsterEventType.ASSET_MATERIALIZATION
# Versions of more sessions are not compared: their bars count as changed.
MOST_COMPARED = 250


def reach(settings: Settings) -> int:
    """How many sessions after a changed bar there are scores that use it."""
    from assets.forecasting.actuals import YEAR

    return YEAR + settings.windows.predict_window


def stale_scores(
    instance: dg.DagsterInstance, settings: Settings, sessions: Sequence[str], targets: Collection[str]
) -> list[str]:
    """Those of `targets` whose scores are older than a change of bars that they use.

    Args:
        sessions: partition keys, oldest first, with those before the targets.
    """
    bars = instance.get_latest_storage_id_by_partition(BARS, MATERIALIZED)
    scores = instance.get_latest_storage_id_by_partition(SCORES, MATERIALIZED)
    chosen = {key: scores[key] for key in targets if key in scores}
    newer: dict[str, dict[str, int]] = {}
    for position, session in enumerate(sessions):
        window = sessions[position : position + reach(settings) + 1]
        if older := {key: chosen[key] for key in window if key in chosen and chosen[key] < bars.get(session, 0)}:
            newer[session] = older
    compared = len(newer) <= MOST_COMPARED
    stale = {
        key for session, older in newer.items() if not compared or _changed(instance, session, older) for key in older
    }
    return [key for key in sessions if key in stale]


def _changed(instance: dg.DagsterInstance, session: str, scored: Mapping[str, int]) -> bool:
    """Whether the data version of a session's bars is another one than when the oldest of some scores were made."""
    before = instance.get_latest_data_version_record(BARS, False, session, before_cursor=min(scored.values()))
    return _version(before) != _version(instance.get_latest_data_version_record(BARS, False, session))


def _version(record: dg.EventLogRecord | None) -> str | None:
    made = record.asset_materialization if record else None
    return made.tags.get(DATA_VERSION_TAG) if made and made.tags else None
