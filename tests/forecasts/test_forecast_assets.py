"""Forecasts and scores as Dagster assets: one run over a range, one session alone, and what stops a run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from assets.evaluation.assets import build_assets as evaluation_assets
from assets.forecasting.baselines.closed_form import ESTIMATED, MODELS
from assets.forecasts.assets import build_assets as forecast_assets
from assets.sessions import session_partitions
from resources.candlecast import Candlecast
from tests.forecasts.forecast_home import (
    ForecastHome,
    publish_packaged_volatility,
    publish_tiny_chronos2,
    publish_tiny_kronos,
)

ROOT = Path(__file__).parents[2]
EVERYTHING = ("baseline_forecasts", "kronos_forecasts", "chronos2_forecasts", "forecast_scores", "scoreboard")


def _run(
    home: ForecastHome,
    first: str,
    last: str,
    names: tuple[str, ...] = EVERYTHING,
    instance: dg.DagsterInstance | None = None,
    config: Mapping[str, object] | None = None,
) -> dg.ExecuteInProcessResult:
    sessions = session_partitions(home.settings)
    upstream = [dg.AssetSpec("bars", partitions_def=sessions)]
    upstream += [
        dg.AssetSpec(n)
        for n in ("corporate_actions", "kronos_tokenizer", "kronos_predictor", "chronos2_model", "volatility_model")
    ]
    made = forecast_assets(home.settings, sessions) + evaluation_assets(home.settings, sessions)
    defs = dg.Definitions(
        assets=[*upstream, *(one for one in made if not isinstance(one, dg.AssetChecksDefinition))],
        asset_checks=[one for one in made if isinstance(one, dg.AssetChecksDefinition)],
        jobs=[dg.define_asset_job("job", selection=list(names))],
        resources={"candlecast": Candlecast(home.settings, warehouse=home.warehouse)},
    )
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    job = defs.resolve_job_def("job")
    with nullcontext(instance) if instance else dg.DagsterInstance.ephemeral() as recorded:
        return job.execute_in_process(instance=recorded, tags=tags, run_config=config, raise_on_error=False)


def _tables(home: ForecastHome) -> list[pd.DataFrame]:
    return [
        home.warehouse.frame(f"FROM {t} ORDER BY ALL") for t in ("forecast_quantiles", "forecast_scores", "scoreboard")
    ]


@pytest.mark.slow
def test_a_range_is_one_run_and_a_rerun_changes_nothing(home: ForecastHome) -> None:
    publish_tiny_kronos(home.checkpoints)
    publish_tiny_chronos2(home.checkpoints)
    first = _run(home, "2012-05-01", "2012-06-29")
    assert first.success
    assert all(check.passed for check in first.get_asset_check_evaluations() if check.blocking)
    before = _tables(home)
    quantiles, scores, board = before
    everyone = {*MODELS, *ESTIMATED, "kronos", "chronos2"}
    assert set(quantiles["model"]) == everyone
    assert set(scores["model"]) == everyone
    assert set(board["model"]) == everyone
    assert set(quantiles.loc[quantiles["model"] == "kronos", "field"]) == {
        "open",
        "high",
        "low",
        "close",
        "volume",
        "amount",
    }
    stored = home.warehouse.path.read_bytes()
    again = _run(home, "2012-05-01", "2012-06-29")
    assert again.success
    assert home.warehouse.path.read_bytes() == stored


def test_one_session_forecasts_itself_and_scores_what_came_true_on_it(home: ForecastHome) -> None:
    names = ("baseline_forecasts", "forecast_scores", "scoreboard")
    for session in ("2012-05-02", "2012-05-03"):
        assert _run(home, session, session, names).success
    quantiles, scores, _ = _tables(home)
    assert set(quantiles["origin"]) == {pd.Timestamp("2012-05-02"), pd.Timestamp("2012-05-03")}
    assert set(scores["origin"]) == {pd.Timestamp("2012-05-02")}
    assert set(scores["step"]) == {1}


RUN = """
import sys
from pathlib import Path
from tests.forecasts.forecast_home import open_home
from tests.forecasts.test_forecast_assets import _run
names = ("volatility_forecasts", "forecast_scores", "scoreboard")
assert _run(open_home(Path(sys.argv[1])), "2012-05-02", "2012-05-03", names).success
print([name for name in ("matplotlib", "PIL") if name in sys.modules])
"""


def test_a_run_draws_no_picture(home: ForecastHome) -> None:
    publish_packaged_volatility(home.checkpoints)
    folder = home.candlecast.home
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder.root)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert {file.suffix for file in folder.pictures.iterdir()} == {".json"}


def test_each_session_counts_its_own_forecasts(home: ForecastHome) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert _run(home, "2012-05-01", "2012-05-15", ("baseline_forecasts",), instance).success
        records = instance.fetch_materializations(dg.AssetKey("baseline_forecasts"), limit=100).records
    counted = {
        record.partition_key: record.asset_materialization.metadata["dagster/row_count"].value
        for record in records
        if record.asset_materialization is not None
    }
    days = home.warehouse.frame("SELECT origin::DATE::VARCHAR AS day, count(*) AS n FROM forecast_quantiles GROUP BY 1")
    expected = dict(zip(days["day"], days["n"], strict=True))
    assert len(counted) == 11 and 0 < len(expected) < 11
    assert counted == {session: expected.get(str(session), 0) for session in counted}


def test_fewer_symbols_than_before_are_forecast_from_the_same_session(home: ForecastHome) -> None:
    names = ("baseline_forecasts",)
    assert _run(home, "2012-05-02", "2012-05-02", names).success
    stored = home.warehouse.frame("FROM forecast_quantiles ORDER BY ALL")
    one: dict[str, object] = {"ops": {"baseline_forecasts": {"config": {"symbols": ["MSFT"]}}}}
    assert _run(home, "2012-05-02", "2012-05-02", names, config=one).success
    narrowed = home.with_settings(market={"symbols": ("GOOG", "MSFT")})
    assert _run(narrowed, "2012-05-02", "2012-05-02", names).success
    pd.testing.assert_frame_equal(home.warehouse.frame("FROM forecast_quantiles ORDER BY ALL"), stored)


def test_a_damaged_forecast_stops_the_run_before_it_is_scored(home: ForecastHome) -> None:
    names = ("baseline_forecasts", "forecast_scores")
    assert _run(home, "2012-05-01", "2012-05-31", names[:1]).success
    with home.warehouse.write() as connection:
        connection.execute("UPDATE forecast_quantiles SET value = -value WHERE level = 0.95 AND model = 'drift'")
    stopped = _run(home, "2012-05-01", "2012-05-31", names)
    failed = {
        check.check_name: check.description for check in stopped.get_asset_check_evaluations() if not check.passed
    }
    assert not stopped.success
    assert {"finite_and_ordered", "physically_possible"} <= set(failed)
    assert "drift" in str(failed["finite_and_ordered"])
    assert _tables(home)[1].empty


def test_sessions_without_an_origin_are_refused(home: ForecastHome) -> None:
    result = _run(home, "2009-05-01", "2009-05-29", ("baseline_forecasts",))
    assert not result.success
    assert "no origin among the" in str(result.get_step_failure_events()[0].step_failure_data.error)


@pytest.mark.parametrize(
    "module", ["assets.forecasts.assets", "assets.evaluation.assets", "assets.forecasting.registry"]
)
def test_loading_a_stage_imports_no_model_library(module: str) -> None:
    heavy = "{'torch', 'chronos', 'transformers', 'qlib', 'matplotlib', 'arch', 'numba', 'scipy'}"
    code = f"import sys, {module}; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.slow
def test_a_rerun_imports_no_model_library(home: ForecastHome) -> None:
    publish_tiny_kronos(home.checkpoints)
    tasks_of = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from datetime import date
from pathlib import Path
from tests.forecasts.forecast_home import open_home
from assets.forecasting.kronos_forecaster import kronos_forecaster
from assets.forecasts.generate import generate_forecasts
home = open_home(Path({str(home.candlecast.home.root)!r}))
tasks = home.tasks(date(2012, 5, 1), date(2012, 5, 31))
result = generate_forecasts(home.candlecast, kronos_forecaster(home.settings, home.checkpoints), tasks)
print(result.created, "torch" in sys.modules)
"""
    outputs = [
        subprocess.run([sys.executable, "-c", tasks_of], check=True, capture_output=True, text=True).stdout.split()
        for _ in range(2)
    ]
    assert outputs[0][0] != "0"
    assert outputs[1] == ["0", "False"]
