"""TopkDropout without Qlib: its strategy, exchange and account for whole days, compiled.

For parameter sweeps (sweep), and to verify the published results: an asset check fails where the two differ by more
than 1e-10. Under `dropout = "qlib"` it follows qlib 0.9.7 exactly, including three quirks: the number of buys counts
sells that `hold_thresh` or the market then forbids, so that more than topk are held; a holding without a score ranks
last and is sold first; and one that cannot be sold takes its place in n_drop every day. Under "tradable" only orders
that can be filled count. Different from Qlib under both: a delisted holding becomes cash at its last price. Not here:
the day loop itself (topk_kernel).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from assets.backtests import topk_kernel as kernel
from assets.backtests.rules import TradingRules
from assets.backtests.tradability import REASONS, State, buyable, sellable

# Qlib's exchange takes the close where the open is not above this.
SMALLEST_PRICE = 1e-8
# Days × symbols of all backtests: fewer take less time than loading the compiled loop.
COMPILED_FROM = 50_000


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

    Compiled from 50,000 scores on: then the first call on a machine takes seconds, and that of a process half a second.

    Args:
        scores: (days, symbols), NaN without a signal; columns in the order of their ids.
        opens, closes: (days, symbols), NaN without a bar.
        ended: (days, symbols), whether a symbol was delisted on an earlier day; None: never.
        states: (days, symbols), the `State` of each session; None: every session with a bar is open.
    """
    sessions = trading_sessions(opens, closes, ended, states)
    return simulate_ranked(ranking(scores), sessions, rules, compiled=scores.size >= COMPILED_FROM)


def trading_sessions(
    opens: np.ndarray, closes: np.ndarray, ended: np.ndarray | None = None, states: np.ndarray | None = None
) -> kernel.Sessions:
    """Prices and states as the simulation reads them, once for any number of backtests. Arguments as of `simulate`."""
    open_, close = (np.array(prices, dtype=np.float64, order="C") for prices in (opens, closes))
    allowed = np.full(close.shape, State.OPEN) if states is None else states
    allowed = np.where(np.isfinite(close), allowed, State.SUSPENDED).astype(np.int8)
    return kernel.Sessions(
        deals=np.where(np.isfinite(open_) & (open_ > SMALLEST_PRICE), open_, close),
        closes=close,
        ended=np.zeros(close.shape, dtype=bool) if ended is None else np.array(ended, dtype=bool, order="C"),
        states=allowed,
        buyable=buyable(allowed),
        sellable=sellable(allowed),
        restricted=(allowed != State.OPEN).any(axis=1),
    )


def ranking(scores: np.ndarray) -> kernel.Ranking:
    """The orders of symbols by scores, (days, symbols); the first column wins a tie."""
    scores = np.ascontiguousarray(scores, dtype=np.float64)
    scored = np.isfinite(scores)
    # Falling, with whatever has no finite score at the end.
    keys = np.where(scored, -scores, np.inf)
    return kernel.Ranking(np.argsort(keys, axis=1, kind="stable"), scored.sum(axis=1), scored)


def simulate_ranked(
    ranks: kernel.Ranking, sessions: kernel.Sessions, rules: TradingRules, compiled: bool
) -> Simulation:
    """Simulate one backtest. Not compiled, the result has the same bits and takes fifty to eighty times as long."""
    days, symbols = sessions.closes.shape
    trading_days = max(days - 1, 0)
    returns = np.empty((4, trading_days))
    refused = np.empty((trading_days, len(State)), dtype=np.int64)
    run = kernel.simulate_days
    if compiled:
        from assets.backtests.topk_compiled import compiled_day_loop

        run = compiled_day_loop()
    run(float(rules.account), _numbers(rules), ranks, sessions, _portfolio(symbols), _choice(symbols), returns, refused)
    gross, cost, turnover, account = returns
    return Simulation(gross, cost, turnover, account, refused[:, list(REASONS)])


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
    refused = np.zeros(len(State), dtype=np.int64)
    best, scored, choice = _ranked(score)
    age = np.where(aged, rules.hold_thresh, rules.hold_thresh - 1)
    kernel.count_refused(
        best, scored, np.array(held, dtype=np.int64), age, _numbers(rules), states, sellable(states), buyable(states),
        choice, refused,
    )  # fmt: skip
    return refused[list(REASONS)]


def choose(score: np.ndarray, held: list[int], rules: TradingRules) -> tuple[set[int], list[int]]:
    """Symbols to sell, and symbols to buy, best first, as in Qlib, whatever can be traded."""
    anything = np.ones(len(score), dtype=bool)
    return _chosen(score, held, replace(rules, dropout="qlib"), anything, anything)


def choose_tradable(
    score: np.ndarray, held: list[int], rules: TradingRules, can_sell: np.ndarray, can_buy: np.ndarray
) -> tuple[set[int], list[int]]:
    """Symbols to sell, and symbols to buy, best first, among those that can be traded.

    If everything can be traded and enough symbols have a score, the choice is Qlib's.
    """
    return _chosen(score, held, replace(rules, dropout="tradable"), can_sell, can_buy)


def _chosen(
    score: np.ndarray, held: list[int], rules: TradingRules, can_sell: np.ndarray, can_buy: np.ndarray
) -> tuple[set[int], list[int]]:
    best, scored, choice = _ranked(score)
    choice.can_sell[:], choice.can_buy[:] = can_sell, can_buy
    buys = kernel.choose(best, scored, np.array(held, dtype=np.int64), _numbers(rules), choice)
    return {symbol for symbol in held if choice.sells[symbol]}, [int(symbol) for symbol in choice.buys[:buys]]


def _ranked(score: np.ndarray) -> tuple[np.ndarray, np.ndarray, kernel.Choice]:
    """The symbols with a score, best first, whether a symbol has one, and work space for their choice."""
    ranks = ranking(score[None])
    return ranks.best_first[0, : ranks.counts[0]], ranks.scored[0], _choice(len(score))


def _numbers(rules: TradingRules) -> kernel.Rules:
    return kernel.Rules(
        rules.topk, rules.n_drop, rules.hold_thresh, rules.dropout == "tradable",
        rules.open_cost, rules.close_cost, rules.min_cost, rules.invested,
    )  # fmt: skip


def _portfolio(symbols: int) -> kernel.Portfolio:
    held, size, age = np.zeros(symbols, dtype=np.int64), np.zeros(1, dtype=np.int64), np.zeros(symbols, dtype=np.int64)
    return kernel.Portfolio(np.zeros(1), size, held, np.zeros(symbols), np.zeros(symbols), age)


def _choice(symbols: int) -> kernel.Choice:
    can_sell, can_buy, sells = np.zeros((3, symbols), dtype=bool)
    return kernel.Choice(can_sell, can_buy, np.zeros(symbols, dtype=np.int8), sells, np.zeros(symbols, dtype=np.int64))
