"""The fields and tables that Chronos-2's rows are computed from. It imports nothing that computes.

Not here: the rows themselves (inputs).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resources.settings import CALENDAR_COVARIATES, Settings

# Before the name of a table of known events in the warehouse.
IN_WAREHOUSE = "warehouse:"
# The fields of bars that a row is computed from, where that is not the close alone. Units of the volatility are
# estimated from whole bars.
ROW_FIELDS: Mapping[str, tuple[str, ...]] = {
    "standardised_close": ("open", "high", "low", "close"),
    "range": ("high", "low"),
    "volume": ("volume",),
}


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
