"""Which forecasts are shown and compared under some settings: one set for the scoreboard, the report and the backtest.

A home keeps what earlier settings made: forecasts of other symbols, and from before the test range began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from assets.market.universe import wanted_symbols
from resources.settings import Settings


@dataclass(frozen=True)
class Scope:
    """Symbols, and origins from a day on.

    Attributes:
        symbols: as the warehouse writes them; none: all that there are.
        first: the start of the test range. There is no end: what is forecast after the range counts.
    """

    symbols: Sequence[str] | None = None
    first: date = date.min

    @classmethod
    def of(cls, settings: Settings) -> Scope:
        return cls(wanted_symbols(settings), settings.windows.test[0])

    @property
    def parameters(self) -> dict[str, object]:
        """For SQL that holds `IN_SCOPE`."""
        return {"symbols": None if self.symbols is None else list(self.symbols), "first": self.first}


# A condition on the columns `symbol` and `origin`.
IN_SCOPE = "origin >= $first AND ($symbols IS NULL OR list_contains($symbols, symbol))"
