"""Whether the events of forecasts occurred, and how often they did before: the base rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from assets.evaluation.risk.path_events import Event, bar_events
from assets.market.history import BarHistory


def with_outcomes(
    forecasts: pd.DataFrame, histories: Mapping[str, BarHistory], horizon: int, events: Sequence[Event]
) -> pd.DataFrame:
    """Forecasts of events whose bars are all there, with the columns event (0 or 1) and base_rate added.

    The base rate is the share of the symbol's earlier bars after which the event occurred, of those whose horizon ended
    by the origin; half an event in one more bar keeps it between 0 and 1.

    Args:
        forecasts: columns symbol, origin, target_ts, measure, level.
    """
    found = [
        _symbol_outcomes(own, histories[str(symbol)], horizon, events)
        for symbol, own in forecasts.groupby("symbol", sort=False)
        if symbol in histories
    ]
    empty = forecasts[:0].assign(event=np.zeros(0), base_rate=np.zeros(0))
    return pd.concat(found).sort_index() if found else empty


def _symbol_outcomes(
    forecasts: pd.DataFrame, history: BarHistory, horizon: int, events: Sequence[Event]
) -> pd.DataFrame:
    origins, targets = (forecasts[name].to_numpy().astype("datetime64[s]") for name in ("origin", "target_ts"))
    bar = np.searchsorted(history.stamps, origins)
    last = np.minimum(bar + horizon, len(history) - 1)
    complete = (bar + horizon < len(history)) & (history.stamps[last] == targets)
    event, base_rate = np.full(len(forecasts), np.nan), np.full(len(forecasts), np.nan)
    occurred = dict(zip(events, bar_events(history, horizon, events), strict=True))
    for one, past in occurred.items():
        own = complete & (forecasts["measure"] == one[0]).to_numpy() & (forecasts["level"] == one[1]).to_numpy()
        counts = np.r_[0, np.cumsum(past)]
        ended = np.maximum(bar[own] - horizon + 1, 0)
        event[own], base_rate[own] = past[bar[own]], (counts[ended] + 0.5) / (ended + 1)
    with_events: pd.DataFrame = forecasts.assign(event=event, base_rate=base_rate)[np.isfinite(event)]
    return with_events
