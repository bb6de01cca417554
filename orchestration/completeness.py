"""Completeness of sessions: what the watched assets lack of a session.

Two sources: Dagster's records, which know the partitions that were materialised, and the warehouse, which knows the
symbols that have bars and forecasts. Not here: which sessions a run should cover (catch_up),
and when this is asked (schedules, freshness).

Modules that compute are imported inside the functions: loading the definitions imports none of them.
"""

from collections.abc import Iterable, Sequence
from copy import copy
from datetime import date, timedelta
from typing import Any

import dagster as dg

from assets.sessions import KEY_FORMAT
from orchestration.stale_scores import reach, stale_scores
from resources.candlecast import Candlecast
from resources.settings import Settings

BARS, SCORES = "bars", "forecast_scores"
RECORDS_AT_ONCE = 500
NAMED = 10
NOT_MATERIALIZED = "not materialised"
# Dagster ends a tick after 60 s: a run that writes to the warehouse for longer must not keep it from a result.
BUSY_SECONDS = 15.0


def watched_assets(settings: Settings) -> tuple[str, ...]:
    """The assets whose sessions are to be complete."""
    return (BARS, *settings.forecast_assets, SCORES)


def impatient(candlecast: Candlecast) -> Candlecast:
    """The same parts, with a warehouse that is given up after `BUSY_SECONDS` while another process writes."""
    warehouse = copy(candlecast.warehouse)
    warehouse.wait = BUSY_SECONDS
    return Candlecast(
        candlecast.settings, warehouse=warehouse, checkpoints=candlecast.checkpoints, source=candlecast.source
    )


def missing_at(instance: dg.DagsterInstance, candlecast: Candlecast, session: date) -> dict[str, str]:
    """What the watched assets lack of a session, as text by asset; complete assets are left out.

    Raises:
        CandlecastError: the warehouse or the members file cannot be read.
    """
    key = session.strftime(KEY_FORMAT)
    watched = watched_assets(candlecast.settings)
    lacking = {name: NOT_MATERIALIZED for name in watched if key not in complete_sessions(instance, name, [key])}
    if candlecast.warehouse.exists:
        for name, text in _missing_symbols(candlecast, session).items():
            lacking[name] = f"{lacking[name]}, {text}" if name in lacking else text
    if SCORES not in lacking:
        sessions = [day.strftime(KEY_FORMAT) for day in _sessions_before(candlecast, session)]
        if stale_scores(instance, candlecast.settings, sessions, [key]):
            lacking[SCORES] = "older than corrected bars"
    return {name: lacking[name] for name in watched if name in lacking}


def _missing_symbols(candlecast: Candlecast, session: date) -> dict[str, str]:
    """The awaited symbols that have no bar, and those that have no forecast from a planned origin."""
    from assets.forecasting.origins import planned_sessions
    from assets.forecasting.registry import models_by_asset
    from assets.forecasts.missing import missing_forecasts
    from assets.market.awaited import awaited_bars
    from assets.market.summary import sessions_without_bars

    settings, calendar = candlecast.settings, candlecast.calendar
    awaited = awaited_bars(settings, candlecast.warehouse, [session])
    absent = awaited.loc[awaited["newest"].isna(), "symbol"].tolist()
    found: dict[str, str] = {}
    if sessions_without_bars(candlecast.warehouse, settings.market.frequency, [session]):
        found["bars"] = "no bars"
    elif absent:
        found["bars"] = f"no bars of {_names(absent)}"
    if not planned_sessions([session], settings, calendar):
        return found
    end = calendar.stamps(session, session)[-1]
    early = set(awaited.loc[~(awaited["newest"] >= end), "symbol"])
    missing = missing_forecasts(candlecast, [session])
    for name in sorted(set(models_by_asset(settings, candlecast.checkpoints).values())):
        symbols = sorted(early | set(missing.loc[missing["asset"] == name, "symbol"]))
        if symbols:
            found[name] = f"no forecasts of {_names(symbols)}"
    return found


def _sessions_before(candlecast: Candlecast, session: date) -> list[date]:
    """The sessions whose bars the scores of a session use, with the session itself."""
    first = max(candlecast.settings.market.start, session - timedelta(days=3 * reach(candlecast.settings)))
    sessions = candlecast.calendar.covered_sessions(first, session)
    return sessions[-reach(candlecast.settings) - 1 :]


def complete_sessions(instance: dg.DagsterInstance, name: str, keys: Iterable[str]) -> set[str]:
    """The sessions of `keys` whose partition of an asset was materialised for all symbols, not only for some."""
    asset = dg.AssetKey(name)
    materialized = instance.get_materialized_partitions(asset) & set(keys)
    if name in (BARS, SCORES) or not materialized:
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


def _names(symbols: Sequence[str]) -> str:
    return ", ".join(symbols[:NAMED]) + (f" and {len(symbols) - NAMED} more" if len(symbols) > NAMED else "")
