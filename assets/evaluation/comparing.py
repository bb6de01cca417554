"""One comparison: the models in use, the scoreboard, and what stands behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assets.evaluation.scoreboard import (
    block_length,
    horizons_of,
    means_by_step,
    origin_counts,
    paired_scores,
    pits,
    scoreboard_of,
)
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
    """Compare the models' out-of-sample scores.

    Args:
        used: the checkpoint of each model.
    """
    horizon = settings.windows.predict_window
    paired = paired_scores(warehouse, used, horizons_of(horizon))
    block = settings.evaluation.block_origins or block_length(_bars_between(paired, calendar), horizon)
    return Comparison(
        scoreboard=scoreboard_of(paired, settings.evaluation, block, settings.seed),
        block=block,
        counts=origin_counts(warehouse, used),
        by_step=means_by_step(warehouse, used),
        pits=pits(warehouse, used),
    )


def _bars_between(paired: pd.DataFrame, calendar: TradingCalendar) -> list[int]:
    """Bars from each origin to the next, on the calendar."""
    origins = np.sort(paired["origin"].unique())
    if len(origins) < 2:
        return []
    first, last = (pd.Timestamp(origin).date() for origin in (origins[0], origins[-1]))
    return np.diff(calendar.stamps(first, last).searchsorted(origins)).tolist()
