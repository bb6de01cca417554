"""The trading rules of a backtest: parameters and costs of TopkDropout."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from resources.settings import BacktestSettings

# Qlib's default: 5 % stay cash, so that no order is cut for lack of cash.
INVESTED = 0.95


@dataclass(frozen=True)
class TradingRules:
    """Parameters of Qlib's TopkDropout. Costs are fractions of the value traded, `min_cost` and `account` are money."""

    topk: int
    n_drop: int
    hold_thresh: int
    open_cost: float
    close_cost: float
    min_cost: float
    account: float
    invested: float = INVESTED

    @classmethod
    def of(cls, settings: BacktestSettings) -> TradingRules:
        return cls(
            topk=settings.topk,
            n_drop=settings.n_drop,
            hold_thresh=settings.hold_thresh,
            open_cost=settings.open_cost,
            close_cost=settings.close_cost,
            min_cost=settings.min_cost,
            account=float(settings.account),
        )

    @property
    def symbols_needed(self) -> int:
        """The fewest symbols with a signal: with fewer, TopkDropout sells holdings that it cannot replace."""
        return self.topk + self.n_drop

    def as_dict(self) -> dict[str, float]:
        return asdict(self)
