"""The resource of the code location in a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.forecasts.forecast_home import create_home, publish_tiny_kronos

SETTINGS = """
[profiles.sample.market]
source = "sample"
start = 2000-03-01
end = 2013-03-01

[profiles.sample.compute]
device = "cpu"
workers = 2
"""
RUN = """
import sys
import dagster as dg
from orchestration.resources import RESOURCE, CandlecastResource
from resources.companion import COMPANION

@dg.op(required_resource_keys={RESOURCE})
def uses():
    print("companion" if COMPANION.worker else "none")

job, file, home = sys.argv[1:]
resource = CandlecastResource(settings_file=file, profile="sample", home=home)
graph = dg.GraphDefinition(name=job, node_defs=[uses])
assert graph.to_job(resource_defs={RESOURCE: resource}).execute_in_process().success
"""


@pytest.mark.parametrize(("job", "found"), [("daily", "companion"), ("ingest", "none")])
def test_the_daily_job_starts_the_companion_with_its_run(tmp_path: Path, job: str, found: str) -> None:
    home = create_home(tmp_path)
    publish_tiny_kronos(home.checkpoints)
    file = tmp_path / "candlecast.toml"
    file.write_text(SETTINGS)
    arguments = [job, str(file), str(home.settings.home)]
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [found]
