"""TopkDropout in numpy: Qlib's strategy, exchange and account for whole days, without Qlib.

For parameter sweeps, and to verify the published results: an asset check fails where the two differ by more than 1e-10.
Under `dropout = "qlib"` it follows qlib 0.9.7 exactly, including three quirks: the number of buys counts sells that
`hold_thresh` or the market then forbids, so that more than topk are held; a holding without a score ranks last and is
sold first; and one that cannot be sold takes its place in n_drop every day. Under "tradable" only orders that can be
filled count. Different from Qlib under both: a delisted holding becomes cash at its last price.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assets.backtests.rules import TradingRules
from assets.backtests.tradability import REASONS, State, buyable, sellable

SMALLEST_TRADE = 1e-5


@dataclass(frozen=True)
class Simulation:
    """Daily returns as fractions of the account before the day, and the account after it in money; (trading days,).

    `refused`: refused orders, (trading days, reasons), in the order of `tradability.REASONS`.
    """

    gross: np.ndarray
    cost: np.ndarray
    turnover: np.ndarray
    account: np.ndarray
    refused: np.ndarray

    @property
    def net(self) -> np.ndarray:
        """Returns after costs, (trading days,)."""
        net: np.ndarray = self.gross - self.cost
        return net


def simulate(
    scores: np.ndarray,
    opens: np.ndarray,
    closes: np.ndarray,
    rules: TradingRules,
    ended: np.ndarray | None = None,
    states: np.ndarray | None = None,
) -> Simulation:
    """Simulate TopkDropout: trades on days 1 … at the open, by the scores of the day before.

    Args:
        scores: (days, symbols), NaN without a signal; columns in the order of their ids.
        opens, closes: (days, symbols), NaN without a bar.
        ended: (days, symbols), whether a symbol was delisted on an earlier day; None: never.
        states: (days, symbols), the `State` of each session; None: every session with a bar is open.
    """
    account_state = _Account(rules, scores.shape[1])
    delisted = np.zeros(closes.shape, dtype=bool) if ended is None else ended
    allowed = np.full(closes.shape, State.OPEN, dtype=np.int8) if states is None else states
    rows = [
        account_state.day(scores[day - 1], opens[day], closes[day], delisted[day], allowed[day])
        for day in range(1, len(scores))
    ]
    gross, cost, turnover, account = np.array(rows).reshape(-1, 4).T
    refused = np.array(account_state.refused, dtype=np.int64).reshape(-1, len(REASONS))
    return Simulation(gross, cost, turnover, account, refused)


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
        self.refused: list[np.ndarray] = []

    def day(
        self,
        score: np.ndarray,
        opens: np.ndarray,
        closes: np.ndarray,
        ended: np.ndarray,
        states: np.ndarray | None = None,
    ) -> tuple[float, float, float, float]:
        for symbol in [s for s in self.held if ended[s]]:
            self._settle(symbol)
        tradable = np.isfinite(closes)
        states = np.where(tradable, State.OPEN if states is None else states, State.SUSPENDED)
        deals = np.where(np.isfinite(opens) & (opens > 1e-8), opens, closes)
        cost = traded = 0.0
        self.refused.append(np.zeros(len(REASONS), dtype=np.int64))
        if np.isfinite(score).any():
            cost, traded = self._trade(score, deals, states)
        for symbol in self.held:
            if tradable[symbol]:
                self.price[symbol] = closes[symbol]
            self.age[symbol] += 1
        before, self.value = self.value, self.cash + sum(self.amount[s] * self.price[s] for s in self.held)
        return (self.value - before + cost) / before, cost / before, traded / before, self.value

    def _trade(self, score: np.ndarray, deals: np.ndarray, states: np.ndarray) -> tuple[float, float]:
        aged = self.age >= self.rules.hold_thresh
        self.refused[-1] = refused_orders(score, self.held, aged, states, self.rules)
        sells, buys = orders(score, self.held, aged, states, self.rules)
        cost = traded = 0.0
        for symbol in [s for s in self.held if s in sells]:
            value, fee = self._sell(symbol, deals[symbol])
            cost, traded = cost + fee, traded + value
        shares = len(buys)
        if self.rules.dropout == "tradable":
            # The share of a place that stays empty is kept for it.
            shares = max(self.rules.topk - len(self.held), 0)
            buys = buys[:shares]
        budget = self.cash * self.rules.invested / shares if buys else 0.0
        for symbol in [s for s in buys if buyable(states[s])]:
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


def orders(
    score: np.ndarray, held: list[int], aged: np.ndarray, states: np.ndarray, rules: TradingRules
) -> tuple[set[int], list[int]]:
    """Symbols whose sell orders are filled, and symbols among which cash is divided to buy, best first.

    Args:
        score: (symbols,), NaN without a signal.
        aged: (symbols,), whether a holding has been held for `hold_thresh` sessions.
        states: (symbols,), the `State` of the session.
    """
    if rules.dropout == "tradable":
        return choose_tradable(score, held, rules, aged & sellable(states), buyable(states))
    sells, buys = choose(score, held, rules)
    return {symbol for symbol in sells if aged[symbol] and sellable(states[symbol])}, buys


def refused_orders(
    score: np.ndarray, held: list[int], aged: np.ndarray, states: np.ndarray, rules: TradingRules
) -> np.ndarray:
    """Number of orders of an unrestricted session that this one refuses, by reason: (reasons,)."""
    sells, buys = orders(score, held, aged, np.full(len(score), State.OPEN), rules)
    refused = [*(s for s in sells if not sellable(states[s])), *(s for s in buys if not buyable(states[s]))]
    return np.array([sum(states[symbol] == state for symbol in refused) for state in REASONS], dtype=np.int64)


def choose(score: np.ndarray, held: list[int], rules: TradingRules) -> tuple[set[int], list[int]]:
    """Symbols to sell, and symbols to buy, best first, as in Qlib. Slices with negative ends are as in Qlib."""
    best_first = _best_first(score)
    fresh = [symbol for symbol in best_first if symbol not in held]
    today = fresh[: rules.n_drop + rules.topk - len(held)]
    worst = _ranked([*held, *today], best_first)[-rules.n_drop :]
    sells = {symbol for symbol in held if symbol in worst}
    return sells, today[: len(sells) + rules.topk - len(held)]


def choose_tradable(
    score: np.ndarray, held: list[int], rules: TradingRules, can_sell: np.ndarray, can_buy: np.ndarray
) -> tuple[set[int], list[int]]:
    """Symbols to sell, and symbols to buy, best first, among those that can be traded.

    Holdings that cannot be sold keep their places in topk and take none of n_drop. A holding is sold only if it can be
    replaced. If everything can be traded and enough symbols have a score, the choice is Qlib's.
    """
    best_first = _best_first(score)
    places = max(rules.topk - len(held), 0)
    today = [symbol for symbol in best_first if symbol not in held and can_buy[symbol]][: rules.n_drop + places]
    free = [symbol for symbol in held if can_sell[symbol]]
    worst = _ranked([*free, *today], best_first)[-rules.n_drop :]
    replaced = max(len(today) - places, 0)
    sells = [symbol for symbol in worst if symbol in free][::-1][:replaced]
    return set(sells), today[: len(sells) + places]


def _best_first(score: np.ndarray) -> list[int]:
    return [int(symbol) for symbol in np.argsort(-score, kind="stable") if np.isfinite(score[symbol])]


def _ranked(symbols: list[int], best_first: list[int]) -> list[int]:
    """Symbols by score, the best first; those without one last, by column."""
    place = {symbol: position for position, symbol in enumerate(best_first)}
    return sorted(symbols, key=lambda symbol: (place.get(symbol, len(best_first)), symbol))
