"""TopkDropout in numpy: Qlib's strategy, exchange and account for whole days, without Qlib.

For parameter sweeps, and to verify the published results: an asset check fails where the two differ by more than 1e-10.
It follows qlib 0.9.7 exactly, including two quirks: the number of buys counts sells that `hold_thresh` then forbids,
and a holding without a score ranks last and is sold first. Different from Qlib: a delisted holding becomes cash at its
last price; otherwise it would always rank last, and nothing else would ever be sold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assets.backtests.rules import TradingRules

SMALLEST_TRADE = 1e-5


@dataclass(frozen=True)
class Simulation:
    """Daily returns as fractions of the account before the day, and the account after it in money; (trading days,)."""

    gross: np.ndarray
    cost: np.ndarray
    turnover: np.ndarray
    account: np.ndarray

    @property
    def net(self) -> np.ndarray:
        """Returns after costs, (trading days,)."""
        net: np.ndarray = self.gross - self.cost
        return net


def simulate(
    scores: np.ndarray, opens: np.ndarray, closes: np.ndarray, rules: TradingRules, ended: np.ndarray | None = None
) -> Simulation:
    """Simulate TopkDropout: trades on days 1 … at the open, by the scores of the day before.

    Args:
        scores: (days, symbols), NaN without a signal; columns in the order of their ids.
        opens, closes: (days, symbols), NaN without a bar.
        ended: (days, symbols), whether a symbol was delisted on an earlier day; None: never.
    """
    account_state = _Account(rules, scores.shape[1])
    delisted = np.zeros(closes.shape, dtype=bool) if ended is None else ended
    rows = [account_state.day(scores[day - 1], opens[day], closes[day], delisted[day]) for day in range(1, len(scores))]
    gross, cost, turnover, account = np.array(rows).reshape(-1, 4).T
    return Simulation(gross, cost, turnover, account)


class _Account:
    """Cash and holdings during a simulation."""

    def __init__(self, rules: TradingRules, symbols: int) -> None:
        self.rules = rules
        self.cash = rules.account
        self.value = rules.account
        self.amount = np.zeros(symbols)
        self.price = np.zeros(symbols)
        self.age = np.zeros(symbols, dtype=int)
        self.held: list[int] = []

    def day(
        self, score: np.ndarray, opens: np.ndarray, closes: np.ndarray, ended: np.ndarray
    ) -> tuple[float, float, float, float]:
        for symbol in [s for s in self.held if ended[s]]:
            self._settle(symbol)
        tradable = np.isfinite(closes)
        deals = np.where(np.isfinite(opens) & (opens > 1e-8), opens, closes)
        cost = traded = 0.0
        if np.isfinite(score).any():
            cost, traded = self._trade(score, deals, tradable)
        for symbol in self.held:
            if tradable[symbol]:
                self.price[symbol] = closes[symbol]
            self.age[symbol] += 1
        before, self.value = self.value, self.cash + sum(self.amount[s] * self.price[s] for s in self.held)
        return (self.value - before + cost) / before, cost / before, traded / before, self.value

    def _trade(self, score: np.ndarray, deals: np.ndarray, tradable: np.ndarray) -> tuple[float, float]:
        sells, buys = choose(score, self.held, self.rules)
        cost = traded = 0.0
        for symbol in [s for s in self.held if s in sells and tradable[s] and self.age[s] >= self.rules.hold_thresh]:
            value, fee = self._sell(symbol, deals[symbol])
            cost, traded = cost + fee, traded + value
        budget = self.cash * self.rules.invested / len(buys) if buys else 0.0
        for symbol in buys:
            if tradable[symbol]:
                value, fee = self._buy(symbol, budget, deals[symbol])
                cost, traded = cost + fee, traded + value
        return cost, traded

    def _settle(self, symbol: int) -> None:
        """Convert a delisted holding to cash at its last price, without costs."""
        self.cash += self.amount[symbol] * self.price[symbol]
        self._remove(symbol)

    def _remove(self, symbol: int) -> None:
        self.amount[symbol], self.age[symbol] = 0.0, 0
        self.held.remove(symbol)

    def _sell(self, symbol: int, price: float) -> tuple[float, float]:
        value = self.amount[symbol] * price
        fee = max(value * self.rules.close_cost, self.rules.min_cost)
        if value <= SMALLEST_TRADE or self.cash + value < fee:
            return 0.0, 0.0
        self.cash += value - fee
        self._remove(symbol)
        return value, fee

    def _buy(self, symbol: int, budget: float, price: float) -> tuple[float, float]:
        value = self._affordable(budget)
        if value <= SMALLEST_TRADE:
            return 0.0, 0.0
        fee = max(value * self.rules.open_cost, self.rules.min_cost)
        self.cash -= value + fee
        if symbol not in self.held:
            self.held.append(symbol)
        self.amount[symbol] += value / price
        self.price[symbol] = price
        return value, fee

    def _affordable(self, value: float) -> float:
        rate, least = self.rules.open_cost, self.rules.min_cost
        fee = max(value * rate, least)
        if self.cash < fee:
            return 0.0
        if self.cash >= value + fee:
            return value
        # Qlib's rule, including its critical price. With a rate of 0 the fee is always `min_cost`.
        critical = least / rate + least if rate else np.inf
        return min(value, self.cash / (1 + rate) if self.cash >= critical else self.cash - least)


def choose(score: np.ndarray, held: list[int], rules: TradingRules) -> tuple[set[int], list[int]]:
    """Symbols to sell, and symbols to buy, best first. Slices with negative ends are as in Qlib."""
    best_first = [int(symbol) for symbol in np.argsort(-score, kind="stable") if np.isfinite(score[symbol])]
    place = {symbol: position for position, symbol in enumerate(best_first)}

    def order(symbols: list[int]) -> list[int]:
        return sorted(symbols, key=lambda symbol: (place.get(symbol, len(score)), symbol))

    fresh = [symbol for symbol in best_first if symbol not in held]
    today = fresh[: rules.n_drop + rules.topk - len(held)]
    worst = order([*held, *today])[-rules.n_drop :]
    sells = {symbol for symbol in held if symbol in worst}
    return sells, today[: len(sells) + rules.topk - len(held)]
