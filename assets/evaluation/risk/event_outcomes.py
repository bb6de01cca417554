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
    symbols, names = pd.factorize(forecasts["symbol"])
    kinds = np.full(len(forecasts), -1)
    for kind, (measure, level) in enumerate(events):
        kinds[(forecasts["measure"] == measure).to_numpy() & (forecasts["level"] == level).to_numpy()] = kind
    origins, targets = (forecasts[name].to_numpy().astype("datetime64[s]") for name in ("origin", "target_ts"))
    event, base_rate = np.full((2, len(forecasts)), np.nan)
    by_symbol = np.split(np.argsort(symbols, kind="stable"), np.cumsum(np.bincount(symbols))[:-1])
    for symbol, rows in zip(names, by_symbol, strict=True) if len(names) else ():
        if symbol in histories:
            found = _symbol_outcomes(origins[rows], targets[rows], kinds[rows], histories[symbol], horizon, events)
            event[rows], base_rate[rows] = found
    with_events: pd.DataFrame = forecasts.assign(event=event, base_rate=base_rate)[np.isfinite(event)]
    return with_events


def _symbol_outcomes(
    origins: np.ndarray,
    targets: np.ndarray,
    kinds: np.ndarray,
    history: BarHistory,
    horizon: int,
    events: Sequence[Event],
) -> tuple[np.ndarray, np.ndarray]:
    """Events and base rates of one symbol's forecasts, (n,) each; NaN: bars are missing.

    Args:
        kinds: places in `events`.
    """
    bar = np.searchsorted(history.stamps, origins)
    last = np.minimum(bar + horizon, len(history) - 1)
    complete = (bar + horizon < len(history)) & (history.stamps[last] == targets)
    event, base_rate = np.full((2, len(origins)), np.nan)
    for kind, past in enumerate(bar_events(history, horizon, events)):
        own = complete & (kinds == kind)
        counts = np.r_[0, np.cumsum(past)]
        ended = np.maximum(bar[own] - horizon + 1, 0)
        event[own], base_rate[own] = past[bar[own]], (counts[ended] + 0.5) / (ended + 1)
    return event, base_rate
