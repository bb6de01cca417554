"""Which rows Chronos-2 reads under some settings: their part of a recipe, and what weights were trained on.

Not here: the rows themselves (inputs).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assets.forecasting.chronos2.standardised import input_mismatch
from assets.forecasting.known_events import read_events
from resources.settings import CALENDAR_COVARIATES, Settings


def inputs_recipe(settings: Settings) -> dict[str, Any]:
    """The part of a recipe that names the rows; empty for the close alone, as before there were others."""
    chosen = settings.chronos2
    rows = {"targets": chosen.targets, "past": chosen.past_covariates, "future": chosen.future_covariates}
    recipe: dict[str, Any] = {name: sorted(values) for name, values in rows.items() if values}
    return {} if recipe == {"targets": ["close"]} else {"inputs": recipe}


def with_inputs_of(card: Mapping[str, Any], settings: Settings) -> Settings:
    """The settings with the input that weights were trained on, where that of the settings has other units.

    So a checkpoint from before a change of the target is compared, and stays in use, as what it is.
    """
    if input_mismatch(card, settings.chronos2.targets) is None:
        return settings
    learnt = card.get("settings") or {}
    inputs = {
        "targets": tuple(learnt.get("targets") or ("close",)),
        "past_covariates": tuple(learnt.get("past_covariates") or ()),
        "future_covariates": tuple(learnt.get("future_covariates") or ()),
    }
    return settings.model_copy(update={"chronos2": settings.chronos2.model_copy(update=inputs)})


def event_columns(settings: Settings) -> list[str]:
    """The covariates that are columns of the table of known events."""
    return sorted(set(settings.chronos2.future_covariates) - set(CALENDAR_COVARIATES))


def events_recipe(settings: Settings) -> dict[str, str]:
    """The part of a training's recipe that names the known events up to its cutoff; empty without such a covariate."""
    columns = event_columns(settings)
    return {"events": read_events(settings, columns).digest(settings.windows.cutoff)} if columns else {}
