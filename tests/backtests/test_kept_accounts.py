"""Backtests of an evening that resume from the stored accounts of an earlier one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assets.backtests.kept_accounts import input_digests
from assets.backtests.plan import BacktestPlan
from assets.backtests.prices import PricePanel
from assets.backtests.qlib_provider import publish_provider
from assets.backtests.results import BacktestResult, current_request, run_backtest
from assets.backtests.rules import TradingRules
from assets.backtests.signals import make_signals, store_signals
from assets.market.universe import read_universe
from resources.calendar import TradingCalendar
from resources.layout import Home
from resources.pointers import read_pointer
from resources.settings import Settings
from resources.warehouse import Warehouse
from tests.backtests.backtest_data import USED, panel_of

EVENING = "2013-02-20"


def backtest(home: Home, settings: Settings, *statements: str) -> BacktestResult:
    """Backtest the signals of a home after changes of its warehouse."""
    warehouse = Warehouse(home.warehouse)
    with warehouse.write() as connection:
        for statement in statements:
            connection.execute(statement)
    store_signals(warehouse, make_signals(warehouse, "1d", 10, USED, read_universe(settings, warehouse)))
    publish_provider(warehouse, home, TradingCalendar("XNYS"))
    return run_backtest(current_request(settings, warehouse, home), home)


@pytest.fixture
def evening(home: Home, settings: Settings, scored_warehouse: Path) -> BacktestResult:
    """The backtest of an earlier evening, in a home that then has all bars."""
    found = backtest(
        home,
        settings,
        f"DELETE FROM forecasts WHERE origin > '{EVENING}'",
        f"DELETE FROM forecast_quantiles WHERE origin > '{EVENING}'",
        f"DELETE FROM bars WHERE session > '{EVENING}'",
    )
    shutil.copy(scored_warehouse, home.warehouse)
    return found


def stored(home: Home, result: BacktestResult) -> dict[str, bytes]:
    """The files of a result."""
    return {file.name: file.read_bytes() for file in (home.backtests / result.recipe).iterdir()}


def sessions(result: BacktestResult) -> int:
    return result.days["session"].nunique()


def simulated_whole(home: Home, settings: Settings, folder: Path) -> dict[str, bytes]:
    """The files of the backtest of a home in which none was stored before."""
    other = Home(folder)
    folder.mkdir()
    shutil.copy(home.warehouse, other.warehouse)
    result = backtest(other, settings)
    assert result.simulated == sessions(result)
    return stored(other, result)


def test_an_evening_simulates_the_sessions_that_are_new(
    home: Home, settings: Settings, evening: BacktestResult, tmp_path: Path
) -> None:
    assert evening.simulated == sessions(evening)
    result = backtest(home, settings)
    assert result.simulated == sessions(result) - sessions(evening) > 0
    assert f"{result.simulated} of {sessions(result)} sessions in this run" in result.engine
    assert stored(home, result) == simulated_whole(home, settings, tmp_path / "other")
    again = backtest(home, settings)
    assert again.simulated == 0 and again.days.equals(result.days)
    assert read_pointer(home.backtests / "current.json") == result.recipe


def test_a_dividend_changes_no_session_before_it(
    home: Home, settings: Settings, evening: BacktestResult, tmp_path: Path
) -> None:
    dividend = (
        "INSERT INTO corporate_actions BY NAME SELECT * REPLACE ('2013-02-22'::DATE AS ex_date) "
        "FROM corporate_actions WHERE symbol = 'IBM' AND kind = 'dividend' LIMIT 1"
    )
    result = backtest(home, settings, dividend)
    assert result.simulated == sessions(result) - sessions(evening)
    assert stored(home, result) == simulated_whole(home, settings, tmp_path / "other")


def test_an_earlier_bar_that_changed_is_simulated_again(
    home: Home, settings: Settings, evening: BacktestResult, tmp_path: Path
) -> None:
    result = backtest(home, settings, "UPDATE bars SET open = low WHERE symbol = 'IBM' AND session = '2013-02-15'")
    assert result.simulated == sessions(result)
    assert stored(home, result) == simulated_whole(home, settings, tmp_path / "other")


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


@pytest.mark.parametrize(("pattern", "damage"), [("accounts-*.json", _cut), ("days.parquet", _cut)])
def test_a_damaged_result_is_not_resumed_from(
    home: Home, settings: Settings, evening: BacktestResult, pattern: str, damage: Callable[[Path], None]
) -> None:
    (file,) = (home.backtests / evening.recipe).glob(pattern)
    damage(file)
    result = backtest(home, settings)
    assert result.simulated == sessions(result)
    assert (home.root / "damaged" / "backtests" / evening.recipe).is_dir()


RULES = TradingRules(2, 1, 1, open_cost=0.001, close_cost=0.002, min_cost=0.0, account=1e6)
DAYS, SYMBOLS = 12, 4


def random_plan() -> tuple[BacktestPlan, PricePanel]:
    random = np.random.default_rng(3)
    days = np.arange("2020-01-01", "2020-01-13", dtype="datetime64[D]")
    names = ("A", "B", "C", "D")
    prices = panel_of(days, names, *random.uniform(10, 20, (2, DAYS, SYMBOLS)))
    scores = {"one": random.normal(size=(DAYS, SYMBOLS)), "two": random.normal(size=(DAYS, SYMBOLS))}
    ends = np.full(SYMBOLS, np.datetime64("NaT", "D"))
    states = np.zeros((DAYS, SYMBOLS), dtype=np.int8)
    return BacktestPlan(days, names, names, scores, np.zeros(DAYS - 1), (), ends, states), prices


@pytest.mark.parametrize("part", ["open", "close", "volume", "factor", "states", "scores", "ends", "days"])
def test_an_input_counts_from_the_day_on_which_it_is_used(part: str) -> None:
    plan, prices = random_plan()
    before = input_digests(plan, prices, RULES, "1")
    assert len(set(before)) == DAYS
    assert input_digests(plan.span(0, 8), prices, RULES, "1") == before[:9]
    first = 6
    if part == "states":
        assert plan.states is not None
        plan.states[6, 2] = 1
    elif part == "scores":
        plan.scores["two"][5, 2] += 1
    elif part == "ends":
        plan.ends[2] = plan.days[5]
    elif part == "days":
        plan.days[6:] += 1
        prices = replace(prices, sessions=plan.days)
    else:
        getattr(prices, part)[6, 2] += 0.1
    after = input_digests(plan, prices, RULES, "1")
    assert after[:first] == before[:first] and not set(after[first:]) & set(before)


def test_other_rules_models_symbols_and_versions_have_other_digests() -> None:
    plan, prices = random_plan()
    before = input_digests(plan, prices, RULES, "1")
    one, two = plan.scores.values()
    others = [
        input_digests(plan, prices, replace(RULES, n_drop=2), "1"),
        input_digests(plan, prices, RULES, "2"),
        input_digests(replace(plan, scores={"one": one}), prices, RULES, "1"),
        input_digests(replace(plan, scores={"one": one, "three": two}), prices, RULES, "1"),
        input_digests(replace(plan, ids=("A", "B", "C", "E")), prices, RULES, "1"),
    ]
    assert all(not set(other) & set(before) for other in others)
