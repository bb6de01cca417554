"""The update of the table `forecast_risk`: losses of every model, and probabilities where there are sample paths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from assets.evaluation.risk.event_measures import write_events
from assets.evaluation.risk.loss_grid import loss_grids
from assets.evaluation.risk.loss_measures import loss_levels, loss_measures, risk_steps
from assets.evaluation.risk.path_events import wanted_events
from assets.evaluation.risk.store import forget_others, replace_losses, risk_content
from assets.forecasting.filters import ForecastFilter, UsedCheckpoints, checkpoints_frame
from resources.candlecast import Candlecast
from resources.progress import Progress, silent
from resources.warehouse import Warehouse

_CELLS = """
SELECT DISTINCT symbol, origin FROM forecasts SEMI JOIN checkpoints_in_use USING (model, checkpoint)
WHERE $symbols IS NULL OR list_contains($symbols, symbol)
"""


@dataclass(frozen=True)
class RiskUpdate:
    """The number of rows of the table, their digest, and the origins whose sample paths are gone or damaged."""

    rows: int
    digest: str
    without_paths: tuple[np.datetime64, ...]


def update_risk(candlecast: Candlecast, used: UsedCheckpoints, progress: Progress = silent) -> RiskUpdate:
    """Compute the measures of the forecasts since the start of the test range, and write those that changed."""
    settings, warehouse = candlecast.settings, candlecast.warehouse
    chosen, events = ForecastFilter.of(settings, warehouse), wanted_events(settings.risk)
    learnt = ForecastFilter.of(settings, warehouse, warm_up=True)
    forget_others(warehouse, used, events, settings.windows.predict_window, chosen.first)
    cells, steps = _cells(warehouse, used, learnt), risk_steps(settings)
    done, layers = 0, max(len(loss_levels(settings)), 2 * len(settings.risk.levels))
    for grid in loss_grids(used, cells, steps, layers):
        with warehouse.write() as connection:
            grid.register(connection)
            replace_losses(connection, loss_measures(connection, settings, grid, learnt))
        done += len(grid.models)
        progress(done, len(used), grid.models[-1])
    without = write_events(candlecast, used, events, chosen, progress) if events else set()
    return RiskUpdate(*risk_content(warehouse), tuple(sorted(without)))


def _cells(warehouse: Warehouse, used: UsedCheckpoints, chosen: ForecastFilter) -> pd.DataFrame:
    """The symbols and origins of the forecasts in use."""
    with warehouse.read() as connection:
        connection.register("checkpoints_in_use", checkpoints_frame(used))
        return connection.execute(_CELLS, {"symbols": chosen.parameters["symbols"]}).df()
