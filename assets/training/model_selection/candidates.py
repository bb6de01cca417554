"""Forecasts of a candidate checkpoint over the validation range, as if it were the one in use."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from typing import Any

import pandas as pd

from assets.forecasting.chronos2.forecaster import OtherSymbols, chronos2_forecaster
from assets.forecasting.forecaster import ForecastModel
from assets.forecasting.kronos_forecaster import kronos_forecaster
from assets.training.data.dataset import WindowArrays
from assets.training.model_selection.scoring import (
    SCORE_COLUMNS,
    histories_in,
    mean_rank_ic,
    score_forecasts,
    validation_tasks,
)
from resources.checkpoints import Checkpoint, CheckpointStore, Kind
from resources.settings import ForecastSettings, Settings


@dataclass(frozen=True)
class CandidateStore(CheckpointStore):
    """A store in which a candidate is the checkpoint in use.

    Attributes:
        tokenizer: the candidate's tokenizer, if it is not in the store.
    """

    candidate: Checkpoint
    tokenizer: Checkpoint | None = None

    def current(self, kind: Kind) -> Checkpoint | None:
        return self.candidate if kind == self.candidate.kind else super().current(kind)

    def load(self, kind: Kind, digest: str) -> Checkpoint:
        for own in (self.candidate, self.tokenizer):
            if own is not None and (own.kind, own.digest) == (kind, digest):
                return own
        return super().load(kind, digest)


def candidate_scores(
    store: CandidateStore,
    settings: Settings,
    arrays: WindowArrays,
    origins: int,
    paths: int,
    trained_until: date | None = None,
) -> pd.DataFrame:
    """Scores of the candidate's forecasts at origins of the validation range, sampled at top_p = 1.

    Args:
        origins: number of origins, evenly spaced.
        paths: sample paths per forecast.
        trained_until: origins up to this day are in-sample and left out; none: all are used.
    """
    unfiltered = ForecastSettings(
        sample_count=paths, levels=settings.forecasts.levels, recentre=settings.forecasts.recentre
    )
    settings = settings.model_copy(update={"forecasts": unfiltered})
    forecaster = replace(_forecaster(store, settings, arrays), trained_until=trained_until)
    tasks = [task for task in validation_tasks(arrays, origins) if not forecaster.in_sample(task.origin)]
    if not tasks:
        return pd.DataFrame(columns=list(SCORE_COLUMNS))
    predict = forecaster.load()
    return score_forecasts(predict, tasks, arrays.shape.horizon, unfiltered.levels, forecaster.batch_size)


def _forecaster(store: CandidateStore, settings: Settings, arrays: WindowArrays) -> ForecastModel:
    """The candidate's forecaster. It reads the arrays alone, as a training process opens no warehouse."""
    if store.candidate.kind == "kronos_predictor":
        return kronos_forecaster(settings, store)
    others = OtherSymbols(cache(lambda: histories_in(arrays)), lambda: arrays.market)
    return chronos2_forecaster(settings, store, others)


def mean_scores(scores: pd.DataFrame) -> dict[str, Any]:
    """The means for a card: CRPS in percent of the close, and rank correlation."""
    return {"crps": float(scores["crps"].mean()), "rank_ic": mean_rank_ic(scores)}
