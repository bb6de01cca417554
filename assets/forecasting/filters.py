"""The forecasts that the settings ask for: one filter for the scoreboard, the report and the backtest.

A home also holds forecasts made under earlier settings: of other symbols, and from origins before the test range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache

import pandas as pd

from assets.market.selection import own_symbols
from resources.calendar import TradingCalendar
from resources.derived_models import is_recalibrated
from resources.settings import Settings
from resources.warehouse import Warehouse

# By model, the checkpoint in use, or those of its vintages.
UsedCheckpoints = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class ForecastFilter:
    """A filter on symbol and origin.

    Attributes:
        symbols: as spelled in the warehouse; None: all.
        first: the first day of the test range. There is no last day: forecasts after the test range count.
        planned: the origins in the test range that the settings plan, oldest first; None: all. Forecasts from other
            origins, made by hand, are excluded: whoever picks an origin could pick the result.
        after: the last bar of the test range; every origin after it is included.
    """

    symbols: Sequence[str] | None = None
    first: date = date.min
    planned: Sequence[datetime] | None = None
    after: datetime | None = None

    @classmethod
    def of(cls, settings: Settings, warehouse: Warehouse, warm_up: bool = False) -> ForecastFilter:
        """The filter that the settings define.

        Args:
            warm_up: whether the planned origins of windows.validation pass as well.
        """
        calendar = TradingCalendar(settings.market.calendar, settings.market.frequency)
        every, windows = settings.forecasts.every, settings.windows
        stamps = _ends(*windows.test, calendar)
        early = _ends(*windows.validation, calendar)[::every] if warm_up else []
        first = windows.validation[0] if warm_up else windows.test[0]
        planned = [*early, *stamps[::every]]
        return cls(own_symbols(settings, warehouse), first, planned, stamps[-1] if stamps else None)

    @property
    def parameters(self) -> dict[str, object]:
        """The query parameters of FORECAST_FILTER and ORIGIN_FILTER."""
        return {
            "symbols": None if self.symbols is None else list(self.symbols),
            "first": self.first,
            "planned": None if self.planned is None else list(self.planned),
            "after": self.after,
        }


@lru_cache(maxsize=16)
def _ends(first: date, last: date, calendar: TradingCalendar) -> Sequence[datetime]:
    """The last bar of each session of a range."""
    within = calendar.within(first, last)
    grid = calendar.grid(*within)
    ends = grid.groupby("session")["ts"].max().loc[pd.Timestamp(within[0]) : pd.Timestamp(within[1])]
    return [stamp.to_pydatetime() for stamp in ends]


def without_recalibrated(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of models as they forecast: those whose column `model` names no recalibrated forecasts."""
    return frame[~frame["model"].map(is_recalibrated).astype(bool)]


def checkpoint_pairs(used: UsedCheckpoints) -> list[tuple[str, str]]:
    """(model, checkpoint) of every checkpoint in use."""
    return [(model, one) for model, named in used.items() for one in ([named] if isinstance(named, str) else named)]


def checkpoints_frame(used: UsedCheckpoints) -> pd.DataFrame:
    """`checkpoint_pairs` as columns model, checkpoint."""
    return pd.DataFrame(checkpoint_pairs(used), columns=["model", "checkpoint"], dtype=str)


# SQL conditions on the columns `origin` and `symbol`.
ORIGIN_FILTER = """(origin >= $first AND (
    $planned::TIMESTAMP[] IS NULL OR origin > $after OR origin IN (SELECT unnest($planned::TIMESTAMP[]))
))"""
SYMBOL_FILTER = "($symbols IS NULL OR list_contains($symbols, symbol))"
FORECAST_FILTER = f"({ORIGIN_FILTER} AND {SYMBOL_FILTER})"
