"""Acceptance checks on the stored scores."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from assets.acceptance import CheckOutcome
from resources.sql import load_sql
from resources.warehouse import Warehouse

IMPOSSIBLE_SCORES = load_sql("assets.evaluation", "impossible_scores.sql")


def impossible_scores(warehouse: Warehouse) -> pd.DataFrame:
    """Scores that are stored twice, not finite, or outside the range of their metric; at most 1,000 rows."""
    return warehouse.frame(IMPOSSIBLE_SCORES)


def check_models_compared(warehouse: Warehouse, models: Collection[str]) -> CheckOutcome:
    """Whether each of the models that forecast now is on the scoreboard."""
    compared = set(warehouse.frame("SELECT DISTINCT model FROM scoreboard")["model"])
    missing = sorted(set(models) - compared)
    if not missing:
        return CheckOutcome(True, "every model is on the scoreboard")
    return CheckOutcome(
        False,
        f"no out-of-sample scores for {', '.join(missing)}: forecast origins after the checkpoint's cutoff whose "
        "targets have closed, then score them",
    )
