"""Selections of assets: those of the commands, and those that a person writes.

Not here: what a command does with them (orchestration.cli.pipeline).
"""

import re
import shlex
from collections.abc import Iterable

import dagster as dg

from assets.market.checks import gate
from assets.training.model_selection.promotion import PROMOTED
from orchestration.staleness.plan import RunPlan
from resources.checkpoints import Kind

EVALUATION = dg.AssetSelection.groups("evaluation") | gate()
BACKTESTS = dg.AssetSelection.groups("evaluation", "backtests") | gate()
TRAINED: dict[str, tuple[Kind, ...]] = {
    "kronos": ("kronos_tokenizer", "kronos_predictor"),
    "chronos2": ("chronos2_model",),
    "volatility": ("volatility_model",),
}
MODELLING = dg.AssetSelection.groups("training", "forecasts", "evaluation", "backtests") | gate()


def names(keys: Iterable[dg.AssetKey]) -> set[str]:
    """The names of assets."""
    return {key.to_user_string() for key in keys}


def to_make(plan: RunPlan) -> list[dg.AssetSelection]:
    """The assets that a plan makes, and the checks of age of the models that it leaves out."""
    aged = [dg.AssetCheckKey(dg.AssetKey([kind]), "is_not_expired") for kind in PROMOTED if kind in plan.up_to_date]
    stale = [dg.AssetSelection.assets(*plan.stale)] if plan.stale else []
    return [*stale, *([dg.AssetSelection.checks(*aged)] if aged else [])]


def with_keys(selection: str, assets: set[str]) -> str:
    """What to write instead of a selection with bare names, which Dagster's syntax allows for one asset alone."""
    alternatives = "|".join(sorted(assets))
    written = re.sub(rf"(?<![\w:\"])({alternatives})(?![\w\"])", r'key:"\1"', selection)
    # Names one after another, with blanks or commas between them, are meant as a union.
    written = re.sub(r'"[\s,]+(?=[+*]*key:)', '" or ', written)
    return "" if written == selection else f"; write --assets {shlex.quote(written)}"
