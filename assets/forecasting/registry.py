"""The models of each forecast asset: the built-in ones, and the plug-ins that the settings name; each of its vintages.

With vintages (`windows.vintage`) a trained model is one model with several checkpoints: every origin is forecast by the
newest vintage on or before its session.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from assets.forecasting.baselines.closed_form import ESTIMATED, baseline_forecasters
from assets.forecasting.baselines.estimated import estimated_baselines
from assets.forecasting.baselines.parameters import refresh_estimates
from assets.forecasting.calibration.models import calibrated_models, combined_models, combined_names, derived_names
from assets.forecasting.chronos2.forecaster import MODEL as CHRONOS2
from assets.forecasting.chronos2.forecaster import chronos2_forecaster
from assets.forecasting.filters import UsedCheckpoints
from assets.forecasting.forecaster import ForecastModel, ForecastTask, checkpoint_name
from assets.forecasting.kronos_forecaster import MODEL as KRONOS
from assets.forecasting.kronos_forecaster import kronos_forecaster
from assets.forecasting.model_vintages import is_by_vintage, tasks_by_vintage, usable_vintages
from assets.forecasting.plugin_factories import require_factory
from assets.forecasting.plugin_models import failing_model, plugin_model
from assets.forecasting.volatility.forecaster import MODEL as VOLATILITY
from assets.forecasting.volatility.forecaster import volatility_forecaster
from resources.checkpoints import CheckpointStore
from resources.errors import CandlecastError, MissingWeightsError
from resources.licences import refusal
from resources.settings import Settings
from resources.settings_models import (
    BUILT_IN_ASSETS,
    BUILT_IN_MODELS,
    CALIBRATED_ASSET,
    COMBINED_ASSET,
    forecast_asset,
    section_of,
)
from resources.vintages import at_vintage, first_vintage, has_vintages, vintage_of
from resources.warehouse import Warehouse

BASELINES = forecast_asset(ESTIMATED[0])


def forecasters_in(asset: str, settings: Settings, checkpoints: CheckpointStore) -> list[ForecastModel]:
    """The models of one asset.

    Raises:
        CandlecastError: a checkpoint is missing, a plug-in cannot be used, or `compute.licences` refuses a model.
    """
    return _permitted(_models_of(asset, settings, checkpoints), settings)


def _permitted(models: list[ForecastModel], settings: Settings) -> list[ForecastModel]:
    """The models, unless `compute.licences` refuses one."""
    for one in models:
        key = f"{section_of(one.model)}.licence"
        if reason := refusal(one.licence, settings.compute.licences, key):
            raise CandlecastError(reason)
    return models


def _models_of(asset: str, settings: Settings, checkpoints: CheckpointStore) -> list[ForecastModel]:
    if asset == forecast_asset(KRONOS):
        return [kronos_forecaster(settings, checkpoints)]
    if asset == forecast_asset(CHRONOS2):
        return [chronos2_forecaster(settings, checkpoints)]
    if asset == forecast_asset(VOLATILITY):
        return [volatility_forecaster(settings, checkpoints)]
    if asset in BUILT_IN_ASSETS:
        return [*baseline_forecasters(settings), *estimated_baselines(settings)]
    return [plugin_model(settings, _name_of(asset, settings), checkpoints)]


def plugin_problems(settings: Settings, checkpoints: CheckpointStore) -> dict[str, str]:
    """Why models of the settings cannot be used, by name.

    Weights that are yet to be trained are no problem, nor is a vintage whose published weights are missing as long as
    another has them.
    """
    problems = {}
    for name in settings.enabled_models:
        try:
            require_factory(settings, name)
            vintages = usable_vintages(name, settings, checkpoints)
            if vintages and not models_of(forecast_asset(name), settings, checkpoints):
                _forecasters_at(forecast_asset(name), settings, checkpoints, vintages[0])
        except CandlecastError as error:
            problems[name] = str(error)
    return problems


def forecasters_by_task(
    asset: str, settings: Settings, checkpoints: CheckpointStore, tasks: Sequence[ForecastTask]
) -> list[tuple[ForecastModel, list[ForecastTask]]]:
    """The models of one asset, each with the tasks that it forecasts: all, or those of its vintage, oldest first.

    Baselines are estimated here where that was not done yet.

    Raises:
        CandlecastError: as `forecasters_in`; a task is before the first vintage; a vintage was not trained. Tasks of
            one whose published weights are missing fail with that reason.
    """
    if asset in (CALIBRATED_ASSET, COMBINED_ASSET):
        return _derived_by_task(asset, settings, checkpoints, tasks)
    name = _name_of(asset, settings)
    if asset == BASELINES:
        return _baselines_by_task(settings, tasks)
    if not is_by_vintage(name, settings):
        return [(model, list(tasks)) for model in forecasters_in(asset, settings, checkpoints)]
    found: list[tuple[ForecastModel, list[ForecastTask]]] = []
    for vintage, own in tasks_by_vintage(settings, tasks).items():
        try:
            models = _forecasters_at(asset, settings, checkpoints, vintage)
        except MissingWeightsError as error:
            models = [failing_model(settings, name, vintage, str(error))]
        found += [(model, own) for model in models]
    return found


def _derived_by_task(
    asset: str, settings: Settings, checkpoints: CheckpointStore, tasks: Sequence[ForecastTask]
) -> list[tuple[ForecastModel, list[ForecastTask]]]:
    """The derived models, each with the tasks that it forecasts: all, or those of the vintage of its base.

    Tasks of a vintage that its base lacks fail with that reason.
    """
    by_vintage: dict[date | None, list[ForecastTask]] = {}
    if has_vintages(settings.windows):
        by_vintage = tasks_by_vintage(settings, tasks)
    models = models_of(asset, settings, checkpoints)
    found: list[tuple[ForecastModel, list[ForecastTask]]] = []
    for name in dict.fromkeys(one.model for one in models):
        versions = {one.vintage: one for one in models if one.model == name}
        if None in versions:
            found.append((versions[None], list(tasks)))
            continue
        for vintage, own in by_vintage.items():
            reason = f"the model that it is derived from has no weights of the vintage {vintage}"
            found.append((versions.get(vintage) or failing_model(settings, name, vintage, reason, inherited=True), own))
    return found


def _baselines_by_task(
    settings: Settings, tasks: Sequence[ForecastTask]
) -> list[tuple[ForecastModel, list[ForecastTask]]]:
    """The baselines: those in closed form forecast all tasks, the others those of their vintage.

    Tasks before the first vintage are forecast by it, and are in-sample up to the end of its training range.
    """
    found = [(model, list(tasks)) for model in _permitted(baseline_forecasters(settings), settings)]
    vintages: dict[date | None, list[ForecastTask]] = {}
    for task in tasks:
        session = max(task.history.days[task.index].astype(object), first_vintage(settings.windows))
        vintages.setdefault(vintage_of(settings.windows, session), []).append(task)
    warehouse = Warehouse.of(settings)
    for vintage in sorted(vintages, key=lambda one: one or date.min):
        refresh_estimates(settings if vintage is None else at_vintage(settings, vintage), warehouse)
        found += [(model, vintages[vintage]) for model in _estimated_at(settings, vintage)]
    return found


def _estimated_at(settings: Settings, vintage: date | None) -> list[ForecastModel]:
    """The baselines with estimated parameters, of one vintage."""
    if vintage is None:
        return _permitted(estimated_baselines(settings), settings)
    own = at_vintage(settings, vintage)
    return [_of_vintage(one, vintage, settings) for one in _permitted(estimated_baselines(own), settings)]


def models_in_use(settings: Settings, checkpoints: CheckpointStore) -> list[ForecastModel]:
    """All models under these settings, and all vintages of each, without those that have no weights yet.

    Raises:
        CandlecastError: a plug-in cannot be used.
    """
    members = _members(settings, checkpoints)
    return [*members, *combined_models(settings, members)]


def models_of(asset: str, settings: Settings, checkpoints: CheckpointStore) -> list[ForecastModel]:
    """The models of one asset, as `models_in_use`.

    Raises:
        CandlecastError: a plug-in cannot be used.
    """
    if asset == CALIBRATED_ASSET:
        return calibrated_models(settings, _base_models(settings, checkpoints))
    if asset == COMBINED_ASSET:
        return combined_models(settings, _members(settings, checkpoints))
    name, found = _name_of(asset, settings), list[ForecastModel]()
    if asset == BASELINES:
        vintages = usable_vintages(ESTIMATED[0], settings, checkpoints)
        estimated = [model for vintage in vintages for model in _estimated_at(settings, vintage)]
        return [*baseline_forecasters(settings), *estimated]
    for vintage in usable_vintages(name, settings, checkpoints):
        try:
            found += _forecasters_at(asset, settings, checkpoints, vintage)
        except MissingWeightsError:
            if vintage is None:
                raise
    return found


def checkpoints_in_use(settings: Settings, checkpoints: CheckpointStore) -> UsedCheckpoints:
    """The `checkpoint` of each model's forecasts under these settings, without models that have no weights yet.

    Of a model with vintages a list, the newest last.
    """
    return checkpoints_by_model(models_in_use(settings, checkpoints))


def checkpoints_by_model(models: Sequence[ForecastModel]) -> UsedCheckpoints:
    """The `checkpoint` of each of some models; of a model with vintages a list, the newest last."""
    found: dict[str, str | list[str]] = {}
    for one in models:
        if one.vintage is None:
            found[one.model] = one.checkpoint
        else:
            found[one.model] = [*found.get(one.model, []), one.checkpoint]
    return found


def models_by_asset(settings: Settings, checkpoints: CheckpointStore) -> dict[str, str]:
    """The asset of each model that can forecast, by model."""
    available = [name for name in _names(settings) if usable_vintages(name, settings, checkpoints)]
    members = [*available, *derived_names(settings, available)]
    return {name: forecast_asset(name) for name in (*members, *combined_names(settings, members))}


def _members(settings: Settings, checkpoints: CheckpointStore) -> list[ForecastModel]:
    """All models but combinations, and all vintages of each."""
    bases = _base_models(settings, checkpoints)
    return [*bases, *calibrated_models(settings, bases)]


def _base_models(settings: Settings, checkpoints: CheckpointStore) -> list[ForecastModel]:
    """All models that are derived from no others, and all vintages of each."""
    assets = dict.fromkeys(forecast_asset(name) for name in _names(settings))
    return [model for asset in assets for model in models_of(asset, settings, checkpoints)]


def _names(settings: Settings) -> list[str]:
    return [*BUILT_IN_MODELS, *settings.enabled_models]


def _name_of(asset: str, settings: Settings) -> str:
    """The model of an asset that is derived from no others; of the baselines the first.

    Raises:
        CandlecastError: the settings enable none.
    """
    for name in _names(settings):
        if forecast_asset(name) == asset:
            return name
    raise CandlecastError(f"{asset}: the settings enable no such model: reload the definitions, or enable it")


def _forecasters_at(
    asset: str, settings: Settings, checkpoints: CheckpointStore, vintage: date | None
) -> list[ForecastModel]:
    """The models of one asset at one vintage."""
    if vintage is None:
        return forecasters_in(asset, settings, checkpoints)
    own, store = at_vintage(settings, vintage), checkpoints.at(vintage)
    try:
        return [_of_vintage(one, vintage, settings) for one in forecasters_in(asset, own, store)]
    except MissingWeightsError as error:
        raise MissingWeightsError(f"{error} (vintage {vintage})") from error
    except CandlecastError as error:
        raise CandlecastError(f"{error} (vintage {vintage})") from error


def _of_vintage(model: ForecastModel, vintage: date, settings: Settings) -> ForecastModel:
    """A model as the vintage of a date: forecasts of different vintages never have the same `checkpoint`."""
    if model.trained_until is not None and model.trained_until >= vintage:
        raise CandlecastError(
            f"{model.model}: the weights of the vintage {vintage} may have been trained on its sessions (last day: "
            f"{'unknown' if model.trained_until == date.max else model.trained_until}): train it again, or use other "
            "base weights"
        )
    recipe = {**model.recipe, "vintage": [settings.windows.vintage, vintage.isoformat()]}
    return replace(model, recipe=recipe, checkpoint=checkpoint_name(recipe, model.weights), vintage=vintage)
