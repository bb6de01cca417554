"""Plug-ins as models: the forecaster of a [models.NAME] adapted to a `ForecastModel`.

Belongs here: what a plug-in reads, and the isolation of inputs that it fails on. Not here: how its factory is found
(plugin_factories), and what is refused of what it returns (plugin_output).
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cache, partial
from pathlib import PurePath
from typing import Any

import numpy as np

from assets.forecasting.forecaster import (
    ForecastModel,
    ForecastTask,
    NetworkPredict,
    Prediction,
    Prepared,
    forecast_checkpoint,
    forecast_seed,
    market_recipe,
)
from assets.forecasting.lookbacks import fill_lookbacks
from assets.forecasting.plugin import NO_TRAINING, Forecaster, ForecastInput
from assets.forecasting.plugin_factories import make_forecaster
from assets.forecasting.plugin_output import Row, read_output, stacked
from assets.market.gaps import GapFill
from resources import quantile_levels
from resources.checkpoints import CheckpointStore
from resources.errors import CandlecastError
from resources.licences import UNKNOWN
from resources.settings import ModelSettings, Settings

logger = logging.getLogger("candlecast.plugins")
Rows = list[Row | str]
VERSION = 1
BATCH_SIZE = 256
# Below 2³¹, which every random generator takes.
SEEDS = 2**31
# The lines that raised an error whose traceback is in the log already.
_logged: set[tuple[str, int | None]] = set()


@dataclass(frozen=True)
class Plugin:
    """A forecaster of the settings, and what it states of itself.

    Attributes:
        factory: "package.module:function".
        recipe: determines its forecasts.
    """

    forecaster: Forecaster
    factory: str
    family: str
    licence: str
    trained_until: date | None
    recipe: Mapping[str, Any]

    @property
    def one_thread(self) -> bool:
        """Whether its forecasts may be split over processes of one thread."""
        return bool(getattr(self.forecaster, "one_thread", False))


def plugin_model(settings: Settings, name: str, checkpoints: CheckpointStore) -> ForecastModel:
    """The model of [models.NAME]: what it states and what it forecasts are of one forecaster.

    Raises:
        CandlecastError: the forecaster cannot be made, or states something impossible.
    """
    plugin = read_plugin(settings, name, checkpoints)
    return ForecastModel(
        model=name,
        checkpoint=forecast_checkpoint(plugin.recipe),
        weights=None,
        recipe=plugin.recipe,
        trained_until=plugin.trained_until,
        load=cache(lambda: plugin_predict(settings, name, plugin.forecaster)),
        batch_size=BATCH_SIZE,
        family=plugin.family,
        licence=plugin.licence,
        in_worker=partial(_load, settings, name, checkpoints) if plugin.one_thread else None,
    )


def plugin_predict(settings: Settings, name: str, forecaster: Forecaster) -> NetworkPredict:
    """The tasks of a model handed to its forecaster, as inputs that end at their origins; those that failed have a
    reason."""
    return NetworkPredict(
        name, partial(_prepare, settings, forecaster.lookback), _rows_of(forecaster, settings.forecasts.levels)
    )


def _load(settings: Settings, name: str, checkpoints: CheckpointStore) -> Callable[[Sequence[ForecastInput]], Rows]:
    return _rows_of(make_forecaster(settings, name, checkpoints)[1], settings.forecasts.levels)


def _rows_of(forecaster: Forecaster, levels: Sequence[float]) -> Callable[[Sequence[ForecastInput]], Rows]:
    def rows(inputs: Sequence[ForecastInput]) -> Rows:
        chunks = (inputs[start : start + BATCH_SIZE] for start in range(0, len(inputs), BATCH_SIZE))
        return [row for chunk in chunks for row in isolated_rows(forecaster, chunk, levels)]

    return rows


def _prepare(settings: Settings, lookback: int | None, tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prepared:
    filled = fill_lookbacks(tasks, GapFill.of(settings))
    inputs = [_input(settings, lookback, *each) for each in zip(filled, targets, strict=True)]
    return Prepared(inputs, lambda rows: stacked(rows, targets.shape[1], len(settings.forecasts.levels)))


def _input(settings: Settings, lookback: int | None, task: ForecastTask, targets: np.ndarray) -> ForecastInput:
    first = max(0, task.index + 1 - lookback) if lookback else 0
    return ForecastInput(
        task.symbol,
        task.history.stamps[first : task.index + 1],
        task.history.bars_as_of(task.index, first),
        targets,
        forecast_seed(settings.seed, task.symbol, task.origin) % SEEDS,
    )


def failing_model(
    settings: Settings, name: str, vintage: date | None, reason: str, inherited: bool = False
) -> ForecastModel:
    """A model at a vintage whose weights are missing: each of its forecasts fails for a reason.

    Args:
        inherited: whether they are the weights of the model that it is derived from, which fails likewise.
    """

    def predict(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        failed = stacked([reason] * len(tasks), targets.shape[1], len(settings.forecasts.levels))
        return replace(failed, inherited=frozenset(failed.failures) if inherited else frozenset())

    recipe = {"model": name, "vintage": str(vintage), "weights": "missing"}
    stated = settings.models.get(name)
    checkpoint, licence = forecast_checkpoint(recipe), (stated.licence if stated else None) or UNKNOWN
    family = "without weights"
    return ForecastModel(
        name, checkpoint, None, recipe, None, lambda: predict, BATCH_SIZE, family, licence, vintage=vintage
    )


def read_plugin(
    settings: Settings, name: str, checkpoints: CheckpointStore, levels_key: str = quantile_levels.SETTING
) -> Plugin:
    """The forecaster of [models.NAME] with family, licence, cutoff and recipe.

    Args:
        levels_key: the setting or option that states `forecasts.levels`.

    Raises:
        CandlecastError: the forecaster cannot be made, states something impossible, or does not give a level.
    """
    factory, forecaster = make_forecaster(settings, name, checkpoints)
    quantile_levels.require_levels(settings.forecasts.levels, levels_key, level_rule(name, forecaster))
    stated = settings.models[name]
    windows = settings.windows
    recipe = {
        "model": name,
        "version": VERSION,
        "factory": factory.reference,
        "code": dict(factory.code),
        "options": _as_json(name, "options", stated.options),
        "forecaster": _as_json(name, "recipe", dict(forecaster.recipe)),
        "lookback": _lookback(name, forecaster),
        "lookback_window": windows.lookback_window,
        "predict_window": windows.predict_window,
        "levels": settings.forecasts.levels,
        "seed": settings.seed,
        **market_recipe(settings.market),
        **GapFill.of(settings).recipe,
    }
    licence, until = stated.licence or str(forecaster.licence), _trained_until(name, stated, forecaster.cutoff)
    return Plugin(forecaster, factory.reference, str(forecaster.family), licence, until, recipe)


def isolated_rows(forecaster: Forecaster, inputs: Sequence[ForecastInput], levels: Sequence[float]) -> list[Row | str]:
    """What a forecaster returns for some inputs, or why not: of a batch that raises or has another shape, each half is
    tried again, so that one input spoils no other."""
    try:
        # What it prints is no output of the command.
        with redirect_stdout(sys.stderr):
            # Copies: a plug-in that writes into its input changes no history, and no input of another try.
            output = forecaster.predict([_copied(one) for one in inputs], list(levels))
        return read_output(output, inputs, levels)
    except (Exception, SystemExit) as error:
        if len(inputs) == 1:
            place = traceback.extract_tb(error.__traceback__)[-1]
            if not isinstance(error, CandlecastError) and (place.filename, place.lineno) not in _logged:
                logger.warning("%s from %s could not be forecast", inputs[0].symbol, inputs[0].origin, exc_info=True)
            _logged.add((place.filename, place.lineno))
            return [_reason(error)]
    middle = len(inputs) // 2
    halves = (inputs[:middle], inputs[middle:])
    return [row for half in halves for row in isolated_rows(forecaster, half, levels)]


def _copied(one: ForecastInput) -> ForecastInput:
    return replace(one, stamps=one.stamps.copy(), bars=one.bars.copy(), targets=one.targets.copy())


def _reason(error: Exception | SystemExit) -> str:
    """What was raised, and where."""
    if isinstance(error, CandlecastError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({PurePath(place.filename).name}, line {place.lineno})"


def _trained_until(name: str, stated: ModelSettings, cutoff: object) -> date | None:
    """The last day of training; None: the model is not trained. Of two cutoffs the later counts."""
    if isinstance(cutoff, datetime):
        cutoff = cutoff.date()
    if cutoff is not None and not isinstance(cutoff, date):
        raise CandlecastError(f"models.{name}: its cutoff is {cutoff!r}: it must be a date, NO_TRAINING or None")
    known = [one for one in (cutoff, stated.cutoff) if one is not None]
    if not known:
        return stated.published or date.max
    latest = max(known)
    return None if latest == NO_TRAINING else latest


def level_rule(name: str, forecaster: Forecaster) -> quantile_levels.LevelRule:
    """The quantile levels that a forecaster gives: `level_range`, or any."""
    stated = getattr(forecaster, "level_range", None)
    if stated is None:
        return quantile_levels.LevelRule(giver=name)
    try:
        lowest, highest = map(float, stated)
    except (TypeError, ValueError):
        lowest, highest = 1.0, 0.0
    if not 0 < lowest <= highest < 1:
        raise CandlecastError(
            f"models.{name}: its level_range is {stated!r}: it must be the lowest and the highest quantile level, such "
            "as (0.01, 0.99), or None"
        )
    return quantile_levels.LevelRule(lowest, highest, name)


def _lookback(name: str, forecaster: Forecaster) -> int | None:
    lookback = forecaster.lookback
    if lookback is None or (isinstance(lookback, int) and lookback > 0):
        return lookback
    raise CandlecastError(f"models.{name}: its lookback is {lookback!r}: it must be a number of bars above 0, or None")


def _as_json(name: str, part: str, values: Mapping[str, object]) -> Any:
    """Values as JSON. What has no JSON is refused: as text it may differ from run to run, and so the checkpoint."""
    try:
        return json.loads(json.dumps(values, default=_json_value, allow_nan=False, sort_keys=True))
    except (TypeError, ValueError) as error:
        raise CandlecastError(
            f"models.{name}: its {part} {dict(values)!r} cannot be stored ({error}): use text, finite numbers, dates, "
            "lists and tables"
        ) from None


def _json_value(value: object) -> object:
    if isinstance(value, date | PurePath):
        return str(value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON value")
