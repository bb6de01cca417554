"""Where sample paths are stored: one Parquet file per model, checkpoint and origin.

Not here: how they are written (assets.forecasts.sample_paths).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from resources.layout import Home


def paths_file(home: Home, model: str, checkpoint: str, origin: np.datetime64) -> Path:
    """The file of an origin's paths."""
    return home.paths / model / checkpoint / origin_file(origin)


def lost_marker(file: Path) -> Path:
    """What stands for a file of paths that is gone, and that nothing can make again."""
    return file.with_name(f"{file.name}.lost")


def origin_file(origin: np.datetime64) -> str:
    """The name of a file that belongs to an origin."""
    stamp = np.datetime_as_string(origin, unit="s").replace(":", "").removesuffix("T000000")
    return f"{stamp}.parquet"
