"""Everything stored in a home, opened and verified: what is damaged or gone, and what it is made again from.

Belongs here: one function per kind of artifact. Nothing here writes. Not here: setting aside and making again
(orchestration.cli.repair), how digests are recorded (resources.integrity), and Dagster's own files
(orchestration.cli.dagster_records).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import duckdb
import numpy as np

from assets.forecasting.path_files import lost_marker, paths_file
from assets.market.ingest.lake import Lake
from assets.market.ingest.payloads import read_batch
from assets.training.model_selection.promotion import PromotionLedger
from orchestration.cli.dagster_records import Damage, dagster_records
from resources.checkpoints import BUILT, CARD, CURRENT, CheckpointStore, Kind
from resources.errors import CandlecastError
from resources.integrity import is_intact, is_sealed, seal_of
from resources.layout import Home
from resources.pointers import read_pointer
from resources.publish import SEAL
from resources.settings import Settings
from resources.settings_models import BUILT_IN_MODELS
from resources.warehouse import Warehouse

if TYPE_CHECKING:
    from assets.forecasting.filters import UsedCheckpoints

CHANGED, GONE = "does not match its recorded digest", "is gone"
_EVERY_TABLE = "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_catalog()"
_FORECAST_ORIGINS = """
SELECT DISTINCT model, checkpoint, origin FROM forecasts
WHERE list_contains($folders, model || '/' || checkpoint)
"""


def damaged_artifacts(settings: Settings, records: Callable[[], Iterable[Damage]] | None = None) -> Iterator[Damage]:
    """Everything in the home that is damaged or gone. Digests are computed: a second per gigabyte.

    Args:
        records: returns what is damaged of Dagster's records; None: they are read here.
    """
    home = Home(settings.home)
    checks: tuple[Callable[[], Iterable[Damage]], ...] = (
        lambda: _folders(home), lambda: _files(home), lambda: _batches(home), lambda: _checkpoints(home),
        lambda: _pointers(home), lambda: _warehouse(settings), lambda: _sample_paths(settings),
        records or (lambda: dagster_records(home)),
    )  # fmt: skip
    used = cache(lambda: _used_checkpoints(settings))
    for check in checks:
        for damage in check():
            yield replace(damage, repeatable=_is_repeatable(damage.path, settings, used))


def _folders(home: Home) -> Iterator[Damage]:
    """Folders that are named by a digest and have one of their files."""
    for root in (home.windows, home.qlib, home.backtests, home.reports):
        for folder in sorted(entry for entry in root.glob("*") if entry.is_dir()):
            if not is_intact(folder):
                yield Damage(folder, CHANGED)


def _files(home: Home) -> Iterator[Damage]:
    """Payloads, sample paths, embeddings, and JSON that can be computed again."""
    for root in (home.lake, home.paths, home.embeddings, home.drift, home.estimates, home.checkpoints):
        for seal in sorted(root.rglob(f"*{SEAL}")):
            if seal.name == SEAL:
                continue
            file = seal.with_name(seal.name.removesuffix(SEAL))
            if not file.exists():
                yield Damage(seal, f"has no file {file.name} beside it: that {GONE}")
    files = [file for root in (home.lake, home.paths, home.embeddings) for file in root.rglob("*.parquet")]
    derived = [*home.drift.rglob("*.json"), *home.lake.glob("*/*.json"), *home.lake.glob("*.json")]
    derived += home.estimates.glob("*.json")
    derived += [*home.checkpoints.glob("*/recipes/*.json"), *home.checkpoints.glob("*/comparisons/*.json")]
    for file in sorted([*files, *derived, *([home.owner] if home.owner.is_file() else [])]):
        if file.parent == home.lake / "batches":
            continue
        if not is_intact(file):
            yield Damage(file, CHANGED)
        elif not is_sealed(file) and (reason := _why_unreadable(file)):
            yield Damage(file, reason)


def _batches(home: Home) -> Iterator[Damage]:
    """The lake's batches, and the payloads that they name."""
    for file in sorted((home.lake / "batches").glob("*.json")):
        try:
            batch = read_batch(file)
        except CandlecastError as error:
            yield Damage(file, f"cannot be read ({error.__cause__})", "versions of bars that only it holds are lost")
            continue
        for payload in batch.payloads:
            stored = Lake(home).file(payload)
            if not stored.exists() and not seal_of(stored).exists():
                yield Damage(stored, f"{GONE}, and {file.name} names it")


def _checkpoints(home: Home) -> Iterator[Damage]:
    store = CheckpointStore(home)
    for kind in get_args(Kind):
        for folder in sorted(entry for entry in (home.checkpoints / kind).glob("?" * 64) if entry.is_dir()):
            lost = "weights of settings other than the present ones are lost"
            if not store.is_intact(kind, folder.name):
                yield Damage(folder, CHANGED, lost)
            elif reason := _why_unreadable(folder / CARD):
                yield Damage(folder, f"has a card that {reason}", lost)
        try:
            PromotionLedger(home, kind).decisions()
        except CandlecastError as error:
            yield Damage(
                PromotionLedger(home, kind).file,
                f"cannot be read ({error.__cause__})",
                "earlier champions can no longer be rolled back to",
            )


def _pointers(home: Home) -> Iterator[Damage]:
    named = (home.qlib / "current.json", home.backtests / "current.json", home.reports / "latest.json")
    files = {file: file.parent for file in named}
    files |= dict.fromkeys([home.windows / "current.json", *sorted(home.windows.glob("vintage-*.json"))], home.windows)
    for kind, name in product(get_args(Kind), (CURRENT, BUILT)):
        root = home.checkpoints / kind
        files |= dict.fromkeys([root / name, *sorted(root.glob(f"vintages/*/{name}"))], root)
    for file, folders in files.items():
        try:
            digest = read_pointer(file)
        except CandlecastError:
            yield Damage(file, "names no digest")
            continue
        if digest is not None and not (folders / digest).is_dir():
            yield Damage(folders / digest, f"{GONE}, and {file.name} names it")


def _warehouse(settings: Settings) -> Iterator[Damage]:
    """The warehouse's file: every block of every table is read, whose checksums DuckDB verifies."""
    warehouse = Warehouse.of(settings, wait=5)
    if warehouse.uri is not None or not warehouse.exists or not warehouse.path.stat().st_size:
        return
    if not os.access(warehouse.path, os.R_OK):
        return
    try:
        with warehouse.read() as connection:
            for schema, table in connection.execute(_EVERY_TABLE).fetchall():
                connection.execute(f'SELECT count(*), bit_xor(hash(t)) FROM "{schema}"."{table}" AS t').fetchall()
    except (CandlecastError, duckdb.OutOfMemoryException):
        return  # locked, or of a newer version
    except duckdb.Error as error:
        lost = "its tables are made again from the lake; when each forecast was made is lost"
        yield Damage(warehouse.path, f"cannot be read ({str(error).splitlines()[0]})", lost)


def _sample_paths(settings: Settings) -> Iterator[Damage]:
    """Sample paths of stored forecasts whose file is gone."""
    home, warehouse = Home(settings.home), Warehouse.of(settings, wait=5)
    if not home.paths.is_dir() or not warehouse.exists:
        return
    stored: list[tuple[str, str, datetime]] = []
    folders = [folder.relative_to(home.paths).as_posix() for folder in home.paths.glob("*/*")]
    with suppress(duckdb.Error, CandlecastError), warehouse.read() as connection:
        stored = connection.execute(_FORECAST_ORIGINS, {"folders": folders}).fetchall()
    for model, checkpoint, origin in stored:
        file = paths_file(home, model, checkpoint, np.datetime64(origin))
        if file.parent.is_dir() and not any(one.exists() for one in (file, seal_of(file), lost_marker(file))):
            yield Damage(file, f"{GONE}, and its forecasts are stored")


def _is_repeatable(path: Path, settings: Settings, used: Callable[[], UsedCheckpoints | None]) -> bool:
    """False for sample paths of forecasts that the models of these settings do not make."""
    from assets.forecasting.filters import checkpoint_pairs

    root = Home(settings.home).paths
    if not path.is_relative_to(root) or (known := used()) is None:
        return True
    model, checkpoint = path.relative_to(root).parts[:2]
    if model not in known:  # not in the settings, or without weights yet
        return model in (*BUILT_IN_MODELS, *settings.enabled_models)
    return (model, checkpoint) in checkpoint_pairs(known)


def _used_checkpoints(settings: Settings) -> UsedCheckpoints | None:
    """The checkpoints of the forecasts that these settings make; None: a model cannot be used."""
    from assets.forecasting.registry import checkpoints_in_use

    try:
        return checkpoints_in_use(settings, CheckpointStore(Home(settings.home)))
    except CandlecastError:
        return None


def _why_unreadable(file: Path) -> str:
    """Why a JSON or Parquet file cannot be read; empty: it can."""
    try:
        if file.suffix == ".parquet":
            import pyarrow.parquet

            pyarrow.parquet.read_metadata(file)
        else:
            _require_content(json.loads(file.read_bytes()))
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors or OSErrors
        return f"cannot be read ({error})"
    return ""


def _require_content(content: Any) -> None:
    if not isinstance(content, dict | list):
        raise ValueError("no JSON object")
