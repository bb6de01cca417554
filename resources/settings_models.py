"""The section [models.NAME] of the settings: forecasters beside the built-in ones, each under a name of its own.

Belongs here: the keys, and which names are taken. Not here: how a forecaster is found and made
(assets.forecasting.plugin_factories).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any, Literal

from pydantic import Field, field_validator

from resources.derived_models import ANCHORED, COMBINATIONS, RECALIBRATED, is_reserved
from resources.settings_section import Section

# The asset of each built-in model. A further model has an asset of its own.
BUILT_IN_MODELS: Mapping[str, str] = {
    "random_walk": "baseline_forecasts",
    "random_walk_ewma": "baseline_forecasts",
    "drift": "baseline_forecasts",
    "momentum": "baseline_forecasts",
    "garch": "baseline_forecasts",
    "gjr_garch": "baseline_forecasts",
    "har": "baseline_forecasts",
    "volatility": "volatility_forecasts",
    "kronos": "kronos_forecasts",
    "chronos2": "chronos2_forecasts",
}
BUILT_IN_ASSETS = tuple(dict.fromkeys(BUILT_IN_MODELS.values()))
# The assets of models that are derived from the stored forecasts of others, by the end of their names.
CALIBRATED_ASSET, COMBINED_ASSET = "calibrated_forecasts", "combined_forecasts"
_DERIVED: Mapping[str, str] = {
    ANCHORED: CALIBRATED_ASSET,
    RECALIBRATED: CALIBRATED_ASSET,
    **dict.fromkeys(COMBINATIONS, COMBINED_ASSET),
}
# The sections of the built-in models that have weights.
_SECTIONS = {"kronos": "predictor", "chronos2": "chronos2", "volatility": "volatility"}
# Series of the plots and tables that are no model.
_OTHER_SERIES = frozenset({"actual", "benchmark"})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_DOTTED = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
_FUNCTION, _ENTRY_POINT = re.compile(rf"{_DOTTED}:{_DOTTED}"), re.compile(r"[\w.-]+")


class ModelSettings(Section):
    """One forecaster beside the built-in ones."""

    factory: str | None = Field(
        None,
        description='What makes the forecaster: "package.module:function", also of a module beside the settings file, '
        "or the name of an entry point of the group candlecast.forecasters; unset: the entry point NAME.",
        json_schema_extra={"range": '"package.module:function", or the name of an entry point'},
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments of the factory. Other values make new forecasts."
    )
    reads: tuple[Literal["kronos", "chronos2"], ...] = Field(
        (),
        description="The built-in models whose checkpoints the forecaster reads, such as those of embedding_ridge: it "
        "forecasts when they are trained, and with windows.vintage from the vintage of each session.",
        json_schema_extra={"range": '"kronos", "chronos2"'},
    )
    cutoff: date | None = Field(
        None,
        description="The last day whose data influenced the weights, where the forecaster states none, or an earlier "
        "one. Forecasts from origins up to it count as in-sample.",
    )
    published: date | None = Field(
        None, description="The day on which the weights were published: the cutoff, where none is known."
    )
    licence: str | None = Field(
        None,
        min_length=1,
        description="Licence of code and weights, instead of the one that the forecaster states.",
        json_schema_extra={"range": 'an SPDX identifier such as "Apache-2.0"'},
    )
    enabled: bool = Field(True, description="Whether the model forecasts; off: it has no asset.")

    @field_validator("factory")
    @classmethod
    def _is_reference(cls, factory: str | None) -> str | None:
        pattern = _FUNCTION if factory and ":" in factory else _ENTRY_POINT
        if factory is None or pattern.fullmatch(factory):
            return factory
        raise ValueError('use "package.module:function", or the name of an entry point')


def forecast_asset(model: str) -> str:
    """The asset that holds the forecasts of a model."""
    derived = (asset for suffix, asset in _DERIVED.items() if model.endswith(suffix))
    return BUILT_IN_MODELS.get(model) or next(derived, f"{model}_forecasts")


def section_of(model: str) -> str:
    """The section of the settings that states cutoff and licence of a model."""
    return _SECTIONS.get(model, f"models.{model}")


def require_free_names(models: Mapping[str, ModelSettings]) -> None:
    """Check the names of models: each becomes an asset, a folder and a column of tables.

    Raises:
        ValueError: a name is no identifier, is taken, or differs from another by case alone.
    """
    taken = {*BUILT_IN_MODELS, *_OTHER_SERIES}
    seen: dict[str, str] = {}
    for name in models:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a model: use letters, digits and _, beginning with a letter")
        if name.lower() in taken or f"{name}_forecasts".lower() in (*BUILT_IN_ASSETS, *_DERIVED.values()):
            raise ValueError(f"{name!r} is the name of a built-in model or asset: choose another")
        if is_reserved(name):
            raise ValueError(f"{name!r} is the name of forecasts that are derived from other models: choose another")
        if (other := seen.setdefault(name.lower(), name)) != name:
            raise ValueError(f"{other!r} and {name!r} differ by case alone: choose another name for one")
