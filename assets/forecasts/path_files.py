"""Sample paths in Parquet: one file a model, checkpoint and origin, written whole.

Symbols forecast later join the file. What belongs to a stored forecast stays as it is; what a killed run left without
one is replaced, so that quantiles are always those of the paths beside them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assets.market.history import FIELDS
from resources.layout import Home
from resources.publish import publish_bytes


def paths_file(home: Home, model: str, checkpoint: str, origin: np.datetime64) -> Path:
    """Where an origin's paths lie."""
    stamp = np.datetime_as_string(origin, unit="s").replace(":", "").removesuffix("T000000")
    return home.paths / model / checkpoint / f"{stamp}.parquet"


def write_paths(file: Path, symbols: list[str], paths: np.ndarray) -> None:
    """Put symbols' paths, (symbols, paths, steps, 6) float32, into a file; those of other symbols stay."""
    added = _table(symbols, paths)
    kept = pq.read_table(file) if file.is_file() else None
    if kept is not None:
        kept = kept.filter(pc.invert(pc.is_in(kept.column("symbol"), pa.array(symbols))))
    content = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables([kept, added]) if kept else added, content, compression="zstd")
    publish_bytes(file, content.getvalue().to_pybytes())


def read_paths(file: Path) -> dict[str, np.ndarray]:
    """Each symbol's paths: (paths, steps, 6) float32."""
    table = pq.read_table(file)
    names = table.column("symbol").to_numpy(zero_copy_only=False)
    steps, draws = table.column("step").to_numpy(), table.column("path").to_numpy()
    values = np.column_stack([table.column(field).to_numpy() for field in FIELDS])
    return {
        symbol: values[names == symbol].reshape(draws[names == symbol].max(), steps[names == symbol].max(), len(FIELDS))
        for symbol in dict.fromkeys(names)
    }


def _table(symbols: list[str], paths: np.ndarray) -> pa.Table:
    symbol, path, step = (axis.ravel() for axis in np.indices(paths.shape[:3], dtype=np.int32))
    columns = {"symbol": pa.array(np.asarray(symbols, dtype=object)[symbol]), "path": path + 1, "step": step + 1}
    return pa.table({**columns, **{name: paths[..., place].ravel() for place, name in enumerate(FIELDS)}})
