"""Sessions that cannot be traded, and the choice of orders among those that can."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.backtests.plan import BacktestPlan, plan_backtest
from assets.backtests.prices import PricePanel
from assets.backtests.qlib_backtest import simulate_without_qlib
from assets.backtests.rules import TradingRules
from assets.backtests.topk_dropout import choose, choose_tradable, refused_orders, simulate
from assets.backtests.tradability import REFUSED, PriceLimits, State, buyable, sellable, session_states
from resources.settings import BacktestSettings
from tests.backtests.backtest_data import panel_of

TEN = PriceLimits({"*": 0.1}, 0.01)
FREE = TradingRules(topk=2, n_drop=1, hold_thresh=1, open_cost=0.0, close_cost=0.0, min_cost=0.0, account=1e6)
DAYS = np.arange("2021-03-01", "2021-03-31", dtype="datetime64[D]")
SYMBOLS = ("A", "B", "C", "D", "E")


def second_session(before: float, bar: tuple[float, float, float, float], factor: float, limits: PriceLimits) -> State:
    """The state of a session of (open, high, low, close) after a session that closed at `before`, as quoted."""
    prices = (np.array([(before,) * 4, bar]) * factor).astype("f4").astype("f8")[:, :, None]
    opens, high, low, close = (prices[:, place] for place in range(4))
    whole = np.ones((2, 1))
    rounded = PricePanel(DAYS[:2], ("A",), ("A",), opens, high, low, close, whole, whole * factor)
    return State(session_states(rounded, limits)[1, 0])


@pytest.mark.parametrize(
    ("before", "bar", "expected"),
    [
        # 2.03 × 1.1 = 2.233 is rounded to 2.23, 6.85 × 0.9 = 6.165 to 6.17.
        (2.03, (2.23, 2.23, 2.23, 2.23), State.LIMIT_UP),
        (2.03, (2.23, 2.23, 2.11, 2.14), State.LIMIT_UP),
        (2.03, (2.22, 2.23, 2.11, 2.23), State.OPEN),
        (6.85, (6.17, 6.60, 6.17, 6.60), State.LIMIT_DOWN),
        (6.85, (6.18, 6.18, 6.17, 6.17), State.OPEN),
        (1711.5, (1882.65, 1882.65, 1882.65, 1882.65), State.LIMIT_UP),
        # Another limit: it trades beyond 10 %, or has one price after a move of 5 % or 20 %.
        (40.0, (44.0, 46.0, 43.0, 45.0), State.OPEN),
        (40.0, (42.0, 42.0, 42.0, 42.0), State.LIMIT_UP),
        (40.0, (32.0, 32.0, 32.0, 32.0), State.LIMIT_DOWN),
        (40.0, (40.4, 40.4, 40.4, 40.4), State.OPEN),
    ],
)
@pytest.mark.parametrize("factor", [1.0, 0.137])
def test_a_session_that_opens_at_the_rounded_limit_is_locked(
    before: float, bar: tuple[float, float, float, float], expected: State, factor: float
) -> None:
    assert second_session(before, bar, factor, PriceLimits.of(BacktestSettings(), "XSHG")) is expected


def test_a_limit_that_is_set_is_the_only_one() -> None:
    limits = PriceLimits.of(BacktestSettings(price_limit=0.2), "XSHG")
    states = [second_session(40.0, (price,) * 4, 1.0, limits) for price in (44.0, 48.0, 36.0, 32.0)]
    assert states == [State.OPEN, State.LIMIT_UP, State.OPEN, State.LIMIT_DOWN]


def test_the_limit_comes_from_the_setting_or_the_calendar() -> None:
    unset = BacktestSettings()
    assert PriceLimits.of(unset, "XSHG").of_symbol("600000") == 0.1
    assert PriceLimits.of(unset, "XNYS").of_symbol("A") == PriceLimits.of(unset, "24/7").of_symbol("B") == 0.0
    assert PriceLimits.of(BacktestSettings(price_limit=0.0), "XSHG").of_symbol("600000") == 0.0
    table = PriceLimits.of(BacktestSettings(price_limit={"688*": 0.2, "*": 0.1}), "XSHG")
    assert [table.of_symbol(symbol) for symbol in ("688001", "000002")] == [0.2, 0.1]
    assert PriceLimits.of(BacktestSettings(price_limit={"sh688*": 0.2}), "XSHG").of_symbol("SH688001") == 0.2
    with pytest.raises(ValueError, match="price_limit"):
        BacktestSettings(price_limit=1.5)


def test_a_session_with_volume_0_is_closed_and_unknown_volume_is_not() -> None:
    panel = panel_of(DAYS, SYMBOLS, np.full((len(DAYS), 5), 9.0), np.full((len(DAYS), 5), 9.0))
    panel.volume[7, 0], panel.volume[7, 1] = 0.0, np.nan
    panel.volume[:, 2], panel.volume[:, 3] = 0.0, np.nan
    states = session_states(panel, TEN)
    assert states[7].tolist() == [State.NO_VOLUME, *[State.OPEN] * 4]
    assert panel.without_volume.tolist() == [False, False, True, True, False]


def planned(panel: PricePanel, rules: TradingRules) -> BacktestPlan:
    """A plan in which C ranks first for ten sessions, then last."""
    values = [{"C": 5, "B": 4, "A": 3, "D": 2, "E": 1}, {"A": 5, "B": 4, "D": 3, "E": 2, "C": 1}]
    rows = [("m", s, DAYS[day], v) for day, row in zip((2, 12), values, strict=True) for s, v in row.items()]
    frame = pd.DataFrame(rows, columns=["model", "symbol", "origin", "value"])
    plan = plan_backtest(frame.assign(origin=pd.to_datetime(frame["origin"])), panel, 12, rules)
    assert isinstance(plan, BacktestPlan)
    return plan


def flat() -> PricePanel:
    prices = np.full((len(DAYS), 5), 20.0)
    return panel_of(DAYS, SYMBOLS, prices.copy(), prices.copy())


def test_a_purchase_without_volume_waits_and_the_next_symbol_takes_its_place() -> None:
    panel = flat()
    panel.volume[3:5, 2] = 0.0
    plan = planned(panel, FREE)
    days = simulate_without_qlib(plan, panel, FREE)
    assert days["refused_no_volume"].tolist()[:4] == [1, 1, 0, 0]
    # A and B are bought first; C replaces A on the third session, for half of the account.
    assert days["turnover"].to_numpy()[:4] == pytest.approx([0.95, 0, 0.95, 0], abs=0.03)
    assert days[list(REFUSED)].to_numpy().sum() == 2
    assert any("volume" in note for note in planned(replace(panel, volume=panel.volume * 0), FREE).notes)
    assert not plan.notes


def test_a_holding_locked_at_the_lower_limit_is_kept_until_it_can_be_sold() -> None:
    panel, rules = flat(), replace(FREE, limits=TEN)
    for day in range(13, 17):
        for field in (panel.open, panel.high, panel.low, panel.close):
            field[day:, 2] = np.round(panel.close[day - 1, 2] * 0.9, 2)
    days = simulate_without_qlib(planned(panel, rules), panel, rules)
    locked = np.isin(days["session"].dt.day, [14, 15, 16, 17])
    assert days["refused_limit_down"].tolist() == locked.astype(int).tolist()
    # Half of the 95 % invested loses 10 % four times, and is sold on the session after. Until then B gives way to A.
    lost = 0.475 * (1 - panel.close[16, 2] / 20.0)
    assert days["account"].to_numpy()[locked][-1] == pytest.approx(1e6 * (1 - lost))
    turnover = days["turnover"].to_numpy()
    assert (turnover[locked][1:] == 0).all() and turnover[np.flatnonzero(locked)[-1] + 1] > 0.3
    unlimited = replace(rules, limits=PriceLimits({}, 0.01))
    assert simulate_without_qlib(planned(panel, unlimited), panel, unlimited)["account"].to_numpy()[-1] > 0.94e6


def test_a_symbol_that_is_delisted_while_suspended_is_settled_at_its_last_close() -> None:
    days = np.arange("2021-03-01", "2021-05-20", dtype="datetime64[D]")
    prices = np.full((len(days), 5), 20.0)
    prices[6:, 2] = 18.0
    prices[15:, 2] = np.nan
    panel = panel_of(days, SYMBOLS, prices.copy(), prices.copy())
    panel.volume[8:, 2] = np.where(np.isnan(prices[8:, 2]), np.nan, 0.0)
    found = simulate_without_qlib(planned(panel, FREE), panel, FREE)
    last = int(np.flatnonzero(found["session"] == pd.Timestamp("2021-03-15"))[0])
    assert found["account"].to_numpy()[-1] == pytest.approx(1e6 * (1 - 0.475 * 0.1))
    assert found["refused_no_volume"].tolist()[last - 1 : last + 2] == [1, 1, 0]
    assert found["turnover"].to_numpy()[last + 1] > 0.3


def test_a_suspended_holding_leaves_the_other_places_to_trade() -> None:
    rng = np.random.default_rng(11)
    scores = rng.permuted(np.tile(np.arange(1.0, 10.0), (60, 1)), axis=1)
    prices = np.full((60, 9), 10.0)
    rules = replace(FREE, topk=3)
    bought = int(np.argmax(scores[0]))
    states = np.full((60, 9), State.OPEN)
    states[2:50, bought], scores[1:50, bought] = State.SUSPENDED, np.nan
    turnover = {
        dropout: simulate(scores, prices, prices, replace(rules, dropout=dropout), None, states).turnover[1:49]
        for dropout in ("tradable", "qlib")
    }
    assert (turnover["tradable"] > 0.3).mean() > 0.7
    assert (turnover["qlib"] > 0.01).sum() <= 2, "Qlib's rule"


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), topk=st.integers(1, 4), n_drop=st.integers(1, 4), hold=st.integers(1, 6),
    blocked=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
)  # fmt: skip
def test_orders_are_only_of_what_can_be_traded_and_never_more_than_topk_are_held(
    seed: int, topk: int, n_drop: int, hold: int, blocked: float
) -> None:
    rng = np.random.default_rng(seed)
    rules = replace(FREE, topk=topk, n_drop=min(n_drop, topk), hold_thresh=hold)
    held: list[int] = []
    age = np.zeros(10, dtype=int)
    for _ in range(12):
        score = np.where(rng.random(10) < 0.15, np.nan, rng.permutation(10) + 1.0)
        states = np.where(rng.random(10) < blocked, rng.integers(1, 5, 10), State.OPEN)
        can_sell, can_buy = (age >= hold) & sellable(states), buyable(states)
        sells, buys = choose_tradable(score, held, rules, can_sell, can_buy)
        assert all(can_sell[s] and s in held for s in sells) and len(sells) <= rules.n_drop
        assert all(can_buy[s] and np.isfinite(score[s]) and s not in held for s in buys)
        if (age[held] >= hold).all() and not states.any() and np.isfinite(score).sum() >= rules.symbols_needed:
            assert (sells, buys) == choose(score, held, rules)
        if not states.any():
            assert not refused_orders(score, held, age >= hold, states, rules).any()
        held = [s for s in held if s not in sells] + buys
        age = np.where(np.isin(np.arange(10), held), age + 1, 0)
        assert len(held) <= topk
        if len(held) < topk:
            assert not [s for s in range(10) if can_buy[s] and np.isfinite(score[s]) and s not in (*held, *sells)]
