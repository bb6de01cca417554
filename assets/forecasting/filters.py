"""Which forecasts are shown and compared under some settings: one set for the scoreboard, the report and the backtest.

A home keeps what earlier settings made: forecasts of other symbols, and from before the test range began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import pandas as pd

from assets.market.universe import wanted_symbols
from resources.calendar import TradingCalendar
from resources.settings import Settings


@dataclass(frozen=True)
class Scope:
    """Symbols, and origins from a day on.

    Attributes:
        symbols: as the warehouse writes them; none: all that there are.
        first: the start of the test range. There is no end: what is forecast after the range counts.
        planned: the origins that the settings plan in the test range, oldest first; none: any counts. What was
            forecast from another by hand would let whoever chooses it choose the result.
        after: the last bar of the test range, after which every origin is planned.
    """

    symbols: Sequence[str] | None = None
    first: date = date.min
    planned: Sequence[datetime] | None = None
    after: datetime | None = None

    @classmethod
    def of(cls, settings: Settings) -> Scope:
        test, every = settings.windows.test, settings.forecasts.every
        calendar = TradingCalendar(settings.market.calendar, settings.market.frequency)
        within = calendar.within(*test)
        grid = calendar.grid(*within)
        ends = grid.groupby("session")["ts"].max().loc[pd.Timestamp(within[0]) : pd.Timestamp(within[1])]
        stamps = [stamp.to_pydatetime() for stamp in ends]
        return cls(wanted_symbols(settings), test[0], stamps[::every], stamps[-1] if stamps else None)

    @property
    def parameters(self) -> dict[str, object]:
        """For SQL that holds `IN_SCOPE`."""
        return {
            "symbols": None if self.symbols is None else list(self.symbols),
            "first": self.first,
            "planned": None if self.planned is None else list(self.planned),
            "after": self.after,
        }


# Conditions on the columns `symbol` and `origin`.
ORIGIN_IN_SCOPE = """(origin >= $first AND (
    $planned::TIMESTAMP[] IS NULL OR origin > $after OR origin IN (SELECT unnest($planned::TIMESTAMP[]))
))"""
IN_SCOPE = f"({ORIGIN_IN_SCOPE} AND ($symbols IS NULL OR list_contains($symbols, symbol)))"
