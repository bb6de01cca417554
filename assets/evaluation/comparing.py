"""One comparison: the models in use, the scoreboard, and what stands behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assets.evaluation.scoreboard import (
    horizons_of,
    means_by_step,
    origin_counts,
    paired_scores,
    pits,
    scoreboard_of,
)
from assets.forecasting.bootstrap import block_length
from assets.forecasting.filters import Scope
from resources.calendar import TradingCalendar
from resources.settings import Settings
from resources.warehouse import Warehouse


@dataclass(frozen=True)
class Comparison:
    """A scoreboard and what a person wants to see beside it.

    Attributes:
        block: origins in a block of the bootstrap.
        counts: columns model, in_sample, out_of_sample: origins left out and compared.
        by_step: columns model, metric, step, value.
        pits: columns model, pit.
    """

    scoreboard: pd.DataFrame
    block: int
    counts: pd.DataFrame
    by_step: pd.DataFrame
    pits: pd.DataFrame


def compare(warehouse: Warehouse, settings: Settings, used: Mapping[str, str], calendar: TradingCalendar) -> Comparison:
    """Compare the models' out-of-sample scores of what the settings ask for (scope).

    Args:
        used: the checkpoint of each model.
    """
    horizon, scope = settings.windows.predict_window, Scope.of(settings)
    paired = paired_scores(warehouse, used, horizons_of(horizon), scope)
    origins = np.sort(paired["origin"].unique())
    covering = covering_of(_bars_between(origins, calendar), horizon)
    block = settings.evaluation.block_origins or block_length(covering, len(origins))
    return Comparison(
        scoreboard=scoreboard_of(paired, settings.evaluation, block, settings.seed),
        block=block,
        counts=origin_counts(warehouse, used, scope),
        by_step=means_by_step(warehouse, used, scope),
        pits=pits(warehouse, used, scope),
    )


def covering_of(bars_between: Sequence[int], horizon: int) -> int:
    """How many neighbouring origins' forecasts share a bar, where origins lie so many bars apart."""
    return int(np.ceil(horizon / max(1.0, float(np.median(bars_between))))) if len(bars_between) else 1


def _bars_between(origins: np.ndarray, calendar: TradingCalendar) -> list[int]:
    """Bars from each origin to the next, on the calendar."""
    if len(origins) < 2:
        return []
    first, last = (pd.Timestamp(origin).date() for origin in (origins[0], origins[-1]))
    return np.diff(calendar.stamps(first, last).searchsorted(origins)).tolist()
