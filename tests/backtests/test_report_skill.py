from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from assets.backtests.plan import NoBacktest
from assets.backtests.report.anchoring import anchoring_text
from assets.backtests.report.contents import ReportContents, read_contents
from assets.backtests.report.formatting import MINUS, TextTable
from assets.backtests.report.plots import HIGHLIGHTED, calibration_chart, skill_chart
from assets.backtests.report.skill import MOST_GROUPS, crps_skill, skill_table, symbol_table, year_table
from assets.backtests.report.tables import omissions_table, scoreboard_table
from assets.backtests.results import BacktestResult
from assets.backtests.signals import OmittedForecasts
from assets.forecasting.calibration.anchoring import anchored
from assets.plots import label
from resources.checkpoints import CheckpointStore
from resources.layout import Home
from resources.settings import Settings
from resources.warehouse import Warehouse
from tests.backtests.backtest_data import USED

NOTHING = BacktestResult("none", NoBacktest("Not asked for."), pd.DataFrame(), pd.DataFrame(), simulated=False)
SKILLS = {"har": 0.011, "volatility": 0.014, "har_recalibrated": 0.012, "random_walk_ewma_recalibrated": 0.002}


def _board() -> pd.DataFrame:
    common = {"horizon": 0, "low": 0.4, "high": 0.6, "n": 90, "forward": 3, "verdict": "no difference shown"}
    crps = [
        {**common, "model": model, "metric": "crps", "value": 1.0, "baseline": "random_walk_ewma", "skill": skill,
         "skill_low": skill - 0.01, "skill_high": skill + 0.01}
        for model, skill in SKILLS.items()
    ]  # fmt: skip
    covers = {"har": 0.84, "har_recalibrated": 0.905, "volatility": 0.88, "random_walk_ewma": 0.87}
    coverage = [
        {**common, "model": model, "metric": "coverage_90", "value": share, "baseline": "random_walk", "skill": 0.0,
         "skill_low": -0.1, "skill_high": 0.1}
        for model, share in covers.items()
    ]  # fmt: skip
    board = pd.DataFrame([*crps, *coverage])
    board.loc[board["model"] == "har_recalibrated", "verdict"] = "better"
    return board


def _rows(table: TextTable | None) -> dict[str, tuple[str, ...]]:
    assert table
    return {row[0]: row[1:] for row in table.rows}


def _groups(symbols: int) -> pd.DataFrame:
    """Symbol k of the model has a skill of k − 2 %, the recalibrated model's is not shown."""
    named = [(f"S{k:02d}", 1 - (k - 2) / 100) for k in range(symbols)]
    rows = [("kronos", "symbol", name, 3 * value, 3.0, 9) for name, value in named]
    rows += [("kronos_recalibrated", "symbol", name, 3.0, 3.0, 9) for name, _ in named]
    rows += [("kronos", "year", str(2000 + k), 0.9 if k else 1.2, 1.0, 9) for k in range(MOST_GROUPS + 1)]
    return pd.DataFrame(rows, columns=["model", "kind", "name", "value", "reference", "origins"])


def test_raw_and_recalibrated_skill_and_coverage_are_in_one_row_and_the_best_model_first() -> None:
    rows = _rows(skill_table(_board()))
    assert list(rows) == ["Volatility model", label("har"), "Random walk (EWMA volatility)"]
    skill, _, recalibrated, _, coverage, verdict = rows[label("har")]
    assert "+1.1" in skill and "+1.2" in recalibrated and "\N{BLACK UP-POINTING TRIANGLE}" in recalibrated
    assert "84.0" in coverage and "90.5" in coverage and verdict == "no difference shown"
    assert "88.0" in rows["Volatility model"][4] and "\N{RIGHTWARDS ARROW}" not in rows["Volatility model"][4]
    assert rows["Random walk (EWMA volatility)"][-1] == "reference model"


def test_without_recalibrated_models_the_table_has_no_column_of_them() -> None:
    board = _board()
    plain = skill_table(board[~board["model"].str.endswith("_recalibrated")])
    assert plain and len(plain.columns) == len(plain.rows[0]) == 5
    assert skill_table(board.iloc[:0]) is None


def test_a_few_symbols_are_columns_and_many_are_summed_up() -> None:
    few, many = (_rows(symbol_table(_groups(count)))["Kronos"] for count in (MOST_GROUPS, MOST_GROUPS + 5))
    assert len(few) == MOST_GROUPS + 1 and few[0].startswith(f"{MINUS}2.0") and few[-1] == "5 of 8"
    assert [figure.split("\N{NO-BREAK SPACE}")[0] for figure in many[:-1]] == [
        f"{MINUS}2.0", "+1.0", "+4.0", "+7.0", "+10.0",
    ]  # fmt: skip
    assert many[-1] == "10 of 13"


def test_the_newest_years_are_shown_and_all_are_counted() -> None:
    table = year_table(_groups(3))
    assert table and [column.title for column in table.columns][1] == "2001"
    assert table.rows[0][-1] == f"{MOST_GROUPS} of {MOST_GROUPS + 1}"


def test_the_skill_of_a_group_is_that_of_its_scores(home: Home, settings: Settings) -> None:
    warehouse = Warehouse(home.warehouse)
    contents = read_contents(settings, warehouse, CheckpointStore(home), USED, NOTHING, (), "no provider")
    means = warehouse.frame(
        """
        SELECT s.model, avg(s.value) AS value
        FROM forecast_scores s JOIN forecasts f USING (model, checkpoint, symbol, origin)
        WHERE metric = 'crps' AND symbol = 'IBM' AND NOT f.in_sample
          AND origin IN (SELECT origin FROM forecasts WHERE model = 'drift')
        GROUP BY s.model
        """
    ).set_index("model")["value"]
    (row,) = contents.skill_groups.query("model == 'drift' and name == 'IBM'").to_dict("records")
    assert row["value"] / row["reference"] == pytest.approx(means["drift"] / means["random_walk_ewma"])
    years = contents.skill_groups.query("model == 'drift' and kind == 'year'")
    symbols = contents.skill_groups.query("model == 'drift' and kind == 'symbol'")
    assert years["value"].sum() == pytest.approx(symbols["value"].sum())
    assert "random_walk_ewma" not in set(contents.skill_groups["model"])


def test_the_table_of_all_scores_leaves_recalibrated_models_out() -> None:
    table = scoreboard_table(_board())
    assert table and not any("recalibrated" in row[0] for row in table.rows)


def test_models_that_are_left_out_for_one_reason_share_a_row(home: Home, settings: Settings) -> None:
    omitted = [OmittedForecasts("har", 9, "flat"), OmittedForecasts("garch", 9, "flat"), OmittedForecasts("a", 9, "x")]
    contents: ReportContents = read_contents(
        settings, Warehouse(home.warehouse), CheckpointStore(home), USED, NOTHING, omitted, "no provider"
    )
    assert [row[0] for row in getattr(omissions_table(contents), "rows", ())] == [
        f"{label('har')}, {label('garch')}",
        "a",
    ]


def test_charts_of_many_models_have_a_row_each_and_a_legend_of_few() -> None:
    levels = pd.DataFrame({"level": [0.1, 0.5, 0.9], "share": [0.08, 0.5, 0.93]})
    names = [f"m{place}" for place in range(len(HIGHLIGHTED) + 3)]
    one, both = (calibration_chart({name + end: levels for name in names for end in ends}) for ends in
                 ([""], ["", "_recalibrated"]))  # fmt: skip
    heights = [int.from_bytes(png[20:24], "big") for png in (one, both)]
    assert heights[1] > heights[0]
    copies = skill_chart(crps_skill(_board()))
    assert copies.startswith(b"\x89PNG")


@pytest.mark.parametrize(("shift", "power"), [(0.4, 0.2), (0.0, 0.0), (1.0, 0.6)])
def test_what_an_anchored_model_takes_from_its_model_is_read_off_its_forecasts(
    home: Home, settings: Settings, shift: float, power: float
) -> None:
    warehouse, step = Warehouse(home.warehouse), 3
    stored = warehouse.frame(
        """
        SELECT q.*, ln(q.value / b.close) AS log, b.close FROM forecast_quantiles q
        JOIN bars b ON b.symbol = q.symbol AND b.ts = q.origin AND b.frequency = '1d'
        WHERE q.model = 'kronos' AND q.field = 'close' ORDER BY q.symbol, q.origin, q.step, q.level
        """
    )
    levels = np.sort(stored["level"].unique())
    logs = stored["log"].to_numpy().reshape(-1, len(levels))
    rng = np.random.default_rng(0)
    volatility = np.sort(rng.uniform(0.01, 0.03, len(logs)))[:, None] * (levels - 0.5)
    # Weights differ by step: those of the step that is looked at, and none at the others.
    chosen = (stored["step"].to_numpy().reshape(-1, len(levels))[:, 0] == step).astype(float)
    derived = anchored(logs, volatility, shift * chosen, power * chosen, 0.0, 0.3, levels.tolist())
    columns = [column for column in stored.columns if column not in ("log", "close")]
    with warehouse.write() as connection:
        for model, values in {"volatility": volatility, "kronos_anchored": derived}.items():
            value = stored["close"].to_numpy() * np.exp(values.ravel())
            connection.register("made", stored[columns].assign(model=model, value=value))
            connection.execute("INSERT INTO forecast_quantiles BY NAME SELECT * FROM made")
            connection.execute(f"INSERT INTO forecasts SELECT * REPLACE ('{model}' AS model) FROM forecasts WHERE "
                               "model = 'kronos'")  # fmt: skip
    used = {**USED, "volatility": USED["kronos"], "kronos_anchored": USED["kronos"]}
    found = read_contents(settings, warehouse, CheckpointStore(home), used, NOTHING, (), "no provider").anchoring
    weights = found.set_index("step")[["location", "scale"]]
    np.testing.assert_allclose(weights.loc[step], [shift, power], atol=0.005)
    np.testing.assert_allclose(weights.drop(index=step), 0.0, atol=0.005)
    (text,) = anchoring_text(found)
    assert "Kronos anchored" in text and str(found["origin"].max().date()) in text
    if shift and shift != power:
        assert f"{shift:g} at step 3" in text and f"{power:g} at step 3" in text


def test_without_anchored_models_nothing_is_said_of_them(home: Home, settings: Settings) -> None:
    contents = read_contents(settings, Warehouse(home.warehouse), CheckpointStore(home), USED, NOTHING, (), "none")
    assert contents.anchoring.empty and anchoring_text(contents.anchoring) == ()
