"""Our own day-loop of TopkDropout, by hand and against Qlib."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assets.backtests.plan import BacktestPlan
from assets.backtests.qlib_backtest import COLUMNS, price_panel, simulate_with_numpy, simulate_with_qlib
from assets.backtests.rules import TradingRules
from assets.backtests.topk_dropout import choose, simulate
from resources.qlib import DailyBars, write_provider

RULES = TradingRules(topk=2, n_drop=1, hold_thresh=1, open_cost=0.001, close_cost=0.002, min_cost=0.0, account=1e6)


def test_it_sells_the_worst_and_buys_the_best() -> None:
    sells, buys = choose(np.array([1.0, 4.0, 3.0, 2.0]), [0, 3], RULES)
    assert sells == {0} and buys == [1]


def test_a_holding_without_a_score_is_sold_first() -> None:
    sells, _ = choose(np.array([np.nan, 4.0, 3.0, 2.0]), [0, 3], RULES)
    assert sells == {0}


def test_a_first_day_by_hand() -> None:
    opens = np.array([[10.0, 20.0, 30.0]] * 2)
    closes = np.array([[10.0, 20.0, 30.0], [11.0, 20.0, 33.0]])
    played = simulate(np.array([[3.0, 1.0, 2.0]] * 2), opens, closes, RULES)
    each = 1e6 * 0.95 / 2
    cost = 2 * each * RULES.open_cost
    assert np.isclose(played.cost[0], cost / 1e6)
    assert np.isclose(played.turnover[0], 0.95)
    assert np.isclose(played.account[0], 1e6 - cost + each * 0.1 + each * 0.1)
    assert np.isclose(played.gross[0] - played.cost[0], played.account[0] / 1e6 - 1)


def test_a_day_without_scores_trades_nothing() -> None:
    prices = np.full((3, 3), 10.0)
    played = simulate(np.full((3, 3), np.nan), prices, prices, RULES)
    assert (played.account == 1e6).all() and (played.turnover == 0).all()


def test_a_holding_whose_bars_have_ended_becomes_cash_at_its_last_price() -> None:
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
    # Half of 95 % gains a fifth; what it was worth then buys the third symbol, which is worth as much.
    assert np.allclose(paid.account, 1e6 * (1 + 0.475 * 0.2))
    assert np.isclose(paid.turnover[1], 0.95 * (0.05 + 0.475 * 1.2) / 1.095)
    kept = simulate(scores, opens, closes, free)
    assert np.array_equal(kept.account, paid.account) and kept.turnover[1] < 0.05


def test_tomorrows_prices_change_nothing_today() -> None:
    rng = np.random.default_rng(3)
    closes = 20 * np.exp(np.cumsum(rng.normal(0, 0.02, (30, 6)), axis=0))
    opens, scores = closes * 1.001, rng.permuted(np.tile(np.arange(6.0), (30, 1)), axis=1)
    before = simulate(scores, opens, closes, RULES)
    opens[20:], closes[20:], scores[19:] = opens[20:] * 2, closes[20:] / 3, scores[19:, ::-1]
    after = simulate(scores, opens, closes, RULES)
    assert np.array_equal(before.account[:19], after.account[:19])
    assert not np.array_equal(before.account[19:], after.account[19:])


def panel(seed: int, days: int, symbols: int) -> tuple[DailyBars, np.ndarray, np.ndarray]:
    """Random walks with suspended days, a late start and an early end."""
    rng = np.random.default_rng(seed)
    calendar = np.arange("2020-01-01", "2022-01-01", dtype="datetime64[D]")[: days + 5]
    closes = 40 * np.exp(np.cumsum(rng.normal(0, 0.03, (days, symbols)), axis=0))
    there = rng.random((days, symbols)) > 0.05
    there[: days // 3, 0] = False
    there[days // 2 - 1, 1], there[days // 2 :, 1] = True, False
    there[[0, -1], 2:] = True
    column, day = np.nonzero(there.T)
    names = np.array([f"S{number:02d}" for number in range(symbols)], dtype=object)
    close = closes[day, column]
    start = close * np.exp(rng.normal(0, 0.01, len(close)))
    bars = DailyBars(
        symbol=names[column], session=calendar[day], open=start, high=np.maximum(start, close) * 1.01,
        low=np.minimum(start, close) * 0.99, close=close, volume=np.where(rng.random(len(day)) > 0.1, 1e5, np.nan),
        factor=np.full(len(day), 0.25),
    )  # fmt: skip
    return bars, calendar[:days], calendar[days:]


def agree(tmp_path: Path, rules: TradingRules, days: int, symbols: int, models: int) -> None:
    bars, calendar, future = panel(1, days, symbols)
    provider = write_provider(tmp_path / "qlib", tmp_path / "scratch", bars, calendar, future)
    prices = price_panel(provider)
    rng = np.random.default_rng(5)
    scores = {}
    for model in range(models):
        ranks = rng.permuted(np.tile(np.arange(1.0, symbols + 1), (days, 1)), axis=1)
        ranks[rng.random(ranks.shape) < 0.1 * model] = np.nan
        few = np.isfinite(ranks).sum(axis=1) < rules.symbols_needed
        ranks[few | (rng.random(days) < 0.1 * model)] = np.nan
        scores[f"model {model}"] = ranks
    held_to_the_end = next(iter(scores.values()))
    held_to_the_end[: days // 2, 1] = symbols + 1.0
    plan = BacktestPlan(calendar, prices.symbols, prices.ids, scores, rng.normal(0, 0.01, days - 1), (), prices.ends)
    assert plan.ends[1] == calendar[days // 2 - 1]
    work = tmp_path / "work"
    work.mkdir()
    theirs, ours = simulate_with_qlib(plan, provider, rules, work), simulate_with_numpy(plan, prices, rules)
    assert theirs[["model", "session"]].equals(ours[["model", "session"]])
    assert (theirs["turnover"] > 0).mean() > 0.3
    for column in COLUMNS[2:]:
        scale = rules.account if column == "account" else 1.0
        assert np.abs(theirs[column] - ours[column]).max() / scale < 1e-10, column


def test_our_loop_and_qlib_agree(tmp_path: Path) -> None:
    agree(tmp_path, replace(RULES, topk=3, hold_thresh=3), days=60, symbols=9, models=2)


@pytest.mark.slow
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
def test_our_loop_and_qlib_agree_under_every_rule(tmp_path: Path, rules: TradingRules) -> None:
    agree(tmp_path, rules, days=150, symbols=16, models=3)
