"""One snapshot of everything that is defined: a renamed asset or a moved schedule shows in review."""

import json
import os
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.build import build_defs
from resources.profiles import load_settings

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


def test_the_definitions_are_those_that_were_reviewed(defs):
    """`CANDLECAST_SNAPSHOT=1 pytest tests/orchestration/test_definitions.py` writes them anew."""
    found = _snapshot(defs)
    if os.environ.get("CANDLECAST_SNAPSHOT"):
        SNAPSHOT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    assert found == json.loads(SNAPSHOT.read_text())


def test_every_asset_says_what_it_is(defs):
    for spec in defs.resolve_all_asset_specs():
        name = spec.key.to_user_string()
        assert spec.description, name
        assert spec.owners, name
        assert spec.kinds, name
        assert spec.code_version, name


def test_every_job_can_be_built(defs):
    dg.Definitions.validate_loadable(defs)
    for job in ("ingest", "train", "forecast", "backtest", "daily", "everything"):
        assert defs.resolve_job_def(job).name == job


@pytest.mark.parametrize("job", ["forecast", "daily"])
def test_champions_that_grow_old_are_told_where_nobody_trains(defs, job: str):
    nodes = {node.name for node in defs.resolve_job_def(job).nodes}
    assert {"kronos_predictor_is_not_expired", "chronos2_model_is_not_expired"} <= nodes
    assert not {"kronos_predictor", "chronos2_model"} & nodes
