"""Everything stored in a home is opened: what is damaged is named and set aside, and the rest is left alone."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from assets.forecasting.kronos_forecaster import kronos_forecaster
from assets.forecasts.sample_paths import write_paths
from assets.market.ingest.ingest import ingest
from assets.market.ingest.lake import Lake
from assets.market.ingest.landing import land
from orchestration.cli.doctor import diagnose
from orchestration.cli.repair import record_lost_paths, set_damaged_aside
from orchestration.cli.stored_artifacts import damaged_artifacts
from resources.checkpoints import CheckpointStore
from resources.integrity import publish_kept_json
from resources.layout import Home
from resources.pointers import write_pointer
from resources.publish import publishing_folder
from resources.settings import Settings
from resources.sources.files import FilesSource
from resources.sources.protocol import Reading, Wanted
from resources.warehouse import Warehouse

DAYS = ("2012-01-03", "2012-01-04", "2012-01-05")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with one artifact of every kind."""
    home = Home(tmp_path / "home")
    bars = "\n".join(f"IBM,{day},10,11,9,10.5,1000" for day in DAYS)
    (tmp_path / "ibm.csv").write_text(f"symbol,date,open,high,low,close,volume\n{bars}\n")
    warehouse, lake = Warehouse(home.warehouse), Lake(home)
    source = FilesSource("*.csv", tmp_path, Reading("XNYS", "1d"))
    land(lake, warehouse, source, Wanted(None, date(2012, 1, 1), date(2012, 2, 1), "1d"))
    ingest(lake, warehouse)
    for root in (home.windows, home.qlib, home.backtests, home.reports):
        with publishing_folder(root / ("a" * 64), home.scratch / root.name) as folder:
            (folder / "content.bin").write_bytes(bytes(4096))
    store = CheckpointStore(home)
    made = store.publish("kronos_tokenizer", {"lr": 1}, lambda f: (f / "model.safetensors").write_bytes(bytes(99)), {})
    store.set_current(made.kind, made.digest)
    write_pointer(home.windows / "current.json", "a" * 64)
    write_paths(home.paths / "kronos" / "one" / "2012-01-04.parquet", ["IBM"], np.ones((1, 3, 2, 6), dtype=np.float32))
    publish_kept_json(home.drift / "one" / "b.json", {"2012-01-04": 0.25})
    for name in ("history/runs.db", "history/runs/index.db", "schedules/schedules.db"):
        file = home.dagster / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(file)) as records, records:
            records.execute("CREATE TABLE runs (id INTEGER PRIMARY KEY, body TEXT)")
            records.executemany("INSERT INTO runs (body) VALUES (?)", [["x" * 100]] * 400)
    (home.dagster / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return home


def flip(file: Path) -> None:
    """Change bytes in the second half, not the size."""
    content = bytearray(file.read_bytes())
    for position in range(len(content) // 2, len(content), 7):
        content[position] ^= 0xFF
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


# A glob below the home, how the file is damaged, and what is named if it is not the file itself.
DAMAGES: tuple[tuple[str, Callable[[Path], object], str], ...] = (
    ("lake/files/*.parquet", flip, ""),
    ("lake/files/*.parquet", cut, ""),
    ("lake/files/*.parquet", Path.unlink, "lake/files/*.parquet.sha256"),
    ("lake/files/*.*.json", cut, ""),
    ("lake/batches/00000001.json", cut, ""),
    ("windows/*/content.bin", flip, "windows/a*"),
    ("qlib/*/content.bin", Path.unlink, "qlib/*"),
    ("backtests/*/content.bin", cut, "backtests/*"),
    ("reports/*/content.bin", flip, "reports/*"),
    ("checkpoints/*/*/model.safetensors", cut, "checkpoints/*/????????????????*"),
    ("checkpoints/*/*/card.json", cut, "checkpoints/*/????????????????*"),
    ("checkpoints/*/recipes/*.json", cut, ""),
    ("checkpoints/*/current.json", cut, ""),
    ("windows/current.json", cut, ""),
    ("paths/*/*/*.parquet", flip, ""),
    ("paths/*/*/*.parquet", Path.unlink, "paths/*/*/*.sha256"),
    ("drift/*/b.json", cut, ""),
    ("warehouse.duckdb", flip, ""),
    ("warehouse.duckdb", cut, ""),
    ("dagster/history/runs.db", cut, ""),
    ("dagster/history/runs.db", lambda file: file.write_bytes(bytes(8192)), ""),
    ("dagster/history/runs/index.db", lambda file: file.write_bytes(b"garbage" * 1000), ""),
    ("dagster/schedules/schedules.db", flip, ""),
    ("dagster/dagster.yaml", lambda file: file.write_text("a: [b"), ""),
)


@pytest.mark.parametrize(("pattern", "damage", "named"), DAMAGES, ids=lambda value: getattr(value, "__name__", value))
def test_a_damaged_artifact_is_named_and_set_aside(
    home: Home, pattern: str, damage: Callable[[Path], object], named: str
) -> None:
    settings = Settings(home=home.root)
    assert list(damaged_artifacts(settings)) == []
    (file,) = home.root.glob(pattern)
    (expected,) = [path for path in home.root.glob(named or pattern) if path.is_file() or len(path.name) == 64]
    damage(file)
    (found,) = damaged_artifacts(settings)
    assert found.path == expected and str(expected) in found.text
    others = contents(home) - {expected, expected.with_name(f"{expected.name}.sha256"), *expected.rglob("*")}
    assert [one.path for one in set_damaged_aside(settings)] == [expected]
    assert (home.root / "damaged" / expected.relative_to(home.root)).exists() and not expected.exists()
    assert others <= contents(home)


def contents(home: Home) -> set[Path]:
    return {file for file in home.root.rglob("*") if file.is_file() and "damaged" not in file.parts}


def test_the_doctor_names_each_damaged_artifact_with_the_command(home: Home) -> None:
    damaged = [home.dagster / "history" / "runs.db", home.reports / ("a" * 64) / "content.bin"]
    for file in damaged:
        cut(file)
    lines = [one for one in diagnose(Settings(home=home.root)) if one.check.startswith("stored")]
    assert [(one.check, one.ok) for one in lines] == [("stored reports", False), ("stored dagster", False)]
    assert all("candlecast doctor --repair" in one.remedy for one in lines)
    assert str(damaged[0]) in lines[1].found and "history of runs is lost" in lines[1].found


def test_a_payload_and_a_checkpoint_that_are_gone_are_named(home: Home) -> None:
    for file in (home.lake / "files").glob("*.parquet*"):
        file.unlink()
    (pointer,) = home.checkpoints.glob("*/current.json")
    digest = json.loads(pointer.read_text())["digest"]
    (pointer.parent / digest).rename(home.root / "elsewhere")
    found = [one.text for one in damaged_artifacts(Settings(home=home.root))]
    assert len(found) == 2 and "00000001.json" in found[0] and digest in found[1]


def test_records_that_another_process_has_locked_are_not_taken_for_damaged(home: Home) -> None:
    with closing(sqlite3.connect(home.dagster / "history" / "runs.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        found = list(damaged_artifacts(Settings(home=home.root)))
    assert found == []


def test_a_warehouse_of_a_newer_version_is_not_taken_for_damaged(home: Home) -> None:
    with Warehouse(home.warehouse).write() as connection:
        connection.execute("UPDATE schema_version SET version = 999")
    assert list(damaged_artifacts(Settings(home=home.root))) == []


def test_sample_paths_that_no_run_makes_again_are_recorded_as_lost_and_the_others_stay_missing(home: Home) -> None:
    """An upgraded home keeps forecasts under checkpoints that its models no longer have."""
    store, settings = CheckpointStore(home), Settings(home=home.root)
    tokenizer = store.current("kronos_tokenizer")
    assert tokenizer is not None
    card = {"tokenizer": tokenizer.digest}
    made = store.publish("kronos_predictor", {"lr": 2}, lambda f: (f / "model.safetensors").write_bytes(bytes(9)), card)
    store.set_current(made.kind, made.digest)
    used = str(kronos_forecaster(settings, store).checkpoint)
    missing = [home.paths / model / name for model, name in (("kronos", used), ("kronos", "earlier"), ("retired", "x"))]
    with Warehouse(home.warehouse).write() as connection:
        for folder in missing:
            folder.mkdir(parents=True)
            connection.execute(
                "INSERT INTO forecasts VALUES (?, ?, 'IBM', '2012-01-04', now(), false, 0.0, null)",
                [folder.parent.name, folder.name],
            )
    flip(home.paths / "kronos" / "one" / "2012-01-04.parquet")
    remedies = {one.found: one.remedy for one in diagnose(settings) if one.check == "stored paths"}
    assert len(remedies) == 4 and sum("backup" in one for one in remedies.values()) == 3
    set_damaged_aside(settings)
    assert {one.path.parent for one in record_lost_paths(settings)} == set(missing[1:])
    assert [one.path.parent for one in damaged_artifacts(settings)] == missing[:1]
