"""The table `risk_backtest`: read what it needs, compute its rows, write them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from assets.evaluation.origin_times import OriginTimes
from assets.evaluation.risk.backtest import COLUMNS, Row, event_rows, loss_rows
from assets.evaluation.risk.block_bootstrap import BlockBootstrap
from assets.evaluation.risk.event_outcomes import with_outcomes
from assets.evaluation.risk.loss_measures import risk_steps
from assets.evaluation.risk.loss_outcomes import read_loss_outcomes
from assets.evaluation.risk.path_events import wanted_events
from assets.evaluation.scoreboard import read_scoreboard
from assets.forecasting.filters import FORECAST_FILTER, ForecastFilter
from assets.forecasting.verdict import REFERENCE_MODEL, best_model
from assets.market.history import own_histories
from resources.candlecast import Candlecast
from resources.sql import load_sql
from resources.warehouse import Warehouse

KEY = ("model", "step", "measure", "level")


@dataclass(frozen=True)
class RiskBacktest:
    """The rows of the table, and the forecasts of events with their outcomes (event_outcomes)."""

    rows: pd.DataFrame
    events: pd.DataFrame


def build_backtest(candlecast: Candlecast) -> RiskBacktest:
    """The backtest of the measures in `forecast_risk`, of the forecasts that the settings ask for."""
    settings, warehouse = candlecast.settings, candlecast.warehouse
    chosen = ForecastFilter.of(settings, warehouse)
    losses = read_loss_outcomes(warehouse, chosen, risk_steps(settings), settings.risk.levels)
    events = _event_outcomes(candlecast, chosen)
    with_losses = [one.origins[one.known.any(axis=(0, 1))] for one in losses.values()]
    known = np.unique(np.concatenate([*with_losses, events["origin"].to_numpy().astype("datetime64[us]")]))
    if not len(known):
        return RiskBacktest(pd.DataFrame(columns=list(COLUMNS)), events)
    times = OriginTimes.of(known, settings, candlecast.calendar)
    bootstrap = BlockBootstrap(known, times, settings.evaluation, settings.seed)
    rows: list[Row] = [row for key, own in losses.items() for row in loss_rows(own, *key, bootstrap)]
    rows += event_rows(events, bootstrap)
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(list(KEY), ignore_index=True)
    return RiskBacktest(frame, events)


def write_backtest(warehouse: Warehouse, rows: pd.DataFrame) -> None:
    """Replace the table in one transaction."""
    with warehouse.write() as connection:
        connection.execute("DELETE FROM risk_backtest")
        if len(rows):
            connection.register("new_rows", rows)
            connection.execute(f"INSERT INTO risk_backtest BY NAME SELECT {', '.join(COLUMNS)} FROM new_rows")


def read_backtest(warehouse: Warehouse) -> pd.DataFrame:
    """The table as last written, ordered by model, step, measure and level."""
    return warehouse.frame(f"SELECT {', '.join(COLUMNS)} FROM risk_backtest ORDER BY {', '.join(KEY)}")


def default_model(warehouse: Warehouse) -> str:
    """The best model of the scoreboard (verdict.best_model); the reference model if there is none."""
    return best_model(read_scoreboard(warehouse)) or REFERENCE_MODEL


def _event_outcomes(candlecast: Candlecast, chosen: ForecastFilter) -> pd.DataFrame:
    settings = candlecast.settings
    sql = load_sql("assets.evaluation.risk", "event_forecasts.sql").format(forecast_filter=FORECAST_FILTER)
    forecasts = candlecast.warehouse.frame(sql, chosen.parameters)
    if forecasts.empty:
        return forecasts.assign(event=np.zeros(0), base_rate=np.zeros(0))
    histories = own_histories(settings, candlecast.warehouse)
    return with_outcomes(forecasts, histories, settings.windows.predict_window, wanted_events(settings.risk))
