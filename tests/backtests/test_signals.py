from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.backtests.acceptance import signal_problems
from assets.backtests.signals import (
    COMBINED,
    NO_DIRECTION,
    NOT_A_MEMBER,
    RECALIBRATED,
    TOO_EARLY,
    expected_closes,
    make_signals,
    read_omissions,
    read_signals,
    store_signals,
)
from assets.market.universe import Membership, Universe
from resources.warehouse import Warehouse
from tests.backtests.backtest_data import USED

ALWAYS = Universe(
    {symbol: [Membership(date(2000, 1, 1), None)] for symbol in ("AAPL", "FB", "GOOG", "IBM", "MSFT")}, "bars"
)


def test_the_expected_close_is_the_area_under_the_quantile_function_of_each_forecast() -> None:
    levels, values = np.tile([0.1, 0.5, 0.9], 2), np.array([90.0, 100.0, 130.0, 45.0, 50.0, 65.0])
    found = expected_closes(np.array([0, 0, 0, 3, 3, 3]), levels, values)
    area = 0.1 * 90 + 0.4 * 95 + 0.4 * 115 + 0.1 * 130
    np.testing.assert_allclose(found, [area, area / 2], rtol=1e-15)


@given(st.lists(st.floats(1, 1000), min_size=2, max_size=20))
def test_an_expected_close_lies_between_the_outermost_quantiles(values: list[float]) -> None:
    values = sorted(values)
    levels = np.linspace(0.05, 0.95, len(values))
    found = expected_closes(np.zeros(len(values), dtype=int), levels, np.array(values)).item()
    assert values[0] - 1e-9 <= found <= values[-1] + 1e-9


def test_models_without_a_direction_are_left_out_with_a_reason(warehouse: Warehouse) -> None:
    made = make_signals(warehouse, "1d", 10, USED, ALWAYS)
    assert set(made.frame["model"]) == {"drift", "momentum", "kronos", "chronos2"}
    reasons = {one.model: one for one in made.omissions}
    assert set(reasons) == {"random_walk", "random_walk_ewma"}
    assert reasons["random_walk"].reason == NO_DIRECTION
    assert reasons["random_walk"].forecasts > 0


@pytest.mark.parametrize(("name", "reason"), [("kronos_recalibrated", RECALIBRATED), ("combination_crps", COMBINED)])
def test_derived_forecasts_rank_as_their_models_do_and_make_no_signal(
    warehouse: Warehouse, name: str, reason: str
) -> None:
    copy = f"SELECT * REPLACE ('{name}' AS model) FROM {{}} WHERE model = 'kronos'"
    with warehouse.write() as connection:
        for table in ("forecasts", "forecast_quantiles"):
            connection.execute(f"INSERT INTO {table} {copy.format(table)}")
    made = make_signals(warehouse, "1d", 10, {**USED, name: USED["kronos"]}, ALWAYS)
    assert set(made.frame["model"]) == {"drift", "momentum", "kronos", "chronos2"}
    assert reason in {one.reason for one in made.omissions if one.model == name}


def test_origins_before_the_test_range_make_no_signal_and_are_counted(warehouse: Warehouse) -> None:
    whole = make_signals(warehouse, "1d", 10, USED, ALWAYS).frame
    since = date(2012, 10, 1)
    made = make_signals(warehouse, "1d", 10, USED, ALWAYS, since)
    later = whole[whole["origin"] >= pd.Timestamp(since)].reset_index(drop=True)
    pd.testing.assert_frame_equal(made.frame, later)
    omitted = {one.model: one.forecasts for one in made.omissions if one.reason == TOO_EARLY}
    assert omitted == (whole["model"].value_counts() - later["model"].value_counts()).to_dict()


def test_a_model_whose_median_is_the_last_close_is_left_out(warehouse: Warehouse) -> None:
    with warehouse.write() as connection:
        connection.execute(
            "UPDATE forecast_quantiles q SET value = value * (SELECT b.close FROM bars b WHERE b.symbol = q.symbol "
            "AND b.ts = q.origin AND b.frequency = '1d') / (SELECT m.value FROM forecast_quantiles m WHERE "
            "m.model = q.model AND m.checkpoint = q.checkpoint AND m.symbol = q.symbol AND m.origin = q.origin "
            "AND m.step = q.step AND m.field = q.field AND m.level = 0.5) WHERE model = 'chronos2' AND field = 'close'"
        )
    made = make_signals(warehouse, "1d", 10, USED, ALWAYS)
    assert set(made.frame["model"]) == {"drift", "momentum", "kronos"}
    reason = next(one.reason for one in made.omissions if one.model == "chronos2")
    assert reason == NO_DIRECTION
    with warehouse.write() as connection:
        connection.execute("UPDATE bars SET close = close * 1.01, high = high * 1.01 WHERE symbol = 'IBM'")
    assert "chronos2" not in set(make_signals(warehouse, "1d", 10, USED, ALWAYS).frame["model"]), (
        "a revised close is not a forecast direction"
    )


def test_in_sample_forecasts_make_no_signal_and_are_counted(warehouse: Warehouse) -> None:
    with warehouse.write() as connection:
        for table in ("forecasts", "forecast_quantiles"):
            connection.execute(f"UPDATE {table} SET in_sample = true WHERE model = 'kronos' AND symbol = 'IBM'")
    made = make_signals(warehouse, "1d", 10, USED, ALWAYS)
    assert "IBM" not in set(made.frame.loc[made.frame["model"] == "kronos", "symbol"])
    omitted = next(one for one in made.omissions if one.model == "kronos")
    assert "in-sample" in omitted.reason
    assert omitted.forecasts == made.frame.loc[made.frame["model"] == "drift", "symbol"].eq("IBM").sum()


def test_a_replaced_checkpoint_makes_no_signal(warehouse: Warehouse) -> None:
    with warehouse.write() as connection:
        for table in ("forecasts", "forecast_quantiles"):
            connection.execute(
                f"INSERT INTO {table} SELECT * REPLACE ('old' AS checkpoint, made_at - INTERVAL 1 DAY AS made_at) "
                f"FROM {table} WHERE model = 'kronos'"
            )
    made = make_signals(warehouse, "1d", 10, USED, ALWAYS)
    assert "old" not in set(made.frame["checkpoint"])
    assert any("old" in one.reason for one in made.omissions if one.model == "kronos")


def test_only_the_checkpoint_in_use_decides_whether_a_model_has_a_direction(warehouse: Warehouse) -> None:
    before = make_signals(warehouse, "1d", 10, USED, ALWAYS)
    with warehouse.write() as connection:
        for number in (1, 2):
            connection.execute(
                f"INSERT INTO forecast_quantiles SELECT q.* REPLACE ('old{number}' AS checkpoint, b.close AS value) "
                "FROM forecast_quantiles q JOIN bars b ON b.symbol = q.symbol AND b.ts = q.origin "
                f"WHERE q.model = 'chronos2' AND q.checkpoint = '{USED['chronos2']}'"
            )
            connection.execute(
                f"INSERT INTO forecasts SELECT * REPLACE ('old{number}' AS checkpoint) FROM forecasts "
                f"WHERE model = 'chronos2' AND checkpoint = '{USED['chronos2']}'"
            )
    made = make_signals(warehouse, "1d", 10, USED, ALWAYS)
    assert made.frame.equals(before.frame), "the medians of earlier checkpoints do not count"
    replaced = make_signals(warehouse, "1d", 10, {**USED, "chronos2": "old1"}, ALWAYS)
    assert "chronos2" not in set(replaced.frame["model"])
    reasons = [one.reason for one in replaced.omissions if one.model == "chronos2"]
    assert reasons.count(NO_DIRECTION) == 1
    assert sum("old1 is in use" in reason for reason in reasons) == 2


def test_a_symbol_that_left_the_universe_gives_no_signal_after_its_last_day_and_is_counted(
    warehouse: Warehouse,
) -> None:
    before = make_signals(warehouse, "1d", 10, USED, ALWAYS).frame
    own = before[(before["model"] == "kronos") & (before["symbol"] == "IBM")]
    last = own["origin"].iloc[len(own) // 2]
    universe = Universe({**ALWAYS.memberships, "IBM": [Membership(date(2000, 1, 1), last.date())]}, "members")
    made = make_signals(warehouse, "1d", 10, USED, universe)
    gone = (before["symbol"] == "IBM") & (before["origin"] > last)
    assert made.frame.equals(before[~gone].reset_index(drop=True))
    omitted = {one.model: one.forecasts for one in made.omissions if one.reason == NOT_A_MEMBER}
    assert omitted == before[gone].groupby("model").size().to_dict()
    assert omitted["kronos"] > 0 and "random_walk" not in omitted


def test_a_universe_without_any_member_has_no_signals(warehouse: Warehouse) -> None:
    made = make_signals(warehouse, "1d", 10, USED, Universe({}, "members"))
    assert made.frame.empty
    assert {one.model for one in made.omissions if one.reason == NOT_A_MEMBER} >= {"kronos", "chronos2"}


def test_bars_after_an_origin_do_not_change_its_signals(warehouse: Warehouse) -> None:
    before = make_signals(warehouse, "1d", 10, USED, ALWAYS).frame
    origin = before["origin"].sort_values().iloc[len(before) // 2]
    with warehouse.write() as connection:
        connection.execute("UPDATE bars SET open = open * 3, close = close * 3 WHERE ts > ?", [origin.to_pydatetime()])
    after = make_signals(warehouse, "1d", 10, USED, ALWAYS).frame
    past = before["origin"] <= origin
    assert before[past].equals(after[past])
    assert not before[~past].equals(after[~past])


def test_storing_the_same_signals_again_writes_nothing(warehouse: Warehouse) -> None:
    made = make_signals(warehouse, "1d", 10, USED, ALWAYS)
    assert store_signals(warehouse, made)
    bytes_before = warehouse.path.read_bytes()
    assert not store_signals(warehouse, made)
    assert warehouse.path.read_bytes() == bytes_before
    assert read_signals(warehouse).equals(made.frame)
    assert read_omissions(warehouse) == made.omissions


def test_omissions_that_change_are_stored_also_if_the_signals_do_not(warehouse: Warehouse) -> None:
    made = make_signals(warehouse, "1d", 10, USED, ALWAYS)
    store_signals(warehouse, made)
    fewer = replace(made, omissions=made.omissions[1:])
    assert store_signals(warehouse, fewer)
    assert read_omissions(warehouse) == fewer.omissions
    assert read_signals(warehouse).equals(made.frame)


def test_the_acceptance_check_finds_a_signal_without_a_forecast(warehouse: Warehouse) -> None:
    made = make_signals(warehouse, "1d", 10, USED, ALWAYS)
    store_signals(warehouse, made)
    assert signal_problems(warehouse, made.frame) == []
    with warehouse.write() as connection:
        connection.execute("UPDATE signals SET checkpoint = 'nobody', value = 'NaN' WHERE symbol = 'IBM'")
    problems = signal_problems(warehouse, read_signals(warehouse))
    assert any("no out-of-sample forecast" in problem for problem in problems)
    assert any("nan" in problem for problem in problems)
