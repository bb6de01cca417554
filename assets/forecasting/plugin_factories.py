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

from assets.forecasting.plugin import ENTRY_POINTS, Forecaster
from resources.errors import CandlecastError
from resources.settings import Settings

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


def make_forecaster(settings: Settings, name: str) -> tuple[Factory, Forecaster]:
    """The forecaster of [models.NAME], and its factory.

    Raises:
        CandlecastError: it is not installed, refuses its options, fails, or makes something else.
    """
    options = settings.models[name].options
    factory = find_factory(settings, name)
    try:
        inspect.signature(factory.make).bind(settings, **options)
    except TypeError as error:
        allowed = ", ".join(list(inspect.signature(factory.make).parameters)[1:]) or "none"
        raise CandlecastError(
            f"models.{name}.options: {factory.reference} does not take them: {error}; allowed: {allowed}"
        ) from None
    except ValueError:  # a function without a signature
        pass
    try:
        made = factory.make(settings, **options)
    except CandlecastError as error:
        raise CandlecastError(f"models.{name}: {error}") from error
    except Exception as error:
        raise CandlecastError(
            f"models.{name}: {factory.reference} failed: {_described(error)}; {_remedy(name, 'options')}"
        ) from error
    missing = [attribute for attribute in _ATTRIBUTES if not hasattr(made, attribute)]
    if missing or not isinstance(made, Forecaster):
        raise CandlecastError(
            f"models.{name}: {factory.reference} made a {type(made).__name__}, which is no forecaster: it has no "
            f"{', '.join(missing)}. See assets.forecasting.plugin.Forecaster"
        )
    return factory, made


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
    except Exception as error:
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


def _code(module_name: str) -> Mapping[str, str]:
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


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _remedy(name: str, key: str) -> str:
    return f"correct models.{name}.{key}, or leave the model out with models.{name}.enabled = false"
