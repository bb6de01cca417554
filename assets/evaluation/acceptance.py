"""Acceptance checks on the stored scores."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from datetime import date
from typing import Any

import pandas as pd

from assets.acceptance import CheckOutcome
from assets.forecasting.filters import UsedCheckpoints, checkpoint_pairs
from resources.derived_models import COMBINATIONS, base_model, is_derived_from
from resources.settings_models import section_of
from resources.sql import load_sql
from resources.warehouse import Warehouse

_ORIGINS = """
SELECT model, count(DISTINCT origin) FILTER (in_sample) AS in_sample,
       count(DISTINCT origin) FILTER (NOT in_sample) AS clean, max(origin) AS last
FROM forecasts WHERE list_contains($pairs, model || ' ' || checkpoint) GROUP BY model
"""
IMPOSSIBLE_SCORES = load_sql("assets.evaluation", "impossible_scores.sql")


def impossible_scores(
    warehouse: Warehouse, oldest: date = date(1, 1, 1), newest: date = date(9999, 12, 31)
) -> pd.DataFrame:
    """Scores that are stored twice, not finite, or outside the range of their metric; at most 1,000 rows.

    Args:
        oldest, newest: the origins whose scores are searched for duplicates, such as those that a run could write. The
            search of all costs more than scoring a session; finite values and ranges are always those of all origins.
    """
    return warehouse.frame(IMPOSSIBLE_SCORES, {"oldest": oldest, "newest": newest})


def check_models_compared(warehouse: Warehouse, checkpoints: UsedCheckpoints) -> CheckOutcome:
    """Whether each of the models that forecast now is on the scoreboard.

    What is calibrated from a model that is not is named with it.

    Args:
        checkpoints: the `checkpoint` of each model, or those of its vintages.
    """
    compared = set(warehouse.frame("SELECT DISTINCT model FROM scoreboard")["model"])
    missing = sorted(set(checkpoints) - compared)
    if not missing:
        return CheckOutcome(True, "every model is on the scoreboard")
    pairs = [" ".join(pair) for pair in checkpoint_pairs({model: checkpoints[model] for model in missing})]
    counts = {row["model"]: row for row in warehouse.frame(_ORIGINS, {"pairs": pairs}).to_dict("records")}
    named = {model: [one for one in missing if is_derived_from(one, model)] for model in missing}
    inherited = {one for own in named.values() for one in own}
    members = [model for model in missing if model not in inherited and model not in COMBINATIONS]
    problems = [
        _why_not_compared(model, derived, counts.get(model, {}), members)
        for model, derived in named.items()
        if model not in inherited
    ]
    return CheckOutcome(False, "; ".join(problems))


def _why_not_compared(
    model: str, derived: Sequence[str], counts: Mapping[Hashable, Any], members: Sequence[str]
) -> str:
    name = f"{model} ({', '.join(derived)})" if derived else model
    if model in COMBINATIONS and counts and not counts["clean"] and members:
        stated = ", ".join(f"{section_of(one)}.cutoff" for one in members)
        return (
            f"no out-of-sample scores for {name}: a combination is in-sample where a member is. State {stated} where "
            f"the cutoff is unknown, or disable the model: {', '.join(members)}"
        )
    if counts and not counts["clean"]:
        section = section_of(base_model(model))
        return (
            f"no out-of-sample scores for {name}: its {counts['in_sample']:,} origins, up to "
            f"{counts['last']:%Y-%m-%d}, are all in-sample. Forecast from origins after the cutoff of its "
            f"weights (windows.test), or, where the cutoff is unknown, state {section}.cutoff or {section}.published"
        )
    return (
        f"no out-of-sample scores for {name}: it has no forecast from an origin after its cutoff whose targets have "
        "closed. Forecast from such origins, then score them; why forecasts failed is on the page of its asset and in "
        "the table failed_forecasts"
    )
