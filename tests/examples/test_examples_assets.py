"""The assets of the examples: materialised on request, with scores, pictures and checks; the command of the bounds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from assets.examples.assets import build_assets
from assets.examples.forecasts import EXAMPLES, WITH, WITHOUT, Example, forecast_example, read_forecast
from benchmarks.examples import NOT_RUN, check_bounds
from orchestration.build import build_defs
from resources.candlecast import Candlecast
from resources.settings import ComputeSettings, ExampleSettings, Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def candlecast(tmp_path: Path) -> Candlecast:
    return Candlecast(Settings(home=tmp_path, compute=ComputeSettings(device="cpu", threads=1)))


def test_both_examples_materialise_offline_and_their_checks_pass(candlecast: Candlecast) -> None:
    result = dg.materialize(build_assets(), resources={"candlecast": candlecast})
    assert result.success
    evaluations = result.get_asset_check_evaluations()
    assert len(evaluations) == 3
    assert all(one.passed for one in evaluations), [one.description for one in evaluations]
    (electricity,) = result.asset_materializations_for_node("electricity_example")
    assert "pictures/" in str(electricity.metadata["forecast"].value)
    assert "digest" in str(electricity.metadata["model"].value)
    stored = read_forecast("electricity", candlecast.home)
    scored = float((stored["actual"] - stored["0.5"]).abs().mean())
    assert electricity.metadata["mae"].value == pytest.approx(scored)


def test_the_covariates_of_the_load_lower_its_error(candlecast: Candlecast) -> None:
    mae = forecast_example("electricity", candlecast.settings).scores.set_index("forecast")["mae"].to_dict()
    assert mae[WITH] < 0.7 * mae[WITHOUT]
    assert mae[WITH] < 0.7 * mae["seasonal_naive"]


def test_the_scores_are_of_hours_that_the_model_did_not_read(
    candlecast: Candlecast, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = EXAMPLES["sine"].frame()
    before = forecast_example("sine", candlecast.settings).quantiles
    frame.loc[frame.index[-48:], "value"] += 100.0
    monkeypatch.setitem(EXAMPLES, "sine", Example(lambda: frame, "value"))
    after = forecast_example("sine", candlecast.settings)
    pd.testing.assert_frame_equal(after.quantiles.drop(columns="actual"), before.drop(columns="actual"))
    assert after.own_scores["mae"] > 90


def test_no_job_and_no_schedule_contains_the_examples(tmp_path: Path) -> None:
    defs = build_defs(settings=Settings(home=tmp_path))
    examples = {dg.AssetKey(f"{name}_example") for name in EXAMPLES}
    assert examples < set(defs.resolve_asset_graph().get_all_asset_keys())
    for name in ("daily", "everything", "forecast", "train"):
        job = defs.resolve_job_def(name)
        assert not examples & set(job.asset_layer.executable_asset_keys)


def test_bounds_that_are_not_kept_fail(candlecast: Candlecast, capsys: pytest.CaptureFixture[str]) -> None:
    naive = candlecast.settings.model_copy(update={"examples": ExampleSettings(model="naive")})
    assert check_bounds(naive) == 1
    assert "FAILED: sine: mae" in capsys.readouterr().err


def test_the_benchmark_does_not_pass_without_weights(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.examples"],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "CANDLECAST_HOME": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == NOT_RUN, done.stderr
    assert "NOT RUN" in done.stderr
    assert not done.stdout
