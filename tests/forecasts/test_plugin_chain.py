"""The plug-in of docs/how-to/add-a-model.md, as written there, beside one that fails, through the whole chain."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from assets.backtests.assets import build_assets as backtest_assets
from assets.evaluation.assets import build_assets as evaluation_assets
from assets.forecasting.plugin_models import plugin_model
from assets.forecasts.assets import build_assets as forecast_assets
from assets.forecasts.checks import CHECKS
from assets.forecasts.generate import generate_forecasts
from assets.sessions import session_partitions
from orchestration.build import build_defs
from resources.candlecast import Candlecast
from resources.profiles import load_settings
from tests.forecasts.forecast_home import ForecastHome, real_bars, store_bars

PAGE = (Path(__file__).parents[2] / "docs/how-to/add-a-model.md").read_text(encoding="utf-8")
FIRST, LAST = date(2012, 9, 4), date(2012, 11, 30)
# Fails on one symbol; and a model that fails on all.
TROUBLED = """
from historical import HistoricalSimulation


class Picky(HistoricalSimulation):
    failing: tuple[str, ...] = ("IBM",)

    def predict(self, inputs, levels):
        failing = [one.symbol for one in inputs if not self.failing or one.symbol in self.failing]
        if failing:
            raise ValueError(f"{failing[0]} is too quiet")
        return super().predict(inputs, levels)


def make(settings, failing=("IBM",)):
    made = Picky(100)
    made.failing = tuple(failing)
    return made
"""
MODELS = """
[profiles.sample.models.picky]
factory = "troubled:make"
[profiles.sample.models.broken]
factory = "troubled:make"
options = { failing = [] }
[profiles.sample.models.absent]
factory = "absent:make"
enabled = false
"""


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def plugin_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ForecastHome]:
    """Real bars, and the page's module beside the page's settings."""
    (tmp_path / "historical.py").write_text(block("python"))
    (tmp_path / "troubled.py").write_text(TROUBLED)
    file = tmp_path / "candlecast.toml"
    file.write_text(block("toml") + MODELS)
    monkeypatch.setattr(sys, "path", [*sys.path])
    home = ForecastHome(Candlecast(load_settings(file, "sample", tmp_path / "home")))
    store_bars(home.warehouse, real_bars())
    yield home
    for name in ("historical", "troubled"):
        sys.modules.pop(name, None)


def test_the_plugin_of_the_page_has_at_most_30_lines_and_forecasts(plugin_home: ForecastHome) -> None:
    assert len([line for line in block("python").splitlines() if line.strip()]) <= 30
    model, tasks = (
        plugin_model(plugin_home.settings, "historical", plugin_home.checkpoints),
        plugin_home.tasks(FIRST, LAST),
    )
    assert model.recipe["options"] == {"bars": 250} and "source" in model.recipe["code"]
    assert generate_forecasts(plugin_home.candlecast, model, tasks).created == len(tasks)
    last = tasks[0].history.closes_as_of(tasks[0].index)[-251:]
    expected = last[-1] * np.exp(np.quantile(np.diff(np.log(last[1:])), 0.5))
    query = "FROM forecast_quantiles WHERE symbol = ? AND origin = ? AND step = 1 AND level = 0.5"
    (row,) = plugin_home.warehouse.frame(query, [tasks[0].symbol, tasks[0].origin.item()]).to_dict("records")
    assert row["value"] == pytest.approx(expected)


def test_each_enabled_model_has_an_asset_with_all_checks_and_loading_imports_no_plugin(
    plugin_home: ForecastHome,
) -> None:
    graph = build_defs(settings=plugin_home.settings).resolve_asset_graph()
    for name in ("historical", "picky", "broken"):
        node = graph.get(dg.AssetKey(f"{name}_forecasts"))
        assert node.group_name == "forecasts" and node.is_partitioned and name in str(node.description)
        assert {dg.AssetKey("forecast_scores"), dg.AssetKey("signals")} <= node.child_keys
        names = {key.name for key in graph.asset_check_keys if key.asset_key == node.key}
        assert names == {*(check.name for check in CHECKS), "newest_session_is_materialized"}
    assert dg.AssetKey("absent_forecasts") not in graph.get_all_asset_keys()
    assert not {"historical", "troubled"} & set(sys.modules)


@pytest.mark.slow
def test_the_plugin_of_the_page_is_scored_and_traded_and_failing_ones_affect_nothing(plugin_home: ForecastHome) -> None:
    settings, sessions = plugin_home.settings, session_partitions(plugin_home.settings)
    built = [
        item for stage in (forecast_assets, evaluation_assets, backtest_assets) for item in stage(settings, sessions)
    ]
    checks = [item for item in built if isinstance(item, dg.AssetChecksDefinition)]
    trained = ("kronos_tokenizer", "kronos_predictor", "chronos2_model", "volatility_model")
    names = ("raw_bars", "bars", "corporate_actions", *trained)
    partitions = {"raw_bars": sessions, "bars": sessions}
    upstream = [dg.AssetSpec(name, partitions_def=partitions.get(name)) for name in names]
    forecasts = [name for name in settings.forecast_assets if not name.startswith(("kronos", "chronos2", "volatility"))]
    assets = [*forecasts, "forecast_scores", "scoreboard", "signals", "qlib_provider", "backtest_report"]
    job = dg.define_asset_job("job", dg.AssetSelection.assets(*assets))
    defs = dg.Definitions(
        [*upstream, *(item for item in built if item not in checks)],
        asset_checks=checks,
        jobs=[job],
        resources={"candlecast": plugin_home.candlecast},
    )
    tags = {"dagster/asset_partition_range_start": str(FIRST), "dagster/asset_partition_range_end": "2012-12-31"}
    with dg.DagsterInstance.ephemeral() as instance:
        run = defs.resolve_job_def("job").execute_in_process(instance=instance, tags=tags)
    failed = {
        (one.asset_key.to_user_string(), one.check_name): one
        for one in run.get_asset_check_evaluations()
        if not one.passed and one.check_name == "every_series_is_forecast"
    }
    # What is derived from them is missing with them, and is no second failure.
    assert {asset for asset, _ in failed} == {"picky_forecasts", "broken_forecasts"}
    picky, broken = (failed[f"{name}_forecasts", "every_series_is_forecast"] for name in ("picky", "broken"))
    assert "IBM is too quiet" in str(picky.description) and picky.severity is dg.AssetCheckSeverity.WARN
    assert broken.severity is dg.AssetCheckSeverity.ERROR
    counts = plugin_home.warehouse.frame("SELECT model, symbol, count(*) AS n FROM forecasts GROUP BY ALL")
    by_model = counts.groupby("model")["symbol"].agg(set)
    assert by_model["historical"] - by_model["picky"] == {"IBM"} and "broken" not in by_model
    for table in ("forecast_scores", "scoreboard", "signals", "backtest_days", "forecast_costs"):
        assert "historical" in set(plugin_home.warehouse.frame(f"SELECT DISTINCT model FROM {table}")["model"]), table
    (report,) = plugin_home.candlecast.home.reports.glob("*/report.html")
    assert "historical simulation" in report.read_text(encoding="utf-8")
