"""The update of the table `forecast_risk`: losses of every model, and probabilities where there are sample paths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assets.evaluation.risk.event_measures import write_events
from assets.evaluation.risk.loss_measures import model_losses
from assets.evaluation.risk.path_events import wanted_events
from assets.evaluation.risk.store import forget_others, risk_content, write_losses
from assets.forecasting.filters import ForecastFilter, UsedCheckpoints
from resources.candlecast import Candlecast
from resources.progress import Progress, silent


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
    for done, (model, named) in enumerate(used.items()):
        checkpoints = [named] if isinstance(named, str) else list(named)
        write_losses(warehouse, model, model_losses(warehouse, settings, model, checkpoints, learnt))
        progress(done + 1, len(used), model)
    without = write_events(candlecast, used, events, chosen, progress) if events else set()
    return RiskUpdate(*risk_content(warehouse), tuple(sorted(without)))
