"""Quantile levels: every fault gives one message, wherever the levels are stated, and the remedy in it is accepted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from assets.forecasting.series_forecast import predict
from orchestration.cli.app import app
from resources.errors import CandlecastError, SettingsError
from resources.profiles import load_settings
from resources.quantile_levels import LevelRule, require_levels

FRAME = pd.DataFrame({"ds": pd.date_range("2022-03-07", periods=40), "y": 9 + np.sin(np.arange(40.0))})
# Levels as TOML has them, and what their message names.
FAULTS = [
    ("[]", "no level"),
    ("[0.2, 0.5, 0.5]", "0.5 is given more than once"),
    ("[0.5, 0.2]", "0.2 comes after 0.5"),
    ("[0.5, 1.0]", "1.0 is not between 0 and 1"),
    ("[-0.1, 0.5]", "-0.1 is not"),
    ("[0.5, 90]", "90 is not"),
    ("[nan, 0.5]", "nan is not"),
    ('["low", 0.5]', "'low' is no number"),
    ("[true]", "True is no number"),
    ("[0.004, 0.5]", "0.004 is below 0.01, the lowest level of"),
    ("[0.5, 0.996]", "0.996 is above 0.99, the highest level of"),
]


def stated(text: str) -> list[object]:
    return list(eval(text, {"nan": float("nan"), "true": True}))


@pytest.mark.parametrize(("levels", "fault"), FAULTS)
def test_the_settings_and_predict_refuse_a_fault_with_one_message(tmp_path: Path, levels: str, fault: str) -> None:
    file = tmp_path / "candlecast.toml"
    file.write_text(f"[profiles.sample.forecasts]\nlevels = {levels}\n")
    with pytest.raises(SettingsError) as refused:
        load_settings(file)
    with pytest.raises(CandlecastError) as also:
        predict(FRAME, horizon=2, levels=stated(levels))  # type: ignore[arg-type]
    shown = ",".join(map(str, stated(levels)))
    assert fault in str(refused.value) and f"--levels {shown}: {fault}" in str(also.value)
    remedy = re.search(r"set forecasts\.levels = (\[.*\])", str(refused.value))
    assert remedy is not None
    file.write_text(f"[profiles.sample.forecasts]\nlevels = {remedy[1]}\n")
    assert load_settings(file).forecasts.levels == tuple(eval(remedy[1]))


def test_the_options_of_the_command_line_are_refused_with_the_same_message() -> None:
    for given, mended in (("0.9,0.5", "0.5,0.9"), ("0.5,half", "0.5"), ("0.1,,0.5", "0.1,0.5")):
        done = CliRunner().invoke(app, ["predict", "none.csv", "--horizon", "2", "--levels", given])
        assert done.exit_code == 2 and done.stderr.strip().endswith(f"; state --levels {mended}")


@pytest.mark.parametrize("levels", [0.5, "0.5", None])
def test_what_is_no_list_of_levels_is_refused(levels: Sequence[float]) -> None:
    with pytest.raises(CandlecastError, match=r"no list of numbers; state --levels 0\.5"):
        require_levels(levels, "--levels")


def test_the_median_is_required_where_the_rule_says_so() -> None:
    rule = LevelRule(0.2, 0.8, "a model", median=True)
    with pytest.raises(CandlecastError, match=r"0\.5 is missing.*set forecasts\.levels = \[0\.25, 0\.5\]"):
        require_levels([0.25], "forecasts.levels", rule)
    assert require_levels(np.array([0.25, 0.5]), "forecasts.levels", rule) == (0.25, 0.5)
