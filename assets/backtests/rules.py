"""The trading rules of a backtest: parameters and costs of TopkDropout, and the price limits of the market."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from assets.backtests.tradability import PriceLimits
from resources.settings import BacktestSettings

# Qlib's default: 5 % stay cash, so that no order is cut for lack of cash.
INVESTED = 0.95
NO_LIMITS = PriceLimits({}, 0.01)


@dataclass(frozen=True)
class TradingRules:
    """Parameters of TopkDropout. Costs are fractions of the value traded, `min_cost` and `account` are money.

    `dropout` is what counts towards `n_drop` and `topk`: "tradable", the orders that are filled; "qlib", all that are
    made, as in Qlib.
    """

    topk: int
    n_drop: int
    hold_thresh: int
    open_cost: float
    close_cost: float
    min_cost: float
    account: float
    invested: float = INVESTED
    dropout: Literal["tradable", "qlib"] = "tradable"
    limits: PriceLimits = NO_LIMITS

    @classmethod
    def of(cls, settings: BacktestSettings, calendar: str) -> TradingRules:
        return cls(
            topk=settings.topk,
            n_drop=settings.n_drop,
            hold_thresh=settings.hold_thresh,
            open_cost=settings.open_cost,
            close_cost=settings.close_cost,
            min_cost=settings.min_cost,
            account=float(settings.account),
            dropout=settings.dropout,
            limits=PriceLimits.of(settings, calendar),
        )

    @property
    def symbols_needed(self) -> int:
        """The fewest symbols with a signal: with fewer, TopkDropout sells holdings that it cannot replace."""
        return self.topk + self.n_drop

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TradingRules:
        """The rules that `as_dict` returned."""
        return cls(**{**values, "limits": PriceLimits(**values["limits"])})

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
