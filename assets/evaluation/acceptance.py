"""Acceptance checks on the stored scores."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from assets.acceptance import CheckOutcome
from assets.forecasting.filters import UsedCheckpoints, checkpoint_pairs
from resources.settings_models import section_of
from resources.sql import load_sql
from resources.warehouse import Warehouse

_ORIGINS = """
SELECT model, count(DISTINCT origin) FILTER (in_sample) AS in_sample,
       count(DISTINCT origin) FILTER (NOT in_sample) AS clean, max(origin) AS last
FROM forecasts WHERE list_contains($pairs, model || ' ' || checkpoint) GROUP BY model
"""
IMPOSSIBLE_SCORES = load_sql("assets.evaluation", "impossible_scores.sql")


def impossible_scores(warehouse: Warehouse) -> pd.DataFrame:
    """Scores that are stored twice, not finite, or outside the range of their metric; at most 1,000 rows."""
    return warehouse.frame(IMPOSSIBLE_SCORES)


def check_models_compared(warehouse: Warehouse, checkpoints: UsedCheckpoints) -> CheckOutcome:
    """Whether each of the models that forecast now is on the scoreboard.

    Args:
        checkpoints: the `checkpoint` of each model, or those of its vintages.
    """
    compared = set(warehouse.frame("SELECT DISTINCT model FROM scoreboard")["model"])
    missing = sorted(set(checkpoints) - compared)
    if not missing:
        return CheckOutcome(True, "every model is on the scoreboard")
    pairs = [" ".join(pair) for pair in checkpoint_pairs({model: checkpoints[model] for model in missing})]
    counts = {row["model"]: row for row in warehouse.frame(_ORIGINS, {"pairs": pairs}).to_dict("records")}
    return CheckOutcome(False, "; ".join(_why_not_compared(model, counts.get(model, {})) for model in missing))


def _why_not_compared(model: str, counts: Mapping[Hashable, Any]) -> str:
    if counts and not counts["clean"]:
        section = section_of(model)
        return (
            f"no out-of-sample scores for {model}: its {counts['in_sample']:,} origins, up to "
            f"{counts['last']:%Y-%m-%d}, are all in-sample. Forecast from origins after the cutoff of its "
            f"weights (windows.test), or, where the cutoff is unknown, state {section}.cutoff or {section}.published"
        )
    return (
        f"no out-of-sample scores for {model}: it has no forecast from an origin after its cutoff whose targets have "
        "closed. Forecast from such origins, then score them; why forecasts failed is on the page of its asset and in "
        "the table failed_forecasts"
    )
