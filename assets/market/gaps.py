"""Missing bars between two bars of a symbol, filled for the input of models.

Only what models read as history is filled, up to an origin that is a bar: so a filled bar lies between two known ones,
and interpolation reads no bar after the origin. What is filled says so in `BarHistory.filled`. Stored bars, actuals,
scores and backtests know nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from assets.market.history import PRICES, VOLUME, BarHistory
from resources.calendar import TradingCalendar
from resources.settings import FillRule, Settings

AMOUNT = VOLUME + 1


@dataclass(frozen=True)
class GapFill:
    """How missing bars are filled.

    Attributes:
        limit: most bars in a row; a longer gap is a suspension and stays as it is.
    """

    rule: FillRule
    limit: int
    calendar: str
    frequency: str

    @classmethod
    def of(cls, settings: Settings, fitted: Mapping[str, Any] | None = None) -> GapFill:
        """The rule that weights were fitted with; of weights that were not fitted here, the rule of the settings.

        Args:
            fitted: the key `training` of the weights' card.
        """
        windows = settings.windows
        used: Mapping[str, Any] = {"rule": windows.fill, "limit": windows.fill_limit}
        if fitted is not None:
            used = fitted.get("fill", {"rule": "none", "limit": windows.fill_limit})
        return cls(used["rule"], used["limit"], settings.market.calendar, settings.market.frequency)

    @property
    def recipe(self) -> dict[str, Any]:
        """The part of a recipe that names the rule."""
        return fill_recipe(self.rule, self.limit)

    def apply(self, history: BarHistory) -> BarHistory:
        """The history with its gaps filled; the same one if there is nothing to fill."""
        if self.rule == "none" or len(history) < 2:
            return history
        first, last = history.stamps[[0, -1]].astype("datetime64[D]").tolist()
        grid = TradingCalendar(self.calendar, self.frequency).grid(first, last)
        stamps = grid["ts"].to_numpy().astype("datetime64[s]")
        position = np.minimum(np.searchsorted(stamps, history.stamps), len(stamps) - 1)
        missing = np.diff(position, append=position[-1] + 1) - 1
        on_grid = stamps[position] == history.stamps
        missing[~on_grid | ~np.append(on_grid[1:], True) | (missing > self.limit) | (missing < 0)] = 0
        if not missing.any():
            return history
        before = np.repeat(np.arange(len(history)), missing + 1)
        step = np.arange(len(before)) - np.repeat(np.cumsum(missing + 1) - missing - 1, missing + 1)
        filled, at = step > 0, position[before] + step
        days = grid["session"].to_numpy().astype("datetime64[D]")
        return BarHistory(
            history.symbol,
            np.where(filled, stamps[at], history.stamps[before]),
            self._bars(history, before, filled, step / (missing[before] + 1)),
            history.growth[before],
            history.shares[before],
            np.where(filled, days[at], history.days[before]),
            filled,
            None if history.events is None else history.events[before] & ~filled,
        )

    def _bars(self, history: BarHistory, before: np.ndarray, filled: np.ndarray, share: np.ndarray) -> np.ndarray:
        """The quoted bars: row `before` and, where `filled`, what stands between it and the next one."""
        bars: np.ndarray = history.quoted[before].copy()
        old = before[filled]
        if self.rule == "forward":
            bars[filled, PRICES] = history.quoted[old, PRICES.stop - 1][:, None]
            # Nothing was traded, where the source has volumes at all.
            bars[filled, VOLUME:] = np.where(np.isnan(bars[filled, VOLUME:]), np.nan, 0.0)
            return bars
        weight = share[filled][:, None]
        units = np.column_stack([*[history.growth] * 4, 1 / history.shares, np.ones(len(history))])
        known = history.quoted * units
        bars[filled] = (known[old] * (1 - weight) + known[old + 1] * weight) / units[old]
        return bars


def fill_recipe(rule: FillRule, limit: int) -> dict[str, Any]:
    """The part of a recipe or manifest that names a rule; empty for "none", as before there were others."""
    return {} if rule == "none" else {"fill": {"rule": rule, "limit": limit}}


def without_filled(history: BarHistory) -> BarHistory:
    """The history without its filled bars."""
    if history.filled is None:
        return history
    kept = ~history.filled
    rows = (history.stamps, history.quoted, history.growth, history.shares, history.days)
    return BarHistory(history.symbol, *(part[kept] for part in rows))
