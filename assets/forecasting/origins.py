"""The origins of a run, and the tasks at them. An origin is the last bar that a forecast may use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

import numpy as np

from assets.forecasting.drift_gate import BLOCKED_MODEL, BLOCKED_REASON
from assets.forecasting.forecaster import ForecastModel, ForecastTask
from assets.market.history import BarHistory
from resources.calendar import TradingCalendar
from resources.derived_models import base_model
from resources.errors import CandlecastError
from resources.settings import DateRange, Settings

NO_BAR = "no bar at the origin"


def planned_sessions(sessions: Sequence[date], settings: Settings, calendar: TradingCalendar) -> list[date]:
    """Those of the sessions that the settings plan as origins.

    Those in the test range whose number, counted from its start on the calendar, is a multiple of `forecasts.every`
    (the same in every run); likewise in the validation range if there is a warm-up; and all after the test range.
    """
    windows, planned = settings.windows, set[date]()
    for span in (windows.validation, windows.test) if settings.warm_up else (windows.test,):
        planned |= set(calendar.covered_sessions(*span)[:: settings.forecasts.every])
    return [session for session in sessions if session in planned or session > windows.test[1]]


def first_origin(settings: Settings) -> date:
    """The first day of the range whose origins are forecast: of the warm-up, or of windows.test."""
    return settings.windows.validation[0] if settings.warm_up else settings.windows.test[0]


def origin_sessions(sessions: Sequence[date], settings: Settings, calendar: TradingCalendar) -> list[date]:
    """The sessions of a run whose last bar is an origin: a single session always, of several the planned ones."""
    return list(sessions) if len(sessions) == 1 else planned_sessions(sessions, settings, calendar)


def origin_timestamps(sessions: Sequence[date], settings: Settings, calendar: TradingCalendar) -> list[np.datetime64]:
    """The timestamps of the origins of a run, oldest first.

    Raises:
        CandlecastError: none of the sessions is an origin.
    """
    wanted = origin_sessions(sessions, settings, calendar)
    if not wanted:
        raise CandlecastError(
            f"no origin among the {len(sessions)} sessions {min(sessions)} … {max(sessions)}: origins are every "
            f"{settings.forecasts.every}. session of windows.test {_range(settings.windows.test)}{_warm_up(settings)} "
            "and every session after it. Choose such sessions, or a single session, which is always an origin"
        )
    return [calendar.stamps(session, session)[-1].to_datetime64().astype("datetime64[s]") for session in wanted]


def forward_steps(origins: np.ndarray, made_at: np.ndarray, horizon: int, calendar: TradingCalendar) -> np.ndarray:
    """Whether forecasts are forward: made before the session of a target began (intraday: before the bar did).

    No bar of the target existed then, so that neither the weights nor their user can have seen it.

    Args:
        origins, made_at: (n,) datetime64, UTC.

    Returns:
        (n, horizon) bool, by step.
    """
    sessions, days = calendar.all_sessions().to_numpy(), origins.astype("datetime64[D]")
    # No bar of the next `horizon` is later. A backfilled history is far from it, and needs no timestamps of targets.
    last = sessions[np.minimum(np.searchsorted(sessions, days) + horizon + 1, len(sessions) - 1)]
    forward = np.zeros((len(origins), horizon), dtype=bool)
    for row in np.flatnonzero(made_at < last + np.timedelta64(2, "D")):
        targets = calendar.following(origins[row], horizon)
        forward[row] = made_at[row] < calendar.begins(targets)
    return forward


@dataclass(frozen=True)
class TaskSelection:
    """The tasks of a run, ordered by origin, and the number of skipped ones by reason."""

    tasks: list[ForecastTask]
    skipped: Mapping[str, int]


def select_tasks(
    histories: Mapping[str, BarHistory],
    origins: Sequence[np.datetime64],
    lookback: int,
    blocked: Mapping[np.datetime64, str] = MappingProxyType({}),
) -> TaskSelection:
    """A task for every symbol and origin with a bar at the origin and `lookback` bars up to it.

    Args:
        blocked: origins that are not forecast from, with the reason (drift_gate).

    Raises:
        CandlecastError: no task is left.
    """
    tasks, skipped = [], Counter[str]()
    too_short = f"fewer than {lookback} bars up to the origin"
    if blocked and len(blocked) == len(origins):
        origin, reason = next(iter(blocked.items()))
        raise CandlecastError(f"{BLOCKED_REASON}: {origin}, {reason}")
    for origin in origins:
        if origin in blocked:
            skipped[BLOCKED_REASON] += len(histories)
            continue
        for symbol, history in histories.items():
            index = history.index_of(origin)
            if index is None:
                skipped[NO_BAR] += 1
            elif index + 1 < lookback:
                skipped[too_short] += 1
            else:
                tasks.append(ForecastTask(symbol, origin, history, index))
    if not tasks:
        found = "; ".join(f"{reason}: {count}" for reason, count in skipped.items()) or "no symbol has a bar"
        raise CandlecastError(
            f"nothing to forecast from {len(origins)} origins {origins[0]} … {origins[-1]} and {len(histories)} "
            f"symbols ({found}). Ingest more history, reduce windows.lookback_window, or choose other sessions"
        )
    return TaskSelection(tasks, dict(skipped))


def without_blocked(
    by_model: Sequence[tuple[ForecastModel, list[ForecastTask]]],
    selection: TaskSelection,
    blocked: Mapping[np.datetime64, str],
) -> tuple[list[tuple[ForecastModel, list[ForecastTask]]], TaskSelection]:
    """Derived models with the tasks that are not blocked for them, and how many were skipped.

    What is calibrated from Kronos is skipped where Kronos is. Combinations are made from the other models.
    """
    if not blocked:
        return list(by_model), selection
    found, skipped = list[tuple[ForecastModel, list[ForecastTask]]](), 0
    for model, tasks in by_model:
        own = tasks
        if base_model(model.model) == BLOCKED_MODEL:
            own = [task for task in tasks if task.origin not in blocked]
        skipped += len(tasks) - len(own)
        if own:
            found.append((model, own))
    counts = {**selection.skipped, BLOCKED_REASON: skipped} if skipped else selection.skipped
    return found, TaskSelection(selection.tasks, counts)


def _warm_up(settings: Settings) -> str:
    return f", of windows.validation {_range(settings.windows.validation)} (warm-up)" if settings.warm_up else ""


def _range(span: DateRange) -> str:
    return f"{span[0]} … {span[1]}"
