"""What can be traded at the open of a session: suspensions, sessions without volume, and locked price limits.

A session without a bar or with volume 0 fills no order. At the upper limit nothing can be bought, at the lower limit
nothing can be sold: orders at that price wait in a queue. Such orders are refused by the simulations; prices, and the
value of holdings, are as they are. Not here: which orders are made (topk_dropout).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd

from assets.backtests.prices import PricePanel
from assets.market.selection import stored_symbol
from resources.settings import BacktestSettings

# Limits of whole markets, as fractions of the previous close; Shanghai's calendar is also that of Shenzhen. Other
# calendars have none here: their limits depend on the price, the symbol or the day.
PRICE_LIMITS: Mapping[str, float] = {"XSHG": 0.1, "SSE": 0.1}
# A session of one price is locked if it moved by this share of the limit. Half of it where the limit is the calendar's:
# symbols under special treatment have 5 %.
LOCKED_MOVE, LOCKED_MOVE_OF_CALENDAR = 0.9, 0.45
# Prices are float32.
RELATIVE_ERROR = 1e-6


class State(IntEnum):
    """What a symbol's session allows."""

    OPEN = 0
    SUSPENDED = 1
    NO_VOLUME = 2
    LIMIT_UP = 3
    LIMIT_DOWN = 4


REASONS: Mapping[State, str] = {
    State.SUSPENDED: "suspended",
    State.NO_VOLUME: "no_volume",
    State.LIMIT_UP: "limit_up",
    State.LIMIT_DOWN: "limit_down",
}
# Columns of daily results: refused orders by reason.
REFUSED = tuple(f"refused_{reason}" for reason in REASONS.values())


@dataclass(frozen=True)
class PriceLimits:
    """Daily price limits of a market.

    Attributes:
        by_pattern: limits as fractions of the previous close, by symbol or pattern such as `30*`; the first pattern
            that a symbol matches counts, one that matches none has no limit.
        tick: the price step to which the exchange rounds limits.
        locked_move: the share of the limit from which the move of a session of one price shows that it was locked.
    """

    by_pattern: Mapping[str, float]
    tick: float
    locked_move: float = LOCKED_MOVE

    @classmethod
    def of(cls, settings: BacktestSettings, calendar: str) -> PriceLimits:
        """The limits of the settings, or those of the calendar."""
        given = settings.price_limit
        if given is None:
            return cls({"*": PRICE_LIMITS.get(calendar, 0.0)}, settings.price_tick, LOCKED_MOVE_OF_CALENDAR)
        by_pattern = given if isinstance(given, Mapping) else {"*": given}
        return cls({stored_symbol(pattern): limit for pattern, limit in by_pattern.items()}, settings.price_tick)

    def of_symbol(self, symbol: str) -> float:
        """The limit of one symbol; 0: none."""
        return next((limit for pattern, limit in self.by_pattern.items() if fnmatchcase(symbol, pattern)), 0.0)


def session_states(prices: PricePanel, limits: PriceLimits) -> np.ndarray:
    """The `State` of every symbol on every session: (sessions, symbols) int8."""
    found = np.full(prices.close.shape, State.OPEN, dtype=np.int8)
    limit = np.array([limits.of_symbol(symbol) for symbol in prices.symbols])
    with np.errstate(invalid="ignore"):
        upper, lower = _locked(prices, limit, limits)
        found[upper], found[lower] = State.LIMIT_UP, State.LIMIT_DOWN
        found[(prices.volume == 0) & ~prices.without_volume] = State.NO_VOLUME
    found[~np.isfinite(prices.close)] = State.SUSPENDED
    return found


def buyable(states: np.ndarray) -> np.ndarray:
    """Whether a session fills a buy order."""
    return np.isin(states, (State.OPEN, State.LIMIT_DOWN))


def sellable(states: np.ndarray) -> np.ndarray:
    """Whether a session fills a sell order."""
    return np.isin(states, (State.OPEN, State.LIMIT_UP))


def _locked(prices: PricePanel, limit: np.ndarray, limits: PriceLimits) -> tuple[np.ndarray, np.ndarray]:
    """Sessions that open at the upper and at the lower limit; (sessions, symbols) each.

    The reference price is the last close, adjusted for actions. A session that trades beyond the limit has another one.
    """
    before = np.vstack([np.full((1, len(limit)), np.nan), pd.DataFrame(prices.close).ffill().to_numpy()[:-1]])
    tolerance = limits.tick * prices.factor / 2 + RELATIVE_ERROR * before
    top, bottom = before * (1 + limit), before * (1 - limit)
    upper = (prices.open >= top - tolerance) & (prices.high <= top + tolerance)
    lower = (prices.open <= bottom + tolerance) & (prices.low >= bottom - tolerance)
    move = np.where(prices.high == prices.low, prices.close / before - 1, 0.0)
    upper |= move >= limits.locked_move * limit
    lower |= move <= -limits.locked_move * limit
    return upper & (limit > 0), lower & (limit > 0)
