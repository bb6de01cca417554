"""Which rows Chronos-2 reads under some settings: their part of a recipe, and what weights were trained on.

Not here: the rows themselves (inputs).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assets.forecasting.chronos2.standardised import TARGET, input_mismatch
from assets.forecasting.known_events import IN_WAREHOUSE, read_events
from resources.settings import CALENDAR_COVARIATES, Settings

# The fields of bars that a row is computed from, where that is not the close alone. Units of the volatility are
# estimated from whole bars.
ROW_FIELDS: Mapping[str, tuple[str, ...]] = {
    TARGET: ("open", "high", "low", "close"),
    "range": ("high", "low"),
    "volume": ("volume",),
}


def inputs_recipe(settings: Settings) -> dict[str, Any]:
    """The part of a recipe that names the rows; empty for the close alone, as before there were others."""
    chosen = settings.chronos2
    rows = {"targets": chosen.targets, "past": chosen.past_covariates, "future": chosen.future_covariates}
    recipe: dict[str, Any] = {name: sorted(values) for name, values in rows.items() if values}
    return {} if recipe == {"targets": ["close"]} else {"inputs": recipe}


def fields_read(recipe: Mapping[str, Any]) -> frozenset[str]:
    """The fields of bars that the rows of a recipe (`inputs_recipe`) are computed from."""
    rows = recipe.get("inputs") or {"targets": ["close"]}
    names = [*rows["targets"], *rows.get("past", ())]
    return frozenset(field for name in names for field in ROW_FIELDS.get(name, ("close",)))


def known_columns(recipe: Mapping[str, Any], events: str) -> list[str]:
    """What a recipe reads beside bars: covariates that are known over the horizon, as `calendar.NAME` or `EVENTS.NAME`,
    and the groups of symbols."""
    names = (recipe.get("inputs") or {}).get("future", ())
    known = [f"{'calendar' if name in CALENDAR_COVARIATES else events}.{name}" for name in names]
    return [*known, "groups.group"] if recipe.get("groups") else known


def events_table(settings: Settings) -> str | None:
    """The name of the table of known events: of the warehouse, or the file's; None: there is none."""
    named = settings.chronos2.events
    return named and Path(named.removeprefix(IN_WAREHOUSE)).stem


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
