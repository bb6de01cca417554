"""A wheel contains every file that the packages read."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from resources.profiles import load_settings

ROOT = Path(__file__).resolve().parents[2]
WITHIN = """
import json, sys
from pathlib import Path
from orchestration.cli.instance import copy_instance_file
from resources.profiles import load_settings
copy_instance_file(Path(), Path(sys.argv[1]))
settings = load_settings(sys.argv[2], "mine")
print(json.dumps({"from": str(Path(sys.modules["resources.settings"].__file__)), "predictor": settings.predictor.base}))
"""


@pytest.mark.slow
def test_a_wheel_has_the_sample_profile_and_the_pools_limits(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77", reason="builds without asking an index")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes((ROOT / name).read_bytes())
    wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    subprocess.run([*wheel, str(tmp_path / "source")], check=True)
    (built,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(built).extractall(tmp_path / "installed")
    (tmp_path / "mine.toml").write_text("[profiles.mine.forecasts]\nevery = 3\n")
    done = subprocess.run(
        [sys.executable, "-c", WITHIN, str(tmp_path), str(tmp_path / "mine.toml")],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(done.stdout)
    assert Path(result["from"]).is_relative_to(tmp_path / "installed")
    assert result["predictor"] == load_settings(ROOT / "candlecast.toml", "sample").predictor.base
    assert "default_limit: 1" in (tmp_path / "dagster.yaml").read_text()
