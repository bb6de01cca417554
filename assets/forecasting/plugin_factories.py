"""The factories of plug-ins: where the settings' [models.NAME] finds them, and what identifies their code.

A factory is named as "package.module:function", or by an entry point of the group `candlecast.forecasters`. Its module
is imported here, when a forecaster is needed. Not here: how a forecaster becomes a model (plugin_models).
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points, packages_distributions, version
from pathlib import Path
from typing import Any

from assets.forecasting.plugin import ENTRY_POINTS, Forecaster
from resources.checkpoints import CheckpointStore
from resources.errors import CandlecastError, MissingWeightsError
from resources.settings import Settings

# The argument of a factory that reads checkpoints: a mapping from the models in `reads` to their store.
CHECKPOINTS = "checkpoints"
OWN_PACKAGE = __name__.partition(".")[0]
_ATTRIBUTES = ("family", "licence", "cutoff", "recipe", "lookback", "predict")


@dataclass(frozen=True)
class Factory:
    """The factory of one model.

    Attributes:
        reference: "package.module:function".
        code: what identifies its code: the version of its package, or the digest of its file. Of a factory in
            candlecast itself empty: the recipe of its forecaster has a version.
    """

    reference: str
    code: Mapping[str, str]
    make: Callable[..., object]


def make_forecaster(settings: Settings, name: str, checkpoints: CheckpointStore) -> tuple[Factory, Forecaster]:
    """The forecaster of [models.NAME], and its factory.

    Args:
        checkpoints: those of its vintage; a factory with an argument `checkpoints` gets them, by model in `reads`.

    Raises:
        MissingWeightsError: its weights are not on this machine.
        CandlecastError: it is not installed, refuses its options, fails, or makes something else.
    """
    factory = require_factory(settings, name)
    arguments: dict[str, Any] = dict(settings.models[name].options)
    if CHECKPOINTS in _parameters(factory):
        arguments[CHECKPOINTS] = dict.fromkeys(settings.models[name].reads, checkpoints)
    try:
        forecaster = factory.make(settings, **arguments)
    except MissingWeightsError as error:
        raise MissingWeightsError(f"models.{name}: {error}") from error
    except CandlecastError as error:
        raise CandlecastError(f"models.{name}: {error}") from error
    except (Exception, SystemExit) as error:
        raise CandlecastError(
            f"models.{name}: {factory.reference} failed: {_described(error)}; {_remedy(name, 'options')}"
        ) from error
    missing = [attribute for attribute in _ATTRIBUTES if not hasattr(forecaster, attribute)]
    if missing or not isinstance(forecaster, Forecaster):
        raise CandlecastError(
            f"models.{name}: {factory.reference} returned a {type(forecaster).__name__}, which is no forecaster: it "
            f"has no {', '.join(missing)}. See assets.forecasting.plugin.Forecaster"
        )
    return factory, forecaster


def require_factory(settings: Settings, name: str) -> Factory:
    """The factory of [models.NAME], which takes its options.

    Raises:
        CandlecastError: it cannot be found, or does not take the options, or reads checkpoints that are not named.
    """
    factory, model = find_factory(settings, name), settings.models[name]
    parameters = _parameters(factory)
    if CHECKPOINTS in parameters and not model.reads:
        raise CandlecastError(
            f"models.{name}.reads: {factory.reference} reads checkpoints: name their models, such as "
            f'models.{name}.reads = ["kronos"]'
        )
    allowed = [one for one in list(parameters)[1:] if one != CHECKPOINTS]
    try:
        given: dict[str, object] = {CHECKPOINTS: {}} if CHECKPOINTS in parameters else {}
        if parameters:
            inspect.signature(factory.make).bind(settings, **given, **model.options)
    except TypeError as error:
        raise CandlecastError(
            f"models.{name}.options: {factory.reference} does not take them: {error}; allowed: "
            f"{', '.join(allowed) or 'none'}"
        ) from None
    return factory


def _parameters(factory: Factory) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory.make).parameters
    except ValueError:  # a function without a signature
        return {}


def find_factory(settings: Settings, name: str) -> Factory:
    """The factory of [models.NAME].

    Raises:
        CandlecastError: there is no such entry point, module or function; or its module cannot be imported.
    """
    named = settings.models[name].factory or name
    reference = named if ":" in named else _entry_point(named, name).value
    module_name, _, path = reference.partition(":")
    try:
        found: object = _module(module_name, settings.root)
    except ModuleNotFoundError as error:
        absent = error.name or module_name
        raise CandlecastError(
            f"models.{name}: {reference} cannot be imported, there is no module {absent}: install its package, or put "
            f"{absent.partition('.')[0]}.py beside the settings file; {_remedy(name, 'factory')}"
        ) from error
    except (Exception, SystemExit) as error:
        raise CandlecastError(
            f"models.{name}: {reference} cannot be imported: {_described(error)}; {_remedy(name, 'factory')}"
        ) from error
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            raise CandlecastError(
                f"models.{name}: there is no {path} in the module {module_name}: correct models.{name}.factory"
            )
        found = getattr(found, attribute)
    if not callable(found):
        raise CandlecastError(f"models.{name}: {reference} is no function: correct models.{name}.factory")
    return Factory(reference, _code(module_name), found)


def _entry_point(named: str, name: str) -> EntryPoint:
    found = entry_points(group=ENTRY_POINTS, name=named)
    if len({one.value for one in found}) == 1:
        return next(iter(found))
    key = f"models.{name}.factory"
    if found:
        places = ", ".join(f"{one.value} of {one.dist.name if one.dist else '?'}" for one in found)
        raise CandlecastError(f"{key}: several packages have the entry point {named!r}: set {key} to one of {places}")
    known = ", ".join(sorted(entry_points(group=ENTRY_POINTS).names)) or "none"
    raise CandlecastError(
        f"{key}: no installed package has the entry point {named!r} of the group {ENTRY_POINTS} (there are: {known}): "
        f'install its package, or set {key} = "package.module:function"'
    )


def _module(name: str, root: Path) -> object:
    """A module, which may stand beside the settings file: that folder comes last, so that it hides no package."""
    folder = str(root.absolute())
    if folder not in sys.path:
        sys.path.append(folder)
        importlib.invalidate_caches()
    return importlib.import_module(name)


@cache
def _code(module_name: str) -> Mapping[str, str]:
    """What identifies the code of a module as it was imported: a later change of its file is not in the process."""
    package = module_name.partition(".")[0]
    if package == OWN_PACKAGE:
        return {}
    packages = sorted(set(_distributions().get(package, ())))
    if packages:
        return {package: version(package) for package in packages}
    file = getattr(sys.modules[module_name], "__file__", None)
    return {"source": hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]} if file else {}


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def _described(error: Exception | SystemExit) -> str:
    return f"{type(error).__name__}: {error}"


def _remedy(name: str, key: str) -> str:
    return f"correct models.{name}.{key}, or leave the model out with models.{name}.enabled = false"
