"""Missing forecasts: those that could be made from the stored bars, and that no checkpoint of their model made, or that
are outdated (calibration.outdated)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from datetime import date

import numpy as np
import pandas as pd

from assets.forecasting.drift_gate import BLOCKED_MODEL, blocked_by_drift
from assets.forecasting.origins import origin_sessions, planned_sessions
from assets.forecasting.registry import models_by_asset, models_of
from assets.market.selection import OWN_BARS, source_filter, wanted_symbols
from resources.candlecast import Candlecast
from resources.derived_models import base_model
from resources.errors import CandlecastError
from resources.settings_models import CALIBRATED_ASSET, COMBINED_ASSET
from resources.sql import load_sql
from resources.vintages import vintage_of

_NEWEST = "SELECT max(session) AS session FROM bars WHERE list_contains($sessions, session)"
_MADE = """
SELECT DISTINCT model, checkpoint FROM forecasts WHERE origin IN (SELECT ts FROM bars WHERE session = $session)
"""


def missing_forecasts(candlecast: Candlecast, sessions: Sequence[date]) -> pd.DataFrame:
    """The missing forecasts of those of the sessions that are planned origins: columns asset, session (date), symbol.

    A symbol needs a bar at the origin and `windows.lookback_window` bars up to it. A forecast by an earlier champion
    counts, so that a new champion starts no backfill. So does a failed one, until the checkpoint or the bars change: a
    model that can never forecast a series would compute it every day. An origin that `input_drift` blocks is not
    missing. An outdated forecast is.
    """
    settings, calendar = candlecast.settings, candlecast.calendar
    planned = planned_sessions(sessions, settings, calendar)
    models = models_by_asset(settings, candlecast.checkpoints)
    empty = pd.DataFrame({"asset": [], "session": [], "symbol": []})
    if not planned or not models:
        return empty
    ends = [calendar.stamps(session, session)[-1] for session in planned]
    origins = pd.DataFrame({"origin": pd.DatetimeIndex(ends).as_unit("us"), "session": planned})
    parameters: dict[str, object] = {
        "frequency": settings.market.frequency,
        "symbols": wanted_symbols(settings),
        "sources": source_filter(settings, candlecast.warehouse),
        "lookback": settings.windows.lookback_window,
    }
    sql = load_sql("assets.forecasts", "missing_forecasts.sql").format(own_bars=OWN_BARS)
    used, blocked = _used_checkpoints(candlecast, models), _blocked(candlecast, planned, models)
    outdated = _outdated(candlecast, models)
    with candlecast.warehouse.read() as connection:
        connection.register("origins", origins)
        connection.register("models", pd.DataFrame({"model": list(models), "asset": list(models.values())}, dtype=str))
        connection.register("used", used)
        connection.register("blocked", blocked)
        connection.register("outdated", outdated)
        found = connection.execute(sql, parameters).df()
    if found.empty:
        return empty
    return found.drop(columns="origin")


def lacks_newest_origin(candlecast: Candlecast, assets: Set[str], first: date, last: date) -> bool:
    """Whether a checkpoint in use of some assets made no forecast from the newest origin that has bars.

    A quick guess at whether there is something to forecast: gaps at earlier origins, or of single symbols, are not
    found. Models without a checkpoint, and those of vintages that do not forecast that origin, are left out.

    Args:
        first, last: of the sessions among which the origin is.
    """
    if not assets:
        return False
    settings, calendar, used = candlecast.settings, candlecast.calendar, set[tuple[str, str]]()
    planned = origin_sessions(calendar.covered_sessions(first, last), settings, calendar)
    newest = candlecast.warehouse.rows(_NEWEST, {"sessions": planned})[0]["session"]
    if newest is None:
        return False
    for name in assets:
        with suppress(CandlecastError):
            models = models_of(name, settings, candlecast.checkpoints)
            own = (None, vintage_of(settings.windows, newest))
            used |= {(one.model, one.checkpoint) for one in models if one.vintage in own}
    made = candlecast.warehouse.frame(_MADE, {"session": newest})
    return not used <= set(made.itertuples(index=False, name=None))


def _outdated(candlecast: Candlecast, models: Mapping[str, str]) -> pd.DataFrame:
    """The outdated forecasts of the models in use, without those of models that cannot be made: columns model, symbol,
    origin."""
    found: list[tuple[str, str, np.datetime64]] = []
    for asset in sorted({CALIBRATED_ASSET, COMBINED_ASSET} & set(models.values())):
        with suppress(CandlecastError):
            for one in models_of(asset, candlecast.settings, candlecast.checkpoints):
                found += [(one.model, *key) for key in one.outdated()]
    frame = pd.DataFrame(found, columns=["model", "symbol", "origin"])
    return frame.astype({"model": str, "symbol": str, "origin": "datetime64[us]"})


def _used_checkpoints(candlecast: Candlecast, models: Mapping[str, str]) -> pd.DataFrame:
    """The checkpoints in use of the models that failed, with those of a model that cannot be made: columns model,
    checkpoint."""
    failed = candlecast.warehouse.frame("SELECT DISTINCT model, checkpoint FROM failed_forecasts")
    used = [failed.iloc[:0]]
    for name in map(str, failed["model"].unique()):
        own = failed[failed["model"] == name]
        if name in models:
            try:
                found = models_of(models[name], candlecast.settings, candlecast.checkpoints)
                used.append(own[own["checkpoint"].isin([one.checkpoint for one in found])])
            except CandlecastError:
                used.append(own)
    return pd.concat(used)


def _blocked(candlecast: Candlecast, sessions: Sequence[date], models: Iterable[str]) -> pd.DataFrame:
    """What `input_drift` blocks: Kronos, and what is calibrated from it, columns model, origin."""
    origins = np.array(list(blocked_by_drift(candlecast, sessions)), dtype="datetime64[us]")
    of_kronos = pd.DataFrame({"model": [one for one in models if base_model(one) == BLOCKED_MODEL]}, dtype=str)
    return of_kronos.merge(pd.DataFrame({"origin": origins}), how="cross")
