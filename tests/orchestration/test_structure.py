"""The structure of the repository: which layer imports which, and what loading the definitions imports."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from assets.market.actions import refresh_actions
from assets.market.ingest.ingest import ingest
from assets.market.ingest.lake import Lake
from assets.market.ingest.landing import land
from assets.market.ingest.pending import due, wanted_by
from orchestration.cli.instance import INSTANCE_FILE
from orchestration.materialisations import INDEX_FILE, OWN_EVENT_LOG
from resources.candlecast import Candlecast
from resources.layout import Home
from resources.profiles import SETTINGS_FILE, load_settings
from resources.schema import MIGRATIONS, SCHEMA_VERSION
from resources.session_dates import session_dates
from resources.warehouse import Warehouse
from tests.orchestration.cli_project import RUN_COMMAND

ROOT = Path(__file__).resolve().parents[2]
MAY_IMPORT = {
    "orchestration": {"orchestration", "assets", "resources"},
    "assets": {"assets", "resources", "kronos"},
    "resources": {"resources"},
    "kronos": {"kronos"},
}
# The order of the stages: data flow from the left to the right. A stage imports what stands left of it; the last five
# stand beside each other and do not import each other.
STAGES = {
    "market": {"market"},
    "forecasting": {"market", "forecasting"},
    "training": {"market", "forecasting", "training"},
    "forecasts": {"market", "forecasting", "forecasts"},
    "evaluation": {"market", "forecasting", "evaluation"},
    "backtests": {"market", "forecasting", "backtests"},
    "examples": {"market", "forecasting", "examples"},
}
# Not needed to know which assets there are; Dagster imports none of them.
HEAVY = {
    "arch", "chronos", "duckdb", "exchange_calendars", "matplotlib", "numba", "numpy", "pandas", "pyarrow", "qlib",
    "safetensors", "scipy", "torch", "transformers",
}  # fmt: skip
# What the definitions are built of, beside the packages themselves.
LOADED = {
    "assets.forecasting.chronos2.sources",
    "assets.metadata", "assets.sessions", "assets.forecasts.catalogue", "assets.forecasts.drift_asset",
    "assets.forecasts.embeddings_asset", "assets.training.model_selection.promotion",
}  # fmt: skip


def _imports(package: str) -> Iterator[tuple[Path, str]]:
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((file, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield file, node.module


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_run_one_way(package: str) -> None:
    ours = {(file, name.split(".")[0]) for file, name in _imports(package) if name.split(".")[0] in MAY_IMPORT}
    wrong = [f"{file.relative_to(ROOT)} imports {name}" for file, name in ours if name not in MAY_IMPORT[package]]
    assert not wrong


@pytest.mark.parametrize("stage", STAGES)
def test_stages_import_only_what_stands_before_them(stage: str) -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file, name in _imports(f"assets/{stage}")
        if name.startswith("assets.") and name.split(".")[1] in STAGES and name.split(".")[1] not in STAGES[stage]
    ]
    assert not wrong


def test_every_stage_has_its_place_in_the_order() -> None:
    assert {folder.parent.name for folder in (ROOT / "assets").glob("*/__init__.py")} == set(STAGES)


def test_every_migration_has_a_number_of_its_own() -> None:
    """Of two with the same number, one would never run."""
    numbers = [int(script.name[:4]) for script in (ROOT / "resources/migrations").glob("*.sql")]
    assert sorted(numbers) == list(range(2, SCHEMA_VERSION + 1)) and len(MIGRATIONS) == len(numbers)


def test_only_assets_and_checks_import_dagster() -> None:
    allowed = {
        "assets.py",
        "metadata.py",
        "sessions.py",
        "checks.py",
        "drift_asset.py",
        "embeddings_asset.py",
        "pipes_client.py",
        "comparison.py",
    }
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for package in ("assets", "resources", "kronos")
        for file, name in _imports(package)
        if name.split(".")[0] == "dagster" and file.name not in allowed
    ]
    assert not wrong


def test_few_modules_import_private_modules_of_dagster() -> None:
    private = {
        str(file.relative_to(ROOT))
        for package in MAY_IMPORT
        for file, name in _imports(package)
        if name.startswith("dagster._")
    }
    assert private == {"assets/metadata.py", "orchestration/event_log.py", "orchestration/webserver.py"}


def test_loading_the_definitions_imports_no_module_that_computes(tmp_path: Path) -> None:
    """The first process computes the calendar's sessions, and keeps their dates in the home folder for the others."""
    load = "import json, sys, orchestration.definitions; print(json.dumps(sorted(sys.modules)))"
    environment = {**os.environ, "CANDLECAST_HOME": str(tmp_path)}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", load], capture_output=True, text=True, cwd=ROOT, check=True, env=environment
        )
    modules = json.loads(done.stdout.splitlines()[-1])
    assert not HEAVY & set(modules)
    computing = {
        name
        for name in modules
        if name.startswith("assets.") and name.count(".") > 1 and name.split(".")[-1] not in ("assets", "checks")
    }
    packages = {name for name in computing if (ROOT / name.replace(".", "/")).is_dir()}
    assert computing - packages <= LOADED


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom orchestration.cli.app import app\n"
        "done = CliRunner().invoke(app, ['--help'])\nassert done.exit_code == 0, done.output\n"
        "print([m for m in ('dagster', 'pandas', 'duckdb', 'torch', 'pydantic') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


# What each command does not need for its own work. pandas imports pyarrow itself.
NUMERICAL = {"matplotlib", "numba", "qlib", "scipy", "torch", "transformers"}
NOT_IMPORTED = {
    ("settings",): {*NUMERICAL, "dagster", "duckdb", "pandas", "pyarrow"},
    ("query", "FROM bars"): {*NUMERICAL, "dagster", "pandas", "pyarrow"},
    ("lineage", "bars"): {*NUMERICAL, "dagster", "pandas", "pyarrow", "sqlalchemy"},
    ("doctor",): {*NUMERICAL, "dagster", "pandas", "pyarrow", "exchange_calendars"},
}


def _materialise_bars(home: Home) -> None:
    @dg.asset
    def bars() -> None: ...

    storage = {"event_log_storage": {**OWN_EVENT_LOG, "config": {"base_dir": str((home.dagster / INDEX_FILE).parent)}}}
    home.dagster.mkdir()
    with dg.DagsterInstance.local_temp(str(home.dagster), overrides=storage) as instance:
        dg.materialize([bars], instance=instance)
    (home.dagster / INSTANCE_FILE).write_text(json.dumps({"event_log_storage": OWN_EVENT_LOG}))


def _ingest_bars(home: Home) -> None:
    candlecast = Candlecast(load_settings(ROOT / SETTINGS_FILE, "sample", home.root))
    wanted = wanted_by(candlecast.settings, *due(candlecast.settings, candlecast.calendar))
    land(Lake(home), candlecast.warehouse, candlecast.source, wanted)
    ingest(Lake(home), candlecast.warehouse)
    refresh_actions(candlecast.warehouse)


@pytest.mark.parametrize("command", NOT_IMPORTED, ids=lambda command: str(command[0]))
def test_a_command_imports_nothing_before_it_is_used(command: tuple[str, ...], tmp_path: Path) -> None:
    home = Home(tmp_path)
    with Warehouse(home.warehouse).write():
        pass
    session_dates("XNYS", date(2013, 3, 1), home)  # as any run leaves them
    if command[0] == "lineage":
        _materialise_bars(home)
    if command[0] == "doctor":
        _ingest_bars(home)
    environment = {**os.environ, "CANDLECAST_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", RUN_COMMAND, *command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        env=environment,
    )
    status, modules, _ = json.loads(done.stdout.splitlines()[-1])
    assert status in (None, 0), done.stdout + done.stderr
    assert not NOT_IMPORTED[command] & set(modules)


def test_what_runs_the_pipeline_imports_no_library_of_models() -> None:
    code = "import json, sys, orchestration.cli.pipeline; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not NUMERICAL & set(json.loads(done.stdout.splitlines()[-1]))
