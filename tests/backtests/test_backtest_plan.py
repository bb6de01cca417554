from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from assets.backtests.plan import BacktestPlan, NoBacktest, plan_backtest
from assets.backtests.prices import PricePanel
from assets.backtests.qlib_backtest import simulate_without_qlib
from assets.backtests.rules import TradingRules
from tests.backtests.backtest_data import panel_of

RULES = TradingRules(topk=2, n_drop=1, hold_thresh=1, open_cost=0.0005, close_cost=0.0015, min_cost=0.0, account=1e6)
SESSIONS = np.arange("2020-01-01", "2020-01-31", dtype="datetime64[D]")
SYMBOLS = ("A", "B", "C", "D")


def prices(seed: int = 1) -> PricePanel:
    rng = np.random.default_rng(seed)
    closes = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, (len(SESSIONS), len(SYMBOLS))), axis=0))
    return panel_of(SESSIONS, SYMBOLS, closes * np.exp(rng.normal(0, 0.005, closes.shape)), closes)


def signals(rows: list[tuple[int, str]], model: str = "m") -> pd.DataFrame:
    """SignalSet from rows of (day, symbols), with values increasing in the order of the symbols."""
    made = [
        (model, symbol, SESSIONS[day], place / 100) for day, symbols in rows for place, symbol in enumerate(symbols)
    ]
    frame = pd.DataFrame(made, columns=["model", "symbol", "origin", "value"])
    return frame.assign(origin=pd.to_datetime(frame["origin"]))


def planned(frame: pd.DataFrame, step: int = 5, rules: TradingRules = RULES) -> BacktestPlan:
    plan = plan_backtest(frame, prices(), step, rules)
    assert isinstance(plan, BacktestPlan), plan
    return plan


def test_a_signal_is_in_force_from_its_origin_until_the_next() -> None:
    plan = planned(signals([(3, "ABCD"), (6, "DCBA")]))
    assert plan.days[0] == SESSIONS[3]
    scores = plan.scores["m"]
    assert (scores[:3] == [1, 2, 3, 4]).all()
    assert (scores[3:8] == [4, 3, 2, 1]).all()


def test_a_signal_expires_after_its_horizon() -> None:
    plan = planned(signals([(3, "ABCD"), (15, "ABCD")]), step=4)
    alive = np.isfinite(plan.scores["m"]).any(axis=1)
    assert alive[:4].all() and not alive[4:12].any() and alive[12:16].all()


def test_nothing_trades_before_the_session_after_the_first_origin() -> None:
    assert planned(signals([(3, "ABCD")])).days[1] == SESSIONS[4]


def test_all_models_are_simulated_over_the_same_sessions() -> None:
    both = pd.concat([signals([(3, "ABCD"), (9, "ABCD")]), signals([(6, "ABCD"), (8, "ABCD")], model="late")])
    plan = planned(both)
    assert plan.days[0] == SESSIONS[6]
    assert plan.days[-1] == SESSIONS[13]
    assert {score.shape for score in plan.scores.values()} == {(len(plan.days), 4)}


def test_equal_signals_rank_in_a_fixed_order() -> None:
    frame = signals([(3, "ABCD")]).assign(value=0.01)
    assert (planned(frame).scores["m"][0] == [1, 2, 3, 4]).all()


@pytest.mark.parametrize(("symbols", "topk", "n_drop"), [("AB", 2, 1), ("ABC", 3, 2), ("ABCD", 9, 3), ("A", 1, 1)])
def test_too_few_symbols_give_no_plan_and_a_reason_whose_values_give_one(symbols: str, topk: int, n_drop: int) -> None:
    rules = replace(RULES, topk=topk, n_drop=n_drop)
    plan = plan_backtest(signals([(3, symbols), (6, symbols)]), prices(), 5, rules)
    assert isinstance(plan, NoBacktest)
    needed = topk + n_drop
    assert all(fact in plan.reason for fact in (f"{needed} symbols", f"most {len(symbols)}", "market.symbols"))
    fitting = {name: int(value) for name, value in re.findall(r"backtest\.(\w+) = (\d+)", plan.reason)}
    assert set(fitting) == ({"topk", "n_drop"} if len(symbols) > 1 else set())
    # One symbol has no values that fit: with as many as are named there is a backtest.
    fitted = replace(rules, topk=fitting.get("topk", topk), n_drop=fitting.get("n_drop", n_drop))
    planned(signals([(3, symbols if fitting else "AB")]), rules=fitted)


def test_an_origin_with_too_few_symbols_has_no_scores_and_is_counted() -> None:
    plan = planned(signals([(3, "ABCD"), (6, "AB"), (9, "DCBA")]))
    assert (plan.scores["m"][3:5] == [1, 2, 3, 4]).all()
    assert not np.isfinite(plan.scores["m"][5]).any()
    assert "m: 1 origins" in plan.notes[0] and "3 symbols" in plan.notes[0]


@pytest.mark.parametrize("frame", [signals([]), signals([(29, "ABCD")])])
def test_no_signals_or_no_session_to_trade_in_give_no_plan(frame: pd.DataFrame) -> None:
    plan = plan_backtest(frame, prices(), 5, RULES)
    assert isinstance(plan, NoBacktest)
    assert plan.reason


def test_the_benchmark_holds_equal_weights_and_reweights_only_when_the_universe_changes() -> None:
    given = prices()
    plan = planned(signals([(3, "ABC"), (6, "ABCD")]), step=4)
    opens, closes = given.open[3:], given.close[3:]
    worth = np.array([1 / 3] * 3) * closes[1, :3] / opens[1, :3]
    first = worth.sum()
    worth = worth * closes[2, :3] / closes[1, :3]
    second = worth.sum()
    worth = worth * closes[3, :3] / closes[2, :3]
    third = worth.sum()
    fourth = (closes[4] / closes[3]).mean()
    assert np.allclose(plan.benchmark[:4], [first - 1, second / first - 1, third / second - 1, fourth - 1])


def test_a_symbol_that_left_the_universe_has_no_score_and_is_out_of_the_benchmark() -> None:
    given = prices()
    members = np.ones(given.close.shape, dtype=bool)
    members[6:, 0] = False
    plan = plan_backtest(signals([(3, "ABCD"), (10, "BCD")]), given, 7, RULES, members)
    assert isinstance(plan, BacktestPlan)
    scored = np.isfinite(plan.scores["m"])
    assert scored[:2, 0].all() and not scored[2:, 0].any() and scored[:-1, 1:].all()
    closes = given.close[3:]
    assert np.isclose(plan.benchmark[2], (closes[3, 1:] / closes[2, 1:]).mean() - 1)
    moved = given.close.copy()
    moved[6:, 0] *= 3
    other = plan_backtest(signals([(3, "ABCD"), (10, "BCD")]), replace(given, close=moved), 7, RULES, members)
    assert isinstance(other, BacktestPlan)
    assert (other.benchmark == plan.benchmark).all()


def test_a_symbol_that_left_while_no_signal_is_in_force_is_out_of_the_benchmark_too() -> None:
    given = prices()
    members = np.ones(given.close.shape, dtype=bool)
    members[7:, 0] = False
    plan = plan_backtest(signals([(3, "ABCD"), (15, "BCD")]), given, 2, RULES, members)
    assert isinstance(plan, BacktestPlan)
    closes = given.close[3:]
    assert np.isclose(plan.benchmark[3], (closes[4, 1:] / closes[3, 1:]).mean() - 1)


def test_sessions_with_too_few_members_have_no_scores_and_are_counted() -> None:
    members = np.ones(prices().close.shape, dtype=bool)
    members[6:9, :2] = False
    plan = plan_backtest(signals([(3, "ABCD"), (9, "DCBA")]), prices(), 6, RULES, members)
    assert isinstance(plan, BacktestPlan)
    assert np.isfinite(plan.scores["m"]).any(axis=1).tolist()[:7] == [True, True, False, False, False, True, True]
    assert "3 sessions" in plan.notes[0] and "3 symbols" in plan.notes[0]


def test_a_universe_with_too_few_members_gives_no_plan() -> None:
    members = np.zeros(prices().close.shape, dtype=bool)
    plan = plan_backtest(signals([(3, "ABCD")]), prices(), 5, RULES, members)
    assert isinstance(plan, NoBacktest) and "3 symbols that are members" in plan.reason


def test_a_suspended_symbol_returns_0_in_the_benchmark() -> None:
    given = prices()
    closes, opens = given.close.copy(), given.open.copy()
    closes[6:, 0] = opens[6:, 0] = np.nan
    plan = plan_backtest(signals([(3, "ABCD"), (5, "ABCD")]), replace(given, close=closes, open=opens), 5, RULES)
    assert isinstance(plan, BacktestPlan)
    assert np.isfinite(plan.benchmark).all()


def test_a_first_session_without_bars_returns_0_and_the_next_session_counts() -> None:
    given = prices()
    closes, opens = given.close.copy(), given.open.copy()
    closes[4] = opens[4] = np.nan
    plan = plan_backtest(signals([(3, "ABCD"), (6, "ABCD")]), replace(given, close=closes, open=opens), 5, RULES)
    assert isinstance(plan, BacktestPlan)
    assert plan.benchmark[0] == 0.0 and np.isfinite(plan.benchmark).all()
    assert plan.benchmark[1] != 0.0


def _ending(day: int) -> PricePanel:
    """Prices of forty sessions, with the last bar of A on session `day`."""
    days = np.arange("2020-01-01", "2020-02-10", dtype="datetime64[D]")
    rng = np.random.default_rng(4)
    closes = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, (len(days), 4)), axis=0))
    closes[day + 1 :, 0] = np.nan
    return panel_of(days, SYMBOLS, closes.copy(), closes)


def test_a_symbol_without_bars_for_twenty_sessions_is_delisted() -> None:
    assert _ending(19).ends[0] == np.datetime64("2020-01-20")
    assert np.isnat(_ending(20).ends[0]), "nineteen sessions without a bar may be a suspension"
    back = _ending(10)
    back.close[30:, 0] = 50.0
    assert np.isnat(back.ends).all()


def test_a_delisted_holding_does_not_end_the_trading() -> None:
    """Without settlement it would rank last and be the only symbol to sell on every session."""
    found = _ending(12)
    frame = signals([(day, "BCDA" if day % 2 else "DCBA") for day in range(2, 13)])
    frame = pd.concat([frame, signals([(day, "BCD" if day % 2 else "DCB") for day in range(13, 30)])])
    plan = plan_backtest(frame, found, 5, RULES)
    assert isinstance(plan, BacktestPlan)
    assert not np.isfinite(plan.scores["m"][10:, 0]).any(), "no score for a session without a bar"
    days = simulate_without_qlib(plan, found, RULES).set_index("session")
    assert (days.loc["2020-01-15":"2020-01-29", "turnover"] > 0).all()
    assert [note for note in plan.notes if "A (2020-01-13)" in note]
