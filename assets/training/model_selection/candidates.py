"""Candidates forecasting: a checkpoint held up as if it were in use, judged on the validation range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import pandas as pd

from assets.forecasting.chronos2_forecaster import chronos2_forecaster
from assets.forecasting.forecaster import Forecaster
from assets.forecasting.kronos_forecaster import kronos_forecaster
from assets.training.data.dataset import WindowArrays
from assets.training.model_selection.scoring import judge, mean_rank_ic, validation_tasks
from resources.checkpoints import Checkpoint, CheckpointStore, Kind
from resources.settings import ForecastSettings, Settings

FORECASTERS: dict[Kind, Callable[[Settings, CheckpointStore], Forecaster]] = {
    "kronos_predictor": kronos_forecaster,
    "chronos2_model": chronos2_forecaster,
}


@dataclass(frozen=True)
class TrialStore(CheckpointStore):
    """A store in which one candidate is the one in use. `tokenizer`: the one that goes with it, if not published."""

    candidate: Checkpoint
    tokenizer: Checkpoint | None = None

    def current(self, kind: Kind) -> Checkpoint | None:
        return self.candidate if kind == self.candidate.kind else super().current(kind)

    def load(self, kind: Kind, digest: str) -> Checkpoint:
        for held in (self.candidate, self.tokenizer):
            if held is not None and (held.kind, held.digest) == (kind, digest):
                return held
        return super().load(kind, digest)


def trial_scores(
    store: TrialStore,
    settings: Settings,
    arrays: WindowArrays,
    origins: int,
    paths: int,
    seen_until: date | None = None,
) -> pd.DataFrame:
    """Scores of the candidate's forecasts at origins of the validation range, sampled at top_p = 1.

    Args:
        seen_until: origins up to this day are in-sample, and left out; none: none is.
    """
    fair = ForecastSettings(sample_count=paths, levels=settings.forecasts.levels, recentre=settings.forecasts.recentre)
    settings = settings.model_copy(update={"forecasts": fair})
    forecaster = replace(FORECASTERS[store.candidate.kind](settings, store), learnt_until=seen_until)
    tasks = [task for task in validation_tasks(arrays, origins) if not forecaster.in_sample(task.origin)]
    if not tasks:
        return pd.DataFrame(columns=["symbol", "origin", "until", "step", "crps", "said", "was"])
    return judge(forecaster.load(), tasks, arrays.shape.horizon, fair.levels, forecaster.tasks_at_once)


def summary(scores: pd.DataFrame) -> dict[str, Any]:
    """Two numbers for a card: mean CRPS in per cent of the close, and mean rank correlation."""
    return {"crps": float(scores["crps"].mean()), "rank_ic": mean_rank_ic(scores)}
