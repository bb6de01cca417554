"""The coverage of derived forecasts by origin, kept in the home: a run computes that of new origins and of its own.

It is kept as long as the forecasts from an origin, by the time when each was made, and the closes and actions up to
their last target are the same. Without the file, or with a damaged one, all is computed anew.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from assets.forecasting.calibration.kept_states import KeptState, read_state, write_state
from assets.forecasting.filters import FORECAST_FILTER, ForecastFilter, UsedCheckpoints, checkpoints_frame
from assets.forecasts.coverage import Bound
from assets.forecasts.origin_coverage import coverage_by_origin
from resources.candlecast import Candlecast
from resources.publish import digest_of
from resources.sql import load_sql

VERSION = 1
_KEY, _OF = ["model", "origin"], ["made", "bars"]


def kept_coverage(
    candlecast: Candlecast,
    used: UsedCheckpoints,
    bounds: Sequence[Bound],
    file: Path,
    own: Collection[np.datetime64] = (),
) -> pd.DataFrame:
    """`coverage_by_origin` of all origins, of which a file keeps the known ones.

    Args:
        own: origins that are computed from the stored quantiles in any case: those of a run.
    """
    stated = _stated(candlecast, used)
    if stated.empty:
        return stated
    kinds: dict[str | float, str] = {"ends": "datetime64[us]", "outcomes": "float64"}
    kinds |= {one.interval.nominal: "float64" for one in bounds}
    values = list(kinds)
    digest = digest_of([VERSION, candlecast.settings.market.frequency, values])
    kept = _read(file, digest, [*_KEY, *_OF, *values])
    known = stated[[*_KEY, *_OF]].merge(kept, how="left", indicator="found")
    unknown = stated["origin"][(known["found"] == "left_only").to_numpy()]
    new = stated["origin"].isin([*unknown, *own])
    if not new.any():
        found = stated.merge(kept, on=[*_KEY, *_OF])
    else:
        computed = coverage_by_origin(candlecast, used, bounds, stated["origin"][new].unique())
        made = stated[new]
        if len(computed):  # origins without an outcome yet have no row
            made = made.merge(computed[[*_KEY, *values]], on=_KEY, how="left")
        others = [] if new.all() else [stated[~new].merge(kept, on=[*_KEY, *_OF])]
        found = pd.concat([*others, made], ignore_index=True).reindex(columns=[*stated.columns, *values])
        found = found.astype(kinds).sort_values(_KEY, ignore_index=True)
        # A full or read-only disk costs time in the next run.
        with suppress(OSError):
            _write(file, digest, found[[*_KEY, *_OF, *values]])
    return found[found["ends"].notna()].drop(columns=_OF).reset_index(drop=True)


def _stated(candlecast: Candlecast, used: UsedCheckpoints) -> pd.DataFrame:
    """By model and origin: learnt_from, and what the coverage is computed from (made, bars)."""
    settings, warehouse = candlecast.settings, candlecast.warehouse
    sql = load_sql(__package__, "stated_forecasts.sql").format(forecast_filter=FORECAST_FILTER)
    with warehouse.read() as connection:
        connection.register("checkpoints_in_use", checkpoints_frame(used))
        stated = connection.execute(sql, ForecastFilter.of(settings, warehouse).parameters).df()
        if stated.empty:
            return stated
        origins, horizon = stated["origin"].unique(), settings.windows.predict_window
        last = np.array([candlecast.calendar.following(origin, horizon)[-1] for origin in origins])
        connection.register("windows", pa.table({"origin": pa.array(origins), "last": pa.array(last)}))
        named = {"frequency": settings.market.frequency}
        bars = connection.execute(load_sql(__package__, "window_bars.sql"), named).df()
    return stated.merge(bars, on="origin", how="left")


def _read(file: Path, digest: str, columns: Sequence[str | float]) -> pd.DataFrame:
    kept = read_state(file)
    if kept is None or kept.digest != digest:
        return pd.DataFrame(columns=list(columns))
    found = pd.DataFrame({name: kept.state[str(name)] for name in columns})
    return found.assign(model=kept.state["models"].astype(object)[found["model"]])


def _write(file: Path, digest: str, found: pd.DataFrame) -> None:
    models = sorted(set(found["model"]))
    coded = found.assign(model=pd.Categorical(found["model"], models).codes)
    state = {"models": np.array(models, dtype=str), **{str(name): coded[name].to_numpy() for name in found}}
    write_state(file, KeptState(found["origin"].max().to_datetime64(), digest, state))
