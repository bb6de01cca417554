"""The day loop of TopkDropout: orders, fills and account over plain arrays, as functions that numba can compile.

They are ordinary Python as well, with the same bits: Qlib's strategy and short backtests call them uncompiled
(topk_compiled). Symbols are columns. Everything compiled stands in this file: numba's cache on disk notices a change of
this source only, so what a state allows comes in as arrays. Not here: the preparation of arrays (topk_dropout).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SMALLEST_TRADE = 1e-5
# The part of a symbol in the choice of one session.
ABSENT, FIXED, SELLABLE, CANDIDATE = 0, 1, 2, 3


class Rules(NamedTuple):
    """The numbers of `TradingRules`; `tradable`: whether only orders that can be filled count."""

    topk: int
    n_drop: int
    hold_thresh: int
    tradable: bool
    open_cost: float
    close_cost: float
    min_cost: float
    invested: float


class Ranking(NamedTuple):
    """Scores as orders: all (days, symbols), but `counts` (days,).

    Attributes:
        best_first: int64, symbols by falling score; those without one last.
        counts: int64, symbols with a score.
        scored: bool, whether a symbol has a score.
    """

    best_first: np.ndarray
    counts: np.ndarray
    scored: np.ndarray


class Sessions(NamedTuple):
    """What the market allows and pays: all (days, symbols), but `restricted` (days,).

    Attributes:
        deals: the price of orders.
        closes: NaN without a bar.
        ended: bool, whether a symbol was delisted on an earlier day.
        states: int8, `State`.
        buyable, sellable: bool, whether an order is filled.
        restricted: bool, whether any order is refused.
    """

    deals: np.ndarray
    closes: np.ndarray
    ended: np.ndarray
    states: np.ndarray
    buyable: np.ndarray
    sellable: np.ndarray
    restricted: np.ndarray


class Portfolio(NamedTuple):
    """Work space of a simulation.

    Attributes:
        cash: (1,), money.
        size: (1,) int64, the number of holdings.
        held: (symbols,) int64, the holdings in the order of purchase, then anything.
        amount, price, age: (symbols,), of each holding; age in sessions, int64.
    """

    cash: np.ndarray
    size: np.ndarray
    held: np.ndarray
    amount: np.ndarray
    price: np.ndarray
    age: np.ndarray


class Choice(NamedTuple):
    """The orders of a session, by symbol: what may be traded, what is sold; and the buys, best first.

    Attributes:
        can_sell, can_buy: bool; `can_sell` counts for holdings only.
        part: int8, the part in the choice.
        sells: bool.
        buys: int64; the number of them is returned.
    """

    can_sell: np.ndarray
    can_buy: np.ndarray
    part: np.ndarray
    sells: np.ndarray
    buys: np.ndarray


def simulate_days(
    account: float,
    rules: Rules,
    ranking: Ranking,
    sessions: Sessions,
    portfolio: Portfolio,
    choice: Choice,
    returns: np.ndarray,
    refused: np.ndarray,
) -> None:
    """Trade on days 1 … by the ranking of the day before, starting with `account` in cash and no holdings.

    Args:
        portfolio, choice: work space.
        returns: (4, days - 1), filled with gross return, cost, turnover and account.
        refused: (days - 1, states), filled with the number of refused orders by state.
    """
    portfolio.cash[0], portfolio.size[0] = account, 0
    portfolio.amount[:] = 0.0
    portfolio.age[:] = 0
    refused[:] = 0
    value = account
    for day in range(1, len(sessions.closes)):
        settle(portfolio, sessions.ended[day])
        cost, traded = 0.0, 0.0
        if ranking.counts[day - 1] > 0:
            cost, traded = trade(day, rules, ranking, sessions, portfolio, choice, refused[day - 1])
        before, value = value, mark(portfolio, sessions.closes[day])
        returns[0, day - 1] = (value - before + cost) / before
        returns[1, day - 1] = cost / before
        returns[2, day - 1] = traded / before
        returns[3, day - 1] = value


def settle(portfolio: Portfolio, ended: np.ndarray) -> None:
    """Convert delisted holdings to cash at their last price, without costs."""
    kept = 0
    for place in range(portfolio.size[0]):
        symbol = portfolio.held[place]
        if ended[symbol]:
            portfolio.cash[0] += portfolio.amount[symbol] * portfolio.price[symbol]
            portfolio.amount[symbol], portfolio.age[symbol] = 0.0, 0
        else:
            portfolio.held[kept] = symbol
            kept += 1
    portfolio.size[0] = kept


def mark(portfolio: Portfolio, closes: np.ndarray) -> float:
    """The account at the close, after which holdings are a session older. One without a bar keeps its price."""
    total = 0.0
    for place in range(portfolio.size[0]):
        symbol = portfolio.held[place]
        if np.isfinite(closes[symbol]):
            portfolio.price[symbol] = closes[symbol]
        portfolio.age[symbol] += 1
        total += portfolio.amount[symbol] * portfolio.price[symbol]
    value: float = portfolio.cash[0] + total
    return value


def trade(
    day: int,
    rules: Rules,
    ranking: Ranking,
    sessions: Sessions,
    portfolio: Portfolio,
    choice: Choice,
    refused: np.ndarray,
) -> tuple[float, float]:
    """Fill the orders of a session. Returns costs and traded value, in money."""
    best = ranking.best_first[day - 1, : ranking.counts[day - 1]]
    scored, states, sellable, buyable = (
        ranking.scored[day - 1],
        sessions.states[day],
        sessions.sellable[day],
        sessions.buyable[day],
    )
    held = portfolio.held[: portfolio.size[0]]
    if sessions.restricted[day]:
        count_refused(best, scored, held, portfolio.age, rules, states, sellable, buyable, choice, refused)
    for symbol in held:
        choice.can_sell[symbol] = portfolio.age[symbol] >= rules.hold_thresh and sellable[symbol]
    choice.can_buy[:] = buyable
    buys = choose(best, scored, held, rules, choice)
    cost, traded = sell_chosen(rules, sessions.deals[day], portfolio, choice)
    shares = buys
    if rules.tradable:
        # The share of a place that stays empty is kept for it.
        shares = max(rules.topk - portfolio.size[0], 0)
        buys = min(buys, shares)
    if buys == 0:
        return cost, traded
    budget = portfolio.cash[0] * rules.invested / shares
    for place in range(buys):
        symbol = choice.buys[place]
        if buyable[symbol]:
            value, fee = buy(symbol, budget, sessions.deals[day, symbol], rules, portfolio)
            cost, traded = cost + fee, traded + value
    return cost, traded


def count_refused(
    best: np.ndarray,
    scored: np.ndarray,
    held: np.ndarray,
    age: np.ndarray,
    rules: Rules,
    states: np.ndarray,
    sellable: np.ndarray,
    buyable: np.ndarray,
    choice: Choice,
    refused: np.ndarray,
) -> None:
    """Add the orders of an unrestricted session that this one refuses to `refused`, (states,)."""
    choice.can_buy[:] = True
    for symbol in held:
        choice.can_sell[symbol] = age[symbol] >= rules.hold_thresh
    buys = choose(best, scored, held, rules, choice)
    for symbol in held:
        if choice.sells[symbol] and choice.can_sell[symbol] and not sellable[symbol]:
            refused[states[symbol]] += 1
    for place in range(buys):
        symbol = choice.buys[place]
        if not buyable[symbol]:
            refused[states[symbol]] += 1


def choose(best: np.ndarray, scored: np.ndarray, held: np.ndarray, rules: Rules, choice: Choice) -> int:
    """Fill `choice.sells` and `choice.buys`, and return the number of buys.

    If `rules.tradable`, among what can be traded: holdings that cannot be sold keep their places in topk and take none
    of n_drop, and a holding is sold only if it can be replaced. Otherwise as in Qlib, whose slices have negative ends;
    of its sells those that `choice.can_sell` forbids are not filled.

    Args:
        best: symbols with a score, the best first.
        scored: (symbols,), whether a symbol has a score.
    """
    choice.part[:] = ABSENT
    choice.sells[:] = False
    for symbol in held:
        choice.part[symbol] = FIXED if rules.tradable and not choice.can_sell[symbol] else SELLABLE
    places = rules.topk - len(held)
    if rules.tradable:
        places = max(places, 0)
    wanted = choose_candidates(best, rules, rules.n_drop + places, choice)
    for place in range(wanted):
        choice.part[choice.buys[place]] = CANDIDATE
    most = max(wanted - places, 0) if rules.tradable else len(held)
    sold = choose_sells(best, scored, rules, most, choice)
    return slice_end(wanted, sold + places)


def choose_candidates(best: np.ndarray, rules: Rules, end: int, choice: Choice) -> int:
    """Fill `choice.buys` with the best symbols that are not held, up to the end of a slice; returns their number."""
    if end < 0:
        new = 0
        for symbol in best:
            new += choice.part[symbol] == ABSENT
        end = max(new + end, 0)
    found = 0
    for symbol in best:
        if found == end:
            break
        if choice.part[symbol] == ABSENT and (choice.can_buy[symbol] or not rules.tradable):
            choice.buys[found] = symbol
            found += 1
    return found


def choose_sells(best: np.ndarray, scored: np.ndarray, rules: Rules, most: int, choice: Choice) -> int:
    """Mark holdings among the n_drop worst of holdings and candidates, at most `most`; returns their number.

    A holding without a score ranks below those with one, by column.
    """
    # Python's slice of the last 0 is everything.
    left = rules.n_drop if rules.n_drop > 0 else len(scored)
    sold = 0
    for symbol in range(len(scored) - 1, -1, -1):
        if left > 0 and choice.part[symbol] == SELLABLE and not scored[symbol]:
            left -= 1
            if sold < most:
                choice.sells[symbol] = True
                sold += 1
    for place in range(len(best) - 1, -1, -1):
        if left == 0:
            break
        part = choice.part[best[place]]
        if part == SELLABLE and sold < most:
            choice.sells[best[place]] = True
            sold += 1
        if part in (SELLABLE, CANDIDATE):
            left -= 1
    return sold


def slice_end(count: int, end: int) -> int:
    """The length of `sequence[:end]` of a sequence of `count`."""
    return min(end, count) if end >= 0 else max(count + end, 0)


def sell_chosen(rules: Rules, deals: np.ndarray, portfolio: Portfolio, choice: Choice) -> tuple[float, float]:
    """Sell the chosen holdings that can be sold, in the order of purchase. Returns costs and traded value."""
    cost, traded = 0.0, 0.0
    kept = 0
    for place in range(portfolio.size[0]):
        symbol = portfolio.held[place]
        if choice.sells[symbol] and choice.can_sell[symbol]:
            value = portfolio.amount[symbol] * deals[symbol]
            fee = max(value * rules.close_cost, rules.min_cost)
            if value > SMALLEST_TRADE and portfolio.cash[0] + value >= fee:
                portfolio.cash[0] += value - fee
                portfolio.amount[symbol], portfolio.age[symbol] = 0.0, 0
                cost, traded = cost + fee, traded + value
                continue
        portfolio.held[kept] = symbol
        kept += 1
    portfolio.size[0] = kept
    return cost, traded


def buy(symbol: int, budget: float, price: float, rules: Rules, portfolio: Portfolio) -> tuple[float, float]:
    """Buy a symbol that is not held for the budget, or for what cash allows. Returns value and fee."""
    value = affordable(budget, portfolio.cash[0], rules.open_cost, rules.min_cost)
    if value <= SMALLEST_TRADE:
        return 0.0, 0.0
    fee = max(value * rules.open_cost, rules.min_cost)
    portfolio.cash[0] -= value + fee
    portfolio.held[portfolio.size[0]] = symbol
    portfolio.size[0] += 1
    portfolio.amount[symbol] = value / price
    portfolio.price[symbol] = price
    return value, fee


def affordable(value: float, cash: float, rate: float, least: float) -> float:
    """The value that cash allows to buy, by Qlib's rule, including its critical price."""
    fee = max(value * rate, least)
    if cash < fee:
        return 0.0
    if cash >= value + fee:
        return value
    # With a rate of 0 the fee is always `least`.
    if rate > 0 and cash >= least / rate + least:
        return min(value, cash / (1 + rate))
    return min(value, cash - least)
