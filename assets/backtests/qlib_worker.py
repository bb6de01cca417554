"""The child process that runs Qlib's backtest for every model: `python -m assets.backtests.qlib_worker FOLDER`.

Qlib imports mlflow, replaces sys.excepthook and numpy's error state, and keeps global settings, so it runs in
a process of its own. FOLDER holds request.json, scores.parquet and states.npy; the worker writes days.parquet and
accounts.json there and, after each model, a line `PROGRESS done total model` to stdout. A model whose account of the
first day is in the request resumes from it: what Qlib then simulates has the bits of a simulation that was not
interrupted. Not here: which account may be resumed (kept_accounts), what can be traded (tradability), and the choice of
orders under `dropout = "tradable"` (topk_dropout), which this strategy shares with our own loop.
"""

from __future__ import annotations

import copy
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assets.backtests.rules import TradingRules
from assets.backtests.topk_dropout import orders, refused_orders
from assets.backtests.tradability import REFUSED, buyable, sellable
from resources.child_process import exit_with_parent

REQUEST, SCORES, STATES = "request.json", "scores.parquet", "states.npy"
DAYS, ACCOUNTS = "days.parquet", "accounts.json"
PROGRESS = "PROGRESS "
COLUMNS = {"return": "gross", "cost": "cost", "turnover": "turnover", "account": "account"}


# An account of Qlib as JSON: `position`, its holdings and cash in their order, what it `accumulated`, and its `value`.
Account = dict[str, Any]


@dataclass(frozen=True)
class Market:
    """What the strategy knows beside scores and prices.

    Attributes:
        states: (days, instruments) `State`; index: days, columns: instruments by id.
        ends: the last bar of delisted instruments.
    """

    states: pd.DataFrame
    ends: dict[str, pd.Timestamp]


def run(folder: Path) -> None:
    """Run the request in `folder` and write days.parquet and accounts.json there."""
    import qlib

    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    qlib.init(provider_uri=request["provider"], region="us", kernels=1, logging_level=logging.ERROR)
    scores = pd.read_parquet(folder / SCORES)
    rules = TradingRules.from_dict(request["rules"])
    market = Market(
        pd.DataFrame(np.load(folder / STATES), pd.DatetimeIndex(request["days"]), request["instruments"]),
        {name: pd.Timestamp(end) for name, end in request["ends"].items()},
    )
    # Once, before processes are forked: Qlib's strategies import cvxpy.
    exchange, strategy = _exchange(market, rules), _strategy_class(market, rules)
    models: list[str] = request["models"]

    def simulate(model: str) -> Simulated:
        own = scores[scores["model"] == model].set_index(["instrument", "datetime"])["score"].sort_index()
        days, account = _simulate(own, exchange, strategy, market, rules, request["accounts"].get(model))
        return days.assign(model=model), account

    frames, accounts = list[pd.DataFrame](), dict[str, Account]()
    for model, (days, account) in zip(models, _simulated(simulate, models, request["workers"]), strict=True):
        frames.append(days)
        accounts[model] = account
        sys.stdout.write(f"{PROGRESS}{len(frames)} {len(models)} {model}\n")
        sys.stdout.flush()
    pd.concat(frames, ignore_index=True).to_parquet(folder / DAYS, index=False)
    (folder / ACCOUNTS).write_text(json.dumps(accounts), encoding="utf-8")


# Daily results, and the account after them.
Simulated = tuple[pd.DataFrame, Account]
# What a forked process calls: a function that reads Qlib's quotes cannot be pickled, and is inherited.
_inherited: list[Callable[[str], Simulated]] = []


def _simulated(simulate: Callable[[str], Simulated], models: Sequence[str], workers: int) -> Iterator[Simulated]:
    """The results of each model, in their order, by some processes that are forked from this one."""
    if min(workers, len(models)) == 1:
        yield from map(simulate, models)
        return
    _inherited.append(simulate)
    with ProcessPoolExecutor(min(workers, len(models)), get_context("fork"), exit_with_parent) as pool:
        yield from pool.map(_call_inherited, models)


def _call_inherited(model: str) -> Simulated:
    return _inherited[0](model)


def _exchange(market: Market, rules: TradingRules) -> Any:
    """Qlib's exchange with the market's states as trading limits."""
    from qlib.backtest.exchange import Exchange

    class MarketExchange(Exchange):  # type: ignore[misc]
        def _update_limit(self, limit_threshold: Any) -> None:
            quotes = self.quote_df
            rows = market.states.columns.get_indexer(quotes.index.get_level_values("instrument"))
            days = market.states.index.get_indexer(quotes.index.get_level_values("datetime"))
            states = market.states.to_numpy()[days, rows]
            suspended = quotes["$close"].isna()
            quotes["limit_buy"], quotes["limit_sell"] = ~buyable(states) | suspended, ~sellable(states) | suspended

    return MarketExchange(
        freq="day",
        start_time=market.states.index[1],
        end_time=market.states.index[-1],
        codes=list(market.states.columns),
        deal_price="open",
        open_cost=rules.open_cost,
        close_cost=rules.close_cost,
        min_cost=rules.min_cost,
        # Fractional shares: returns do not depend on the size of the account, except through `min_cost`.
        trade_unit=None,
    )


def _simulate(
    scores: pd.Series, exchange: Any, strategy_class: Any, market: Market, rules: TradingRules, account: Account | None
) -> Simulated:
    """Simulate all days but the first, from the account after that one; None: from cash."""
    from qlib.backtest import backtest_loop, get_strategy_executor
    from qlib.backtest.executor import SimulatorExecutor
    from qlib.data import D

    start, end = market.states.index[1], market.states.index[-1]
    strategy, executor = get_strategy_executor(
        start_time=start,
        end_time=end,
        strategy=strategy_class(
            signal=_fixed_signal(scores),
            topk=rules.topk,
            n_drop=rules.n_drop,
            hold_thresh=rules.hold_thresh,
            risk_degree=rules.invested,
            forbid_all_trade_at_limit=False,
        ),
        executor=SimulatorExecutor(time_per_step="day", generate_portfolio_metrics=True),
        account=rules.account,
        # The benchmark is added later; without one, Qlib looks for the CSI 300.
        benchmark=pd.Series(0.0, index=pd.DatetimeIndex(D.calendar(start, end))),
        exchange_kwargs={"exchange": exchange},
    )
    if account is not None:
        _restore(executor.trade_account, account, market.states.index[0])
    portfolio, _ = backtest_loop(start, end, strategy, executor)
    report, _ = portfolio["1day"]
    days: pd.DataFrame = report.loc[start:].rename(columns=COLUMNS)[list(COLUMNS.values())].astype("float64")
    days["net"] = days["gross"] - days["cost"]
    days[list(REFUSED)] = np.array(strategy.refused).reshape(-1, len(REFUSED))
    return days.rename_axis("session").reset_index(), _account(executor.trade_account)


def _account(own: Any) -> Account:
    """A Qlib account as JSON, whose floats are restored to the same bits."""
    return {
        "position": own.current_position.position,
        "accumulated": vars(own.accum_info),
        "value": own.portfolio_metrics.get_latest_account_value(),
    }


def _restore(own: Any, account: Account, day: pd.Timestamp) -> None:
    """Continue a Qlib account after a day: its holdings, and what the next day's returns are differences from."""
    own.current_position.position = account["position"]
    vars(own.accum_info).update(account["accumulated"])
    own.portfolio_metrics.update_portfolio_metrics_record(
        trade_start_time=day,
        account_value=account["value"],
        total_turnover=own.accum_info.get_turnover,
        total_cost=own.accum_info.get_cost,
        # Of that day's row, which is left out.
        **dict.fromkeys(("cash", "return_rate", "turnover_rate", "cost_rate", "stock_value", "bench_value"), 0.0),
    )


def _strategy_class(market: Market, rules: TradingRules) -> Any:
    """Qlib's TopkDropout with three additions.

    A delisted holding becomes cash at its last price on the session after its last bar; refused orders are counted; and
    under `dropout = "tradable"` it chooses among what can be traded.
    """
    from qlib.backtest.decision import Order, OrderDir, TradeDecisionWO
    from qlib.contrib.strategy import TopkDropoutStrategy

    names: Sequence[str] = list(market.states.columns)
    column = {name: place for place, name in enumerate(names)}

    class MarketTopkDropout(TopkDropoutStrategy):  # type: ignore[misc]
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.refused: list[np.ndarray] = []

        def generate_trade_decision(self, execute_result: Any = None) -> Any:
            step = self.trade_calendar.get_trade_step()
            today, _ = self.trade_calendar.get_step_time(step)
            self._settle(today)
            signal = self.signal.get_signal(*self.trade_calendar.get_step_time(step, shift=1))
            if signal is None:
                self.refused.append(np.zeros(len(REFUSED), dtype=np.int64))
                return TradeDecisionWO([], self)
            # Symbols without a signal have scores below 0, or none.
            score = signal[signal > 0].reindex(names).to_numpy(dtype=np.float64)
            position = self.trade_position
            held = [column[name] for name in position.get_stock_list()]
            aged = np.zeros(len(names), dtype=bool)
            for place in held:
                aged[place] = position.get_stock_count(names[place], bar="day") >= rules.hold_thresh
            states = market.states.loc[today].to_numpy()
            self.refused.append(refused_orders(score, held, aged, states, rules))
            if rules.dropout == "qlib":
                return super().generate_trade_decision(execute_result)
            sells, buys = orders(score, held, aged, states, rules)
            return self._decision(today, [names[place] for place in sells], [names[place] for place in buys])

        def _settle(self, today: pd.Timestamp) -> None:
            held = self.trade_position
            for name in held.get_stock_list():
                if name in market.ends and today > market.ends[name]:
                    held.position["cash"] += held.get_stock_amount(name) * held.get_stock_price(name)
                    del held.position[name]

        def _decision(self, today: pd.Timestamp, sells: Sequence[str], buys: Sequence[str]) -> Any:
            """Orders to sell whole holdings, and to buy for an equal share of the cash per free place in topk."""
            _, end = self.trade_calendar.get_step_time()
            after = copy.deepcopy(self.trade_position)
            made = []
            for name in sells:
                order = Order(name, after.get_stock_amount(name), OrderDir.SELL, today, end)
                self.trade_exchange.deal_order(order, position=after)
                made.append(order)
            places = max(rules.topk - len(after.get_stock_list()), 0)
            for name in buys[:places]:
                price = self.trade_exchange.get_deal_price(name, today, end, direction=OrderDir.BUY)
                amount = after.get_cash() * rules.invested / places / price
                made.append(Order(name, amount, OrderDir.BUY, today, end))
            return TradeDecisionWO(made, self)

    return MarketTopkDropout


def _fixed_signal(scores: pd.Series) -> Any:
    """The scores as a Qlib signal, indexed by day. Qlib's own class slices the whole history for every day."""
    from qlib.backtest.signal import Signal

    by_day = {day: scores_of_day.droplevel("datetime") for day, scores_of_day in scores.groupby(level="datetime")}

    class FixedSignal(Signal):  # type: ignore[misc]
        def get_signal(self, start_time: pd.Timestamp, end_time: pd.Timestamp) -> pd.Series | None:
            return by_day.get(start_time)

    return FixedSignal()


if __name__ == "__main__":
    exit_with_parent()
    run(Path(sys.argv[1]))
