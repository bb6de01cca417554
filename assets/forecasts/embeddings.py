"""Embeddings in Parquet: one file per model, checkpoint and origin, written atomically.

Symbols that are embedded later are added to the file; stored vectors never change. Not here: how a vector is computed
(assets.forecasting.embedders).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assets.acceptance import CheckOutcome
from assets.forecasting.embedders import BATCH_SIZE, Embedder, embed_tasks
from assets.forecasting.forecaster import ForecastTask
from assets.forecasting.path_files import origin_file
from assets.forecasts.batches import batches_by_origin, rows_by_origin
from assets.forecasts.lookahead_check import with_changed_future
from assets.forecasts.sample_paths import replace_symbols
from resources.errors import CandlecastError
from resources.integrity import digest_of_file, keep_if_intact
from resources.layout import Home
from resources.progress import Progress, silent

EXAMPLES = 3


@dataclass(frozen=True)
class EmbeddingResult:
    """The embeddings of one model: their files by origin, rows per file, and the tasks that were created."""

    embedder: Embedder
    files: Mapping[np.datetime64, Path]
    rows: Mapping[np.datetime64, int]
    dimensions: int
    created: Sequence[ForecastTask]

    def digests(self) -> dict[np.datetime64, str]:
        """SHA-256 of each file, by origin."""
        return {origin: digest_of_file(file) for origin, file in self.files.items()}


def embeddings_file(home: Home, source: Embedder, origin: np.datetime64) -> Path:
    """The file of an origin's embeddings."""
    return home.embeddings / source.model / source.checkpoint / origin_file(origin)


def create_embeddings(
    home: Home, source: Embedder, tasks: Sequence[ForecastTask], progress: Progress = silent
) -> EmbeddingResult:
    """Compute and store the embeddings that are missing, in batches.

    Args:
        tasks: ordered by origin.

    Raises:
        CandlecastError: a vector is not finite; earlier batches stay stored.
    """
    files = {origin: embeddings_file(home, source, origin) for origin in dict.fromkeys(task.origin for task in tasks)}
    known = {origin: _stored_symbols(file, home.root) for origin, file in files.items()}
    missing = [task for task in tasks if task.symbol not in known[task.origin]]
    done = len(tasks) - len(missing)
    progress(done, len(tasks), source.model)
    for batch in batches_by_origin(missing, BATCH_SIZE) if missing else ():
        vectors = embed_tasks(source, batch)
        _require_finite(source.model, batch, vectors)
        for origin, rows in rows_by_origin(batch).items():
            symbols = [batch[row].symbol for row in rows]
            replace_symbols(files[origin], symbols, _table(source, origin, symbols, vectors[rows]))
        done += len(batch)
        progress(done, len(tasks), source.model)
    counts = {origin: pq.read_metadata(file).num_rows for origin, file in files.items()}
    newest = pq.read_table(files[max(files)], columns=["embedding"]).column(0)
    return EmbeddingResult(source, files, counts, len(newest[0]), missing)


def check_future(result: EmbeddingResult) -> CheckOutcome:
    """Whether some embeddings of this run stay the same once every bar after their origin is changed."""
    tasks = result.created[:: max(1, len(result.created) // EXAMPLES)][:EXAMPLES]
    changed = changed_by_future_bars(result.embedder, tasks)
    if changed:
        first = changed[0]
        return CheckOutcome(False, f"{result.embedder.model}: {first.symbol} from {first.origin} reads later bars")
    return CheckOutcome(True, f"{result.embedder.model}: {len(tasks)} of {len(result.created)} created embeddings")


def changed_by_future_bars(source: Embedder, tasks: Sequence[ForecastTask]) -> list[ForecastTask]:
    """The tasks whose embedding differs in any bit once the bars after their origin are changed."""
    if not tasks:
        return []
    other = [
        replace(task, history=with_changed_future(task.history, task.index, seed)) for seed, task in enumerate(tasks)
    ]
    before, after = embed_tasks(source, tasks), embed_tasks(source, other)
    return [task for row, task in enumerate(tasks) if before[row].tobytes() != after[row].tobytes()]


def _stored_symbols(file: Path, root: Path) -> set[str]:
    """The symbols of a file; none if there is no file, or if it was damaged and set aside."""
    if not keep_if_intact(file, root):
        return set()
    return set(pq.read_table(file, columns=["symbol"]).column(0).to_pylist())


def _require_finite(model: str, tasks: Sequence[ForecastTask], vectors: np.ndarray) -> None:
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        first = tasks[broken[0]]
        raise CandlecastError(
            f"the embedding by {model} of {first.symbol} from {first.origin} is not finite ({len(broken)} of "
            f"{len(tasks)} of the batch, none of which was written). Check the bars of the symbol up to that origin"
        )


def _table(source: Embedder, origin: np.datetime64, symbols: Sequence[str], vectors: np.ndarray) -> pa.Table:
    count = len(symbols)
    columns = {
        "model": pa.array([source.model] * count),
        "checkpoint": pa.array([source.checkpoint] * count),
        "symbol": pa.array(symbols),
        "origin": pa.array([origin.astype("datetime64[us]")] * count, pa.timestamp("us")),
        "in_sample": pa.array([source.in_sample(origin)] * count),
        "embedding": pa.array(list(vectors), pa.list_(pa.float32())),
    }
    return pa.table(columns)
