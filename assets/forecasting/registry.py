"""The models of each forecast asset: the built-in ones, and the plug-ins that the settings name."""

from __future__ import annotations

from assets.forecasting.baselines import baseline_forecasters
from assets.forecasting.chronos2_forecaster import MODEL as CHRONOS2
from assets.forecasting.chronos2_forecaster import chronos2_forecaster
from assets.forecasting.forecaster import ForecastModel
from assets.forecasting.kronos_forecaster import MODEL as KRONOS
from assets.forecasting.kronos_forecaster import kronos_forecaster
from assets.forecasting.plugin_models import plugin_model
from resources.checkpoints import CheckpointStore, Kind
from resources.errors import CandlecastError
from resources.licences import refusal
from resources.settings import Settings
from resources.settings_models import BUILT_IN_ASSETS, BUILT_IN_MODELS, forecast_asset

# The weights without which a built-in model cannot forecast.
WEIGHTS: dict[str, Kind] = {KRONOS: "kronos_predictor", CHRONOS2: "chronos2_model"}
# The sections of the settings that state the licence of a built-in model.
LICENCE_SECTIONS = {KRONOS: "predictor", CHRONOS2: "chronos2"}


def forecasters_in(asset: str, settings: Settings, checkpoints: CheckpointStore) -> list[ForecastModel]:
    """The models of one asset.

    Raises:
        CandlecastError: a checkpoint is missing, a plug-in cannot be used, or `compute.licences` refuses a model.
    """
    models = _models_of(asset, settings, checkpoints)
    for one in models:
        key = f"{LICENCE_SECTIONS.get(one.model, f'models.{one.model}')}.licence"
        if reason := refusal(one.licence, settings.compute.licences, key):
            raise CandlecastError(reason)
    return models


def _models_of(asset: str, settings: Settings, checkpoints: CheckpointStore) -> list[ForecastModel]:
    if asset == forecast_asset(KRONOS):
        return [kronos_forecaster(settings, checkpoints)]
    if asset == forecast_asset(CHRONOS2):
        return [chronos2_forecaster(settings, checkpoints)]
    if asset in BUILT_IN_ASSETS:
        return baseline_forecasters(settings)
    for name in settings.enabled_models:
        if forecast_asset(name) == asset:
            return [plugin_model(settings, name)]
    raise CandlecastError(f"{asset}: the settings enable no such model: reload the definitions, or enable it")


def plugin_problems(settings: Settings, checkpoints: CheckpointStore) -> dict[str, str]:
    """Why models of the settings cannot be used, by name."""
    problems = {}
    for name in settings.enabled_models:
        try:
            forecasters_in(forecast_asset(name), settings, checkpoints)
        except CandlecastError as error:
            problems[name] = str(error)
    return problems


def models_in_use(settings: Settings, checkpoints: CheckpointStore) -> list[ForecastModel]:
    """All models under these settings, without those that have no weights yet.

    Raises:
        CandlecastError: a plug-in cannot be used.
    """
    assets = dict.fromkeys(models_by_asset(settings, checkpoints).values())
    return [model for asset in assets for model in forecasters_in(asset, settings, checkpoints)]


def checkpoints_in_use(settings: Settings, checkpoints: CheckpointStore) -> dict[str, str]:
    """The `checkpoint` of each model's forecasts under these settings, without models that have no weights yet."""
    return {one.model: one.checkpoint for one in models_in_use(settings, checkpoints)}


def models_by_asset(settings: Settings, checkpoints: CheckpointStore) -> dict[str, str]:
    """The asset of each model that can forecast, by model."""
    names = [*BUILT_IN_MODELS, *settings.enabled_models]
    return {
        name: forecast_asset(name) for name in names if name not in WEIGHTS or checkpoints.current_digest(WEIGHTS[name])
    }
