"""The forecasters of each forecast asset."""

from __future__ import annotations

from typing import Literal

from assets.forecasting.baselines import MODELS, baseline_forecasters
from assets.forecasting.chronos2_forecaster import MODEL as CHRONOS2
from assets.forecasting.chronos2_forecaster import chronos2_forecaster
from assets.forecasting.forecaster import ForecastModel
from assets.forecasting.kronos_forecaster import MODEL as KRONOS
from assets.forecasting.kronos_forecaster import kronos_forecaster
from resources.checkpoints import CheckpointStore
from resources.settings import Settings

Family = Literal["baseline_forecasts", "kronos_forecasts", "chronos2_forecasts"]


def forecasters_in(family: Family, settings: Settings, checkpoints: CheckpointStore) -> list[ForecastModel]:
    """The forecasters of one asset.

    Raises:
        CandlecastError: a checkpoint is missing.
    """
    if family == "kronos_forecasts":
        return [kronos_forecaster(settings, checkpoints)]
    if family == "chronos2_forecasts":
        return [chronos2_forecaster(settings, checkpoints)]
    return baseline_forecasters(settings)


def checkpoints_in_use(settings: Settings, checkpoints: CheckpointStore) -> dict[str, str]:
    """The `checkpoint` of each model's forecasts under these settings, without models that have no weights yet."""
    forecasters = baseline_forecasters(settings)
    if checkpoints.current("kronos_predictor"):
        forecasters.append(kronos_forecaster(settings, checkpoints))
    if checkpoints.current("chronos2_model"):
        forecasters.append(chronos2_forecaster(settings, checkpoints))
    return {forecaster.model: forecaster.checkpoint for forecaster in forecasters}


def models_by_asset(checkpoints: CheckpointStore) -> dict[str, Family]:
    """The asset of each model that can forecast, by model: the baselines, and the models that have weights."""
    models: dict[str, Family] = dict.fromkeys(MODELS, "baseline_forecasts")
    if checkpoints.current_digest("kronos_predictor"):
        models[KRONOS] = "kronos_forecasts"
    if checkpoints.current_digest("chronos2_model"):
        models[CHRONOS2] = "chronos2_forecasts"
    return models
