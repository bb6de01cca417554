"""Which origins are forecast, and for which symbols.

An origin is the last bar that a forecast sees. Not here: what is forecast from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

import numpy as np

from assets.forecasting.drift_gate import REASON
from assets.forecasting.forecaster import Task
from assets.market.history import History
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.settings import DateRange, Settings

NO_BAR = "no bar at the origin"


def origin_sessions(sessions: Sequence[date], test: DateRange, every: int, calendar: TradingCalendar) -> list[date]:
    """The sessions, of those in a run, whose last bar is an origin.

    One session alone is forecast wherever it lies. Of several: in the test range every `every`-th, counted from its
    start on the calendar and so the same for every run; after it every one; before it none.
    """
    if len(sessions) == 1:
        return list(sessions)
    planned = {session.date() for session in calendar.sessions(*test)[::every]}
    return [session for session in sessions if session in planned or session > test[1]]


def origins_of(sessions: Sequence[date], settings: Settings, calendar: TradingCalendar) -> list[np.datetime64]:
    """The stamps of the last bars of the sessions to forecast from, oldest first.

    Raises:
        CandlecastError: there is none among these sessions.
    """
    wanted = origin_sessions(sessions, settings.windows.test, settings.forecasts.every, calendar)
    if not wanted:
        raise CandlecastError(
            f"no origin among the {len(sessions)} sessions {min(sessions)} … {max(sessions)}: origins are every "
            f"{settings.forecasts.every}. session of windows.test {_range(settings.windows.test)} and every session "
            "after it. Choose sessions there, or one session alone, which is forecast wherever it lies"
        )
    return [calendar.stamps(session, session)[-1].to_datetime64().astype("datetime64[s]") for session in wanted]


@dataclass(frozen=True)
class Selection:
    """What can be forecast, and how often not, by reason."""

    tasks: list[Task]
    skipped: Mapping[str, int]


def select(
    histories: Mapping[str, History],
    origins: Sequence[np.datetime64],
    lookback: int,
    held: Mapping[np.datetime64, str] = MappingProxyType({}),
) -> Selection:
    """Every symbol at every origin at which it has a bar, and `lookback` of them up to it.

    Args:
        held: origins that are not forecast from, and why.

    Raises:
        CandlecastError: that leaves nothing.
    """
    tasks, skipped = [], Counter[str]()
    too_short = f"fewer than {lookback} bars up to the origin"
    if held and len(held) == len(origins):
        origin, why = next(iter(held.items()))
        raise CandlecastError(f"{REASON}: {origin}, {why}")
    for origin in origins:
        if origin in held:
            skipped[REASON] += len(histories)
            continue
        for symbol, history in histories.items():
            index = history.index_of(origin)
            if index is None:
                skipped[NO_BAR] += 1
            elif index + 1 < lookback:
                skipped[too_short] += 1
            else:
                tasks.append(Task(symbol, origin, history, index))
    if not tasks:
        found = "; ".join(f"{reason}: {count}" for reason, count in skipped.items()) or "no symbol has a bar"
        raise CandlecastError(
            f"nothing to forecast from {len(origins)} origins {origins[0]} … {origins[-1]} and {len(histories)} "
            f"symbols ({found}). Ingest more history, shorten windows.lookback_window, or choose other sessions"
        )
    return Selection(tasks, dict(skipped))


def _range(span: DateRange) -> str:
    return f"{span[0]} … {span[1]}"
