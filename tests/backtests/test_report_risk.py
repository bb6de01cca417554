"""The risk section of the report, and its entry in the JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from assets.backtests.plan import NoBacktest
from assets.backtests.report.page import compose
from assets.backtests.report.publish import render
from assets.backtests.report.risk import risk_records, risk_table
from assets.backtests.results import BacktestResult
from resources.layout import Home
from resources.warehouse import Warehouse
from tests.backtests.backtest_data import settings_of
from tests.backtests.test_report import contents_of

ROWS = pd.DataFrame(
    [
        ("drift", 5, "touch", -0.05, 90, 45, 12, 13.5, 0.41, np.nan, np.nan, 0.1, np.nan),
        ("drift", 1, "var", 0.05, 100, 100, 9, 5.0, 0.2, 0.0004, 0.3, -0.02, np.nan),
        ("drift", 1, "es", 0.05, 100, 100, 9, 5.0, np.nan, np.nan, np.nan, np.nan, -0.8),
        ("random_walk_ewma", 1, "var", 0.05, 100, 100, 5, 5.0, 0.9, 1.0, np.nan, np.nan, np.nan),
    ],
    columns=["model", "step", "measure", "level", "forecasts", "n", "exceptions", "expected", "block_p", "kupiec_p",
             "christoffersen_p", "skill", "es_z"],
).assign(rate_low=0.01, rate_high=0.15, skill_low=np.nan, skill_high=np.nan)  # fmt: skip


def test_the_table_groups_the_backtest_by_measure_and_step() -> None:
    table = risk_table(ROWS)
    assert table is not None
    assert [first for first, _ in table.groups] == [0, 2]
    assert "5\N{NO-BREAK SPACE}%" in table.groups[0][1] or "5 %" in table.groups[0][1]
    assert "below" in table.groups[1][1]
    drift = dict(zip([column.title for column in table.columns], table.rows[0], strict=True))
    assert (drift["Occurred"], drift["Expected"], drift["p, Kupiec"]) == ("9", "5.0", "< 0.001")
    assert drift["ES, Z"] == "\N{MINUS SIGN}0.800"
    only = risk_table(ROWS, ["random_walk_ewma"])
    assert only is not None and len(only.rows) == 1
    assert risk_table(ROWS[:0]) is None and risk_table(ROWS, ["kronos"]) is None


def test_the_section_and_the_json_hold_the_stored_backtest(tmp_path: Path) -> None:
    settings = settings_of(Home(tmp_path))
    with Warehouse(Home(tmp_path).warehouse).write() as connection:
        connection.register("rows", ROWS)
        connection.execute("INSERT INTO risk_backtest BY NAME FROM rows")
    nothing = BacktestResult("none", NoBacktest("There are no bars."), pd.DataFrame(), pd.DataFrame(), simulated=False)
    contents = contents_of(Home(tmp_path), settings, nothing)
    page = render(compose(contents, "0" * 64))
    assert "Kupiec" in page and "risk_backtest" not in page.partition('id="risk"')[2].partition("</section>")[0]
    records = json.loads(json.dumps(risk_records(contents.risk)))
    assert [one["n"] for one in records if one["measure"] == "touch"] == [45]
    assert {one["score"] for one in records} == {None}
