"""Value at risk and expected shortfall of the stored forecasts of each model, as rows of `forecast_risk`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from assets.evaluation.risk.store import COLUMNS, ES, VAR
from assets.evaluation.risk.tails import OUTCOMES, LossForecasts, TailRisk, needed_levels, tail_risks
from assets.forecasting.filters import ORIGIN_FILTER, ForecastFilter
from assets.forecasting.metrics import as_levels
from resources.settings import Settings
from resources.sql import load_sql
from resources.warehouse import Warehouse


def risk_steps(settings: Settings) -> list[int]:
    """The steps of `risk.steps` within the horizon."""
    return [step for step in settings.risk.steps if step <= settings.windows.predict_window]


def model_losses(
    warehouse: Warehouse, settings: Settings, model: str, checkpoints: Sequence[str], learnt: ForecastFilter
) -> pd.DataFrame:
    """Value at risk and expected shortfall of a model's forecasts since the start of the test range.

    Args:
        learnt: the forecasts from whose outcomes the tail is learnt, where they are out of sample.
    """
    levels = as_levels(needed_levels(settings.forecasts.levels, settings.risk.levels))
    parameters = {
        **learnt.parameters,
        "frequency": settings.market.frequency,
        "model": model,
        "checkpoints": list(checkpoints),
        "steps": risk_steps(settings),
        "levels": levels.tolist(),
    }
    sql = load_sql("assets.evaluation.risk", "loss_quantiles.sql").format(origin_filter=ORIGIN_FILTER)
    cells = warehouse.frame(sql, parameters)
    rows = [_step_losses(own, levels, settings) for _, own in cells.groupby("step")]
    if not rows:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(rows, ignore_index=True).assign(model=model)


def _step_losses(cells: pd.DataFrame, levels: np.ndarray, settings: Settings) -> pd.DataFrame:
    """The rows of one step."""
    quantiles = np.array(cells["quantiles"].tolist())
    counts = ~cells["in_sample"].astype(bool) & cells["planned"].astype(bool)
    with np.errstate(invalid="ignore"):
        actual = -np.log(cells["growth"].to_numpy(dtype=np.float64))
    forecasts = LossForecasts(
        origins=cells["origin"].to_numpy(),
        targets=cells["target_ts"].to_numpy(),
        levels=levels,
        losses=-np.log(quantiles / cells["last_close"].to_numpy()[:, None]),
        actual=np.where(counts, actual, np.nan),
    )
    keys = cells[["checkpoint", "symbol", "origin", "step", "target_ts"]]
    shown = (cells["origin"] >= pd.Timestamp(settings.windows.test[0])).to_numpy()
    found = [rows[shown] for risk in tail_risks(forecasts, settings.risk.levels) for rows in _rows(keys, risk)]
    return pd.concat(found, ignore_index=True)


def _rows(keys: pd.DataFrame, risk: TailRisk) -> Iterator[pd.DataFrame]:
    keys = keys.assign(level=risk.level)
    outcomes = risk.outcomes.astype(np.int32)
    of_var = np.where(risk.var_method == OUTCOMES, outcomes, 0)
    yield keys.assign(measure=VAR, value=risk.var, method=risk.var_method, outcomes=of_var)
    yield keys.assign(measure=ES, value=risk.es, method=risk.es_method, outcomes=outcomes)
