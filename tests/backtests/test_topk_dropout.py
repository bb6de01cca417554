"""Our TopkDropout against hand-computed days and against Qlib."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from assets.backtests.kept_accounts import KeptBacktest
from assets.backtests.plan import BacktestPlan
from assets.backtests.prices import PricePanel
from assets.backtests.qlib_backtest import (
    COLUMNS,
    QlibRun,
    price_panel,
    simulate_with_qlib,
    simulate_without_qlib,
)
from assets.backtests.rules import TradingRules
from assets.backtests.topk_dropout import choose, simulate
from assets.backtests.tradability import REFUSED, PriceLimits, session_states
from resources.qlib import DailyBars, QlibProvider, write_provider

RULES = TradingRules(
    topk=2,
    n_drop=1,
    hold_thresh=1,
    open_cost=0.001,
    close_cost=0.002,
    min_cost=0.0,
    account=1e6,
    limits=PriceLimits({"*": 0.1}, 0.01),
)


def test_it_sells_the_lowest_and_buys_the_highest_score() -> None:
    sells, buys = choose(np.array([1.0, 4.0, 3.0, 2.0]), [0, 3], RULES)
    assert sells == {0} and buys == [1]


def test_a_holding_without_a_score_is_sold_first() -> None:
    sells, _ = choose(np.array([np.nan, 4.0, 3.0, 2.0]), [0, 3], RULES)
    assert sells == {0}


def test_the_first_day_equals_a_computation_by_hand() -> None:
    opens = np.array([[10.0, 20.0, 30.0]] * 2)
    closes = np.array([[10.0, 20.0, 30.0], [11.0, 20.0, 33.0]])
    result = simulate(np.array([[3.0, 1.0, 2.0]] * 2), opens, closes, RULES)
    each = 1e6 * 0.95 / 2
    cost = 2 * each * RULES.open_cost
    assert np.isclose(result.cost[0], cost / 1e6)
    assert np.isclose(result.turnover[0], 0.95)
    assert np.isclose(result.account[0], 1e6 - cost + each * 0.1 + each * 0.1)
    assert np.isclose(result.gross[0] - result.cost[0], result.account[0] / 1e6 - 1)


def test_a_day_without_scores_trades_nothing() -> None:
    prices = np.full((3, 3), 10.0)
    result = simulate(np.full((3, 3), np.nan), prices, prices, RULES)
    assert (result.account == 1e6).all() and (result.turnover == 0).all()


def test_a_delisted_holding_becomes_cash_at_its_last_price() -> None:
    closes = np.full((5, 4), 10.0)
    closes[1:, 0] = 12.0
    closes[2:, 0] = np.nan
    scores = np.tile([4.0, 3.0, 2.0, 1.0], (5, 1))
    scores[1:, 0] = np.nan
    ended = np.zeros((5, 4), dtype=bool)
    ended[2:, 0] = True
    opens = np.full((5, 4), 10.0)
    free = replace(RULES, open_cost=0.0, close_cost=0.0)
    paid = simulate(scores, opens, closes, free, ended)
    # Half of 95 % gains 20 %; the proceeds buy the third symbol, whose price does not change.
    assert np.allclose(paid.account, 1e6 * (1 + 0.475 * 0.2))
    assert np.isclose(paid.turnover[1], 0.95 * (0.05 + 0.475 * 1.2) / 1.095)
    kept = simulate(scores, opens, closes, free)
    assert np.array_equal(kept.account, paid.account) and kept.turnover[1] < 0.05


def test_later_prices_do_not_change_earlier_days() -> None:
    rng = np.random.default_rng(3)
    closes = 20 * np.exp(np.cumsum(rng.normal(0, 0.02, (30, 6)), axis=0))
    opens, scores = closes * 1.001, rng.permuted(np.tile(np.arange(6.0), (30, 1)), axis=1)
    before = simulate(scores, opens, closes, RULES)
    opens[20:], closes[20:], scores[19:] = opens[20:] * 2, closes[20:] / 3, scores[19:, ::-1]
    after = simulate(scores, opens, closes, RULES)
    assert np.array_equal(before.account[:19], after.account[:19])
    assert not np.array_equal(before.account[19:], after.account[19:])


def panel(seed: int, days: int, symbols: int) -> tuple[DailyBars, np.ndarray, np.ndarray]:
    """Random walks with suspensions, sessions without volume, locked limits of 10 %, a late start and an early end."""
    rng = np.random.default_rng(seed)
    calendar = np.arange("2020-01-01", "2022-01-01", dtype="datetime64[D]")[: days + 5]
    moves = rng.normal(0, 0.03, (days, symbols))
    locked = rng.choice([-1, 0, 1], (days, symbols), p=[0.04, 0.92, 0.04])
    closes = 40 * np.cumprod(np.where(locked == 0, np.exp(moves), 1 + 0.1 * locked), axis=0)
    present = rng.random((days, symbols)) > 0.05
    present[: days // 3, 0] = False
    present[days // 2 - 1, 1], present[days // 2 :, 1] = True, False
    present[[0, -1], 2:] = True
    column, day = np.nonzero(present.T)
    names = np.array([f"S{number:02d}" for number in range(symbols)], dtype=object)
    close = closes[day, column]
    free = locked[day, column] == 0
    start = np.where(free, close * np.exp(rng.normal(0, 0.01, len(close))), close)
    volume = rng.choice([1e5, np.nan, 0.0], len(day), p=[0.85, 0.1, 0.05])
    bars = DailyBars(
        symbol=names[column], session=calendar[day], open=start, close=close, volume=volume,
        high=np.where(free, np.maximum(start, close) * 1.01, close),
        low=np.where(free, np.minimum(start, close) * 0.99, close), factor=np.full(len(day), 0.25),
    )  # fmt: skip
    return bars, calendar[:days], calendar[days:]


def random_plan(
    folder: Path, rules: TradingRules, days: int, symbols: int, models: int
) -> tuple[BacktestPlan, QlibProvider, PricePanel]:
    """A plan with random scores, gaps in them, and all that a market may refuse."""
    bars, calendar, future = panel(1, days, symbols)
    provider = write_provider(folder / "qlib", folder / "scratch", bars, calendar, future)
    prices = price_panel(provider)
    rng = np.random.default_rng(5)
    scores = {}
    for model in range(models):
        ranks = rng.permuted(np.tile(np.arange(1.0, symbols + 1), (days, 1)), axis=1)
        ranks[rng.random(ranks.shape) < 0.1 * model] = np.nan
        few = np.isfinite(ranks).sum(axis=1) < rules.symbols_needed
        ranks[few | (rng.random(days) < 0.1 * model)] = np.nan
        scores[f"model {model}"] = ranks
    never_sold = next(iter(scores.values()))
    never_sold[: days // 2, 1] = symbols + 1.0
    states = session_states(prices, rules.limits)
    benchmark = rng.normal(0, 0.01, days - 1)
    plan = BacktestPlan(calendar, prices.symbols, prices.ids, scores, benchmark, (), prices.ends, states)
    assert plan.ends[1] == calendar[days // 2 - 1]
    return plan, provider, prices


def in_qlib(plan: BacktestPlan, provider: QlibProvider, rules: TradingRules, folder: Path, **options: Any) -> QlibRun:
    folder.mkdir()
    return simulate_with_qlib(plan, provider, rules, folder, **options)


def agree(tmp_path: Path, rules: TradingRules, days: int, symbols: int, models: int) -> None:
    plan, provider, prices = random_plan(tmp_path, rules, days, symbols, models)
    qlib, other = (in_qlib(plan, provider, rules, tmp_path / str(count), workers=count).days for count in (1, 2))
    pd.testing.assert_frame_equal(qlib, other, check_exact=True)
    own = simulate_without_qlib(plan, prices, rules)
    assert qlib[["model", "session"]].equals(own[["model", "session"]])
    assert (qlib["turnover"] > 0).mean() > 0.3
    assert (qlib[list(REFUSED)].sum() > 0).all()
    for column in COLUMNS[2:]:
        scale = rules.account if column == "account" else 1.0
        assert np.abs(qlib[column] - own[column]).max() / scale < 1e-10, column


def resume(tmp_path: Path, rules: TradingRules, days: int, symbols: int, models: int, stops: Sequence[int]) -> None:
    plan, provider, _ = random_plan(tmp_path, rules, days, symbols, models)
    whole = in_qlib(plan, provider, rules, tmp_path / "whole")
    kept: KeptBacktest | None = None
    for stop in (*stops, days - 1):
        run = in_qlib(plan.span(0, stop), provider, rules, tmp_path / str(stop), kept=kept)
        kept = KeptBacktest(stop, run.days, json.loads(json.dumps(run.accounts)))
    pd.testing.assert_frame_equal(run.days, whole.days, check_exact=True)
    assert json.dumps(run.accounts) == json.dumps(whole.accounts)


@pytest.mark.parametrize("dropout", ["tradable", "qlib"])
def test_qlib_resumes_to_identical_results(tmp_path: Path, dropout: Literal["tradable", "qlib"]) -> None:
    resume(tmp_path, replace(RULES, topk=3, hold_thresh=3, dropout=dropout), 60, 9, 2, stops=[29, 30])


def test_a_model_without_a_signal_since_the_account_holds_its_positions(tmp_path: Path) -> None:
    plan, provider, _ = random_plan(tmp_path, RULES, 40, 6, 2)
    plan.scores["model 1"][15:] = np.nan
    whole = in_qlib(plan, provider, RULES, tmp_path / "whole")
    first = in_qlib(plan.span(0, 20), provider, RULES, tmp_path / "first")
    resumed = in_qlib(plan, provider, RULES, tmp_path / "rest", kept=KeptBacktest(20, first.days, first.accounts))
    pd.testing.assert_frame_equal(resumed.days, whole.days, check_exact=True)
    assert json.dumps(resumed.accounts) == json.dumps(whole.accounts)


@pytest.mark.parametrize("dropout", ["tradable", "qlib"])
def test_our_loop_and_qlib_agree(tmp_path: Path, dropout: Literal["tradable", "qlib"]) -> None:
    agree(tmp_path, replace(RULES, topk=3, hold_thresh=3, dropout=dropout), days=60, symbols=9, models=2)


@pytest.mark.slow
@pytest.mark.parametrize("dropout", ["tradable", "qlib"])
@pytest.mark.parametrize(
    "rules",
    [
        replace(RULES, topk=8, n_drop=3),
        replace(RULES, topk=5, n_drop=2, hold_thresh=10),
        replace(RULES, topk=4, n_drop=4, min_cost=50.0),
        replace(RULES, topk=3, n_drop=1, invested=1.0, account=10_000.0, min_cost=5.0),
        replace(RULES, topk=6, n_drop=1, open_cost=0.0, close_cost=0.0),
    ],
)
def test_our_loop_and_qlib_agree_under_every_rule(
    tmp_path: Path, rules: TradingRules, dropout: Literal["tradable", "qlib"]
) -> None:
    agree(tmp_path, replace(rules, dropout=dropout), days=150, symbols=16, models=3)


@pytest.mark.slow
@pytest.mark.parametrize("dropout", ["tradable", "qlib"])
@pytest.mark.parametrize(
    "rules", [replace(RULES, topk=8, n_drop=3), replace(RULES, topk=5, n_drop=2, hold_thresh=10, min_cost=50.0)]
)
def test_qlib_resumes_to_identical_results_on_any_day(
    tmp_path: Path, rules: TradingRules, dropout: Literal["tradable", "qlib"]
) -> None:
    resume(tmp_path, replace(rules, dropout=dropout), 150, 16, 3, stops=[1, 40, 74, 75, 110, 148])
