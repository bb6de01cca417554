"""From how many earlier origins derived forecasts were learnt: for the asset's page, and as a check.

A derived forecast is made of the earlier forecasts that are stored. Those that were made of fewer than could be are
named with the command that mends it. Not here: which stored forecasts are made again (calibration.outdated).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from assets.acceptance import CheckOutcome
from assets.forecasting.calibration.models import DerivedPredict
from assets.forecasting.calibration.panel import LEAST_ORIGINS
from assets.forecasting.filters import ForecastFilter
from assets.forecasting.forecaster import ForecastModel
from assets.forecasting.origins import first_origin, planned_sessions
from assets.forecasts.generate import ForecastResult
from assets.market.history import BarHistory
from resources.candlecast import Candlecast
from resources.warehouse import Warehouse

_LEARNT_FROM = """
SELECT model, checkpoint, min(learnt_from) AS origins FROM forecasts
WHERE (model, checkpoint, origin) IN (SELECT unnest($models), unnest($checkpoints), unnest($newest))
GROUP BY ALL HAVING min(learnt_from) IS NOT NULL
"""


def learnt_origins(warehouse: Warehouse, results: Sequence[ForecastResult]) -> dict[str, int]:
    """By model that learns, the number of earlier origins that its newest forecast of a run was learnt from."""
    runs = [one.range for one in results]
    named = {
        "models": [one.forecaster.model for one in results],
        "checkpoints": [one.forecaster.checkpoint for one in results],
        "newest": [max(one.origins).item() for one in runs],
    }
    rows = warehouse.rows(_LEARNT_FROM, named) if runs else []
    found = {(row["model"], row["checkpoint"]): int(row["origins"]) for row in rows}
    return {one.forecaster.name: found[run.named] for one, run in zip(results, runs, strict=True) if run.named in found}


def learnt_by_model(results: Sequence[ForecastResult], origins: Mapping[str, int]) -> pd.DataFrame:
    """What derived models had learnt at their newest origin: columns model, earlier origins, and of those that forecast
    in this run outcomes (of the step with the fewest), and λ and w by step where there are any."""
    rows = []
    for one in results:
        name = one.forecaster.name
        row: dict[str, object] = {"model": name, "earlier origins": origins[name]} if name in origins else {}
        predict = one.forecaster.load() if one.created else None
        if isinstance(predict, DerivedPredict) and len(frame := predict.learnt_at(max(one.range.origins))):
            by_step = {name: " ".join(f"{value:g}" for value in frame[name]) for name in ("λ", "w") if name in frame}
            row |= {"outcomes": int(frame["outcomes"].min()), **by_step}
        rows += [row] if row else []
    return pd.DataFrame(rows).astype(object).fillna("")


def learnt_text(results: Sequence[ForecastResult], origins: Mapping[str, int]) -> str:
    """One line on the earlier origins behind the newest forecasts of a run, and on forecasts that were made again."""
    parts = []
    if origins:
        low, high = min(origins.values()), max(origins.values())
        fewest = ", ".join(sorted(name for name, count in origins.items() if count == low)[:3])
        newest = max(origin for one in results for origin in one.range.origins)
        counts = f"{low:,}" if low == high else f"{low:,} ({fewest}) to {high:,}"
        nothing = f"; nothing is learnt from fewer than {LEAST_ORIGINS}" if low < LEAST_ORIGINS else ""
        parts.append(f"from {newest} learnt from {counts} earlier origins{nothing}")
    if replaced := sum(one.replaced for one in results):
        parts.append(f"{replaced:,} forecasts that had been made of fewer forecasts were made again")
    return "; ".join(parts)


def check_earlier_origins(
    candlecast: Candlecast,
    models: Sequence[ForecastModel],
    results: Sequence[ForecastResult],
    histories: Mapping[str, BarHistory],
    origins: Mapping[str, int],
) -> CheckOutcome:
    """Whether the earlier origins of the settings are forecast, and no stored forecast is outdated.

    Args:
        models: those of the asset, with all vintages.
        origins: the result of `learnt_origins`.
    """
    problems = []
    if origins:
        known, (newest, possible) = max(origins.values()), _earlier_sessions(candlecast, results, histories)
        if 2 * known < possible:
            problems.append(
                f"the forecasts from {newest} were learnt from {known:,} of {possible:,} earlier origins of the "
                "settings, because the others are not forecast: `candlecast run` forecasts them, and makes these "
                "forecasts again"
            )
    outdated = _outdated(candlecast, models)
    if outdated:
        named = f"{min(outdated)} … {max(outdated)}"
        problems.append(
            f"{len(outdated):,} forecasts from {named} were made of fewer earlier forecasts than are stored now: "
            "`candlecast run` makes them again"
        )
    return CheckOutcome(not problems, "; ".join(problems) or "made of the earlier origins of the settings")


def _earlier_sessions(
    candlecast: Candlecast, results: Sequence[ForecastResult], histories: Mapping[str, BarHistory]
) -> tuple[np.datetime64, int]:
    """The session of the newest origin, and the number of planned ones before it that have the bars for a forecast."""
    settings, lookback = candlecast.settings, candlecast.settings.windows.lookback_window
    tasks = [max(one.tasks, key=lambda task: task.origin) for one in results]
    newest = max(task.history.days[task.index] for task in tasks)
    starts = [history.days[lookback - 1] for history in histories.values() if len(history) >= lookback]
    first, last = max(first_origin(settings), min(starts).item()), newest.item()
    if first >= last:
        return newest, 0
    calendar = candlecast.calendar
    sessions = [session.date() for session in calendar.sessions(*calendar.within(first, last))]
    return newest, sum(session < last for session in planned_sessions(sessions, settings, calendar))


def _outdated(candlecast: Candlecast, models: Sequence[ForecastModel]) -> list[np.datetime64]:
    """The planned origins of the outdated forecasts, once for each."""
    found = [origin for one in models for _, origin in one.outdated()]
    if not found:
        return []
    chosen = ForecastFilter.of(candlecast.settings, candlecast.warehouse, warm_up=candlecast.settings.warm_up)
    planned = {np.datetime64(stamp, "s") for stamp in chosen.planned or ()}
    return [one for one in found if one in planned or (chosen.after is not None and one > np.datetime64(chosen.after))]
