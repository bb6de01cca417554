"""Sample paths in Parquet: one file per model, checkpoint and origin, written atomically.

Symbols that are forecast later are added to the file. Paths of stored forecasts never change; paths that a killed run
left without a stored forecast are replaced, so that stored quantiles are always those of the paths beside them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assets.forecasting.path_files import paths_file
from assets.market.history import FIELDS
from resources.integrity import keep_if_intact, seal_file, seal_of
from resources.layout import Home
from resources.publish import publish_bytes


def write_paths(file: Path, symbols: list[str], paths: np.ndarray) -> None:
    """Write the paths of some symbols, (symbols, paths, steps, 6) float32, and keep those of other symbols."""
    replace_symbols(file, symbols, _table(symbols, paths))


def replace_symbols(file: Path, symbols: list[str], added: pa.Table) -> None:
    """Write the rows of some symbols, atomically and with a digest, and keep those of other symbols."""
    kept = pq.read_table(file) if file.is_file() else None
    if kept is not None:
        kept = kept.filter(pc.invert(pc.is_in(kept.column("symbol"), pa.array(symbols))))
    content = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables([kept, added]) if kept else added, content, compression="zstd")
    # A killed process leaves a file without a recorded digest, never one that does not match it.
    seal_of(file).unlink(missing_ok=True)
    publish_bytes(file, content.getvalue().to_pybytes())
    seal_file(file)


def origins_without_paths(
    home: Home, model: str, checkpoint: str, origins: Iterable[np.datetime64]
) -> set[np.datetime64]:
    """Those origins of a model that keeps paths whose file is gone or damaged; a damaged one is set aside."""
    if not (home.paths / model / checkpoint).is_dir():
        return set()
    return {origin for origin in origins if not keep_if_intact(paths_file(home, model, checkpoint, origin), home.root)}


def _table(symbols: list[str], paths: np.ndarray) -> pa.Table:
    symbol, path, step = (axis.ravel() for axis in np.indices(paths.shape[:3], dtype=np.int32))
    columns = {"symbol": pa.array(np.asarray(symbols, dtype=object)[symbol]), "path": path + 1, "step": step + 1}
    return pa.table({**columns, **{name: paths[..., place].ravel() for place, name in enumerate(FIELDS)}})
