"""The cells of value at risk and expected shortfall, as an array: checkpoints × origins × symbols × steps.

Tables are read into such arrays, and compared with the stored ones there: a row costs a tenth of what it costs in a
frame. Not here: how a measure follows from quantiles (tails).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pandas as pd

from assets.forecasting.filters import UsedCheckpoints, checkpoint_pairs
from assets.forecasting.placed_rows import register_places

# Cells of a grid, times the levels and measures: 8 bytes each, several times.
CELLS_AT_ONCE = 3_000_000


@dataclass(frozen=True)
class LossGrid:
    """What the axes of the arrays stand for.

    Attributes:
        checkpoints: (model, checkpoint).
        origins: (origins,) datetime64[us], increasing.
        symbols: in increasing order.
    """

    checkpoints: Sequence[tuple[str, str]]
    origins: np.ndarray
    symbols: Sequence[str]
    steps: Sequence[int]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.checkpoints), len(self.origins), len(self.symbols), len(self.steps)

    @property
    def models(self) -> list[str]:
        return sorted({model for model, _ in self.checkpoints})

    @property
    def sizes(self) -> dict[str, object]:
        """The query parameters of the places."""
        return dict(zip(("origins", "symbols", "steps"), self.shape[1:], strict=True))

    def register(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Register the places on the axes: `placed_checkpoints`, `placed_origins`, `placed_symbols`, `placed_steps`."""
        pairs = pd.DataFrame(self.checkpoints, columns=["model", "checkpoint"], dtype=str)
        register_places(connection, "placed_checkpoints", pairs)
        register_places(connection, "placed_origins", pd.DataFrame({"origin": self.origins}))
        register_places(connection, "placed_symbols", pd.DataFrame({"symbol": list(self.symbols)}, dtype=str))
        register_places(connection, "placed_steps", pd.DataFrame({"step": list(self.steps)}, dtype="int64"))


@dataclass(frozen=True)
class LossMeasures:
    """Value at risk and expected shortfall in a grid.

    Attributes:
        grid: of the first four axes.
        measures: (measure, level) of the fifth.
        known: (checkpoints, origins, symbols, steps) whether a cell has a forecast.
        targets: as `known`, datetime64[us].
        values: (…, measures).
        methods: (…, measures) places in `tails.METHODS`.
        outcomes: (…, measures) int32.
    """

    grid: LossGrid
    measures: Sequence[tuple[str, float]]
    known: np.ndarray
    targets: np.ndarray
    values: np.ndarray
    methods: np.ndarray
    outcomes: np.ndarray


def loss_grids(used: UsedCheckpoints, cells: pd.DataFrame, steps: Sequence[int], layers: int) -> Iterator[LossGrid]:
    """Grids of some models each, which fit into memory; without any cells one without origins.

    Args:
        cells: columns origin, symbol: those with forecasts.
        layers: the number of levels, or of measures, of a cell.
    """
    origins = np.unique(cells["origin"].to_numpy().astype("datetime64[us]"))
    symbols = sorted(cells["symbol"].astype(str).unique())
    of_a_checkpoint = max(1, len(origins) * len(symbols) * len(steps) * layers)
    group: list[tuple[str, str]] = []
    for model in used:
        own = checkpoint_pairs({model: used[model]})
        if group and (len(group) + len(own)) * of_a_checkpoint > CELLS_AT_ONCE:
            yield LossGrid(group, origins, symbols, steps)
            group = []
        group = [*group, *own]
    if group:
        yield LossGrid(group, origins, symbols, steps)
