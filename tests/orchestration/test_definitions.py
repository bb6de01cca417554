"""One snapshot of everything that is defined: a renamed asset or a moved schedule shows in review."""

import json
import os
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.forecasting.companion import WEIGHTS
from assets.market.checks import GATES
from assets.training.data.windows import WINDOWS_VERSION
from orchestration.build import build_defs
from orchestration.resources import RESOURCE, CandlecastResource
from resources.candlecast import Candlecast
from resources.profiles import load_settings
from resources.warehouse import Warehouse

SNAPSHOT = Path(__file__).with_name("definitions.json")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def defs(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    return build_defs(settings=load_settings(ROOT / "candlecast.toml", "sample", tmp_path_factory.mktemp("home")))


def _snapshot(defs: dg.Definitions) -> dict[str, Any]:
    specs = sorted(defs.resolve_all_asset_specs(), key=lambda spec: spec.key.to_user_string())
    graph = defs.resolve_asset_graph()
    return {
        "assets": {
            spec.key.to_user_string(): {
                "group": spec.group_name,
                "kinds": sorted(spec.kinds),
                "owners": list(spec.owners),
                "partitioned": spec.partitions_def is not None,
                "from": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
                "checks": sorted(key.name for key in graph.get_check_keys_for_assets({spec.key}))
                if hasattr(graph, "get_check_keys_for_assets")
                else [],
            }
            for spec in specs
        },
        "jobs": sorted(job.name for job in defs.jobs or []),
        "schedules": sorted(schedule.name for schedule in defs.schedules or []),
        "sensors": sorted(sensor.name for sensor in defs.sensors or []),
    }


def test_the_definitions_equal_the_reviewed_snapshot(defs: dg.Definitions) -> None:
    """`CANDLECAST_SNAPSHOT=1 pytest tests/orchestration/test_definitions.py` updates the snapshot."""
    found = _snapshot(defs)
    if os.environ.get("CANDLECAST_SNAPSHOT"):
        SNAPSHOT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    assert found == json.loads(SNAPSHOT.read_text())


def test_networks_forecast_after_what_needs_none(defs: dg.Definitions) -> None:
    nodes = defs.resolve_implicit_global_asset_job_def().graph.nodes
    later = {node.name for node in nodes if int(node.definition.tags.get("dagster/priority", 0)) < 0}
    assert later == set(WEIGHTS)


def test_every_asset_and_check_has_a_description(defs: dg.Definitions) -> None:
    for spec in defs.resolve_all_asset_specs():
        name = spec.key.to_user_string()
        assert spec.description, name
        assert spec.owners, name
        assert spec.kinds, name
        assert spec.code_version, name
    checked = [
        one for one in [*(defs.assets or []), *(defs.asset_checks or [])] if isinstance(one, dg.AssetsDefinition)
    ]
    checks = [check for one in checked for check in one.check_specs]
    assert len(checks) > 30
    assert all(check.description for check in checks)


def test_the_code_version_of_training_windows_is_that_of_their_format(defs: dg.Definitions) -> None:
    (spec,) = [one for one in defs.resolve_all_asset_specs() if one.key == dg.AssetKey("training_windows")]
    assert spec.code_version == str(WINDOWS_VERSION)


def test_a_run_loads_the_settings_that_the_resource_names(tmp_path: Path) -> None:
    settings = load_settings(ROOT / "candlecast.toml", "pretrained", tmp_path)

    @dg.asset
    def profile(candlecast: dg.ResourceParam[Candlecast]) -> str:
        return f"{candlecast.settings.profile} {candlecast.home.root} {candlecast.warehouse.path}"

    run = dg.materialize([profile], resources={RESOURCE: CandlecastResource.of(settings)})
    assert run.output_for_node("profile") == f"pretrained {tmp_path} {tmp_path / 'warehouse.duckdb'}"


def test_a_part_of_the_resource_can_be_exchanged(tmp_path: Path) -> None:
    settings = load_settings(ROOT / "candlecast.toml", "sample", tmp_path)
    warehouse = Warehouse(tmp_path / "other.duckdb")
    candlecast = Candlecast(settings, warehouse=warehouse)
    defs = build_defs(resource_overrides={RESOURCE: candlecast})
    assert defs.resources and defs.resources[RESOURCE] is candlecast
    assert candlecast.warehouse is warehouse and candlecast.checkpoints is candlecast.checkpoints


def test_every_job_resolves(defs: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(defs)
    for job in ("ingest", "train", "forecast", "backtest", "daily", "everything"):
        assert defs.resolve_job_def(job).name == job


@pytest.mark.parametrize("job", ["forecast", "daily"])
def test_jobs_that_do_not_train_check_that_the_champions_are_not_expired(defs: dg.Definitions, job: str) -> None:
    nodes = {node.name for node in defs.resolve_job_def(job).nodes}
    assert {"kronos_predictor_is_not_expired", "chronos2_model_is_not_expired"} <= nodes
    assert not {"kronos_predictor", "chronos2_model"} & nodes


@pytest.mark.parametrize("job", ["train", "forecast", "backtest"])
def test_jobs_that_do_not_ingest_check_the_bars_and_the_actions(defs: dg.Definitions, job: str) -> None:
    nodes = {node.name for node in defs.resolve_job_def(job).nodes}
    assert {f"{asset}_{check}" for asset, check in GATES} <= nodes
    assert not {"bars", "corporate_actions"} & nodes
