"""Chronos-2's forecasts: marginal quantiles of the close.

The model reads the log of the adjusted close, as seen from the origin. Two things are put right:

- Neighbouring quantiles cross in some per cent of pairs: they are sorted, and the rate is reported.
- `forecasts.recentre`: the median is moved onto the last close, and the other quantiles with it. A compact model that
  was trained on log closes and their negatives has learnt a width and a shape; its median is noise around "no change",
  and costs score. Recentred it is level with a random walk of 252-day volatility (relative pinball loss .995–1.003 on
  100 US stocks, 2019–20). It then has no view on direction, and is not scored for one. Published weights keep theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from assets.forecasting.forecaster import Forecaster, Predict, Prediction, Task, bars_of, learnt_until, name_of
from assets.forecasting.threads import use_threads
from resources.checkpoints import Checkpoint, CheckpointStore
from resources.compute import Compute
from resources.errors import CandlecastError
from resources.settings import Settings

MODEL = "chronos2"
VERSION = 1
TASKS_AT_ONCE = 1024
# Always as many series at once, the last one repeated: the shape of a matrix product decides how it is rounded, and a
# forecast must not depend on how many others are made beside it.
SERIES_AT_ONCE = 64


def chronos2_forecaster(settings: Settings, checkpoints: CheckpointStore) -> Forecaster:
    """The Chronos-2 checkpoint in use.

    Raises:
        CandlecastError: there is none yet.
    """
    weights = checkpoints.current("chronos2_model")
    if weights is None:
        raise CandlecastError("no Chronos-2 checkpoint yet: materialise chronos2_model first")
    recipe: dict[str, Any] = {
        "model": MODEL,
        "version": VERSION,
        "lookback_window": settings.windows.lookback_window,
        "predict_window": settings.windows.predict_window,
        "context_length": settings.chronos2.context_length,
        "levels": settings.forecasts.levels,
        "recentre": settings.forecasts.recentre,
        "series_at_once": SERIES_AT_ONCE,
        **bars_of(settings.market),
    }
    return Forecaster(
        model=MODEL,
        checkpoint=name_of(recipe, weights),
        weights=weights.digest,
        recipe=recipe,
        learnt_until=learnt_until(weights),
        load=cache(lambda: _load(settings, weights)),
        tasks_at_once=TASKS_AT_ONCE,
    )


def _load(settings: Settings, weights: Checkpoint) -> Predict:
    import torch
    from chronos import Chronos2Pipeline
    from transformers.utils.logging import disable_progress_bar

    compute = Compute(settings.compute)
    disable_progress_bar()
    pipeline = Chronos2Pipeline.from_pretrained(weights.folder, device_map=str(compute.device()))
    pipeline.model.eval()
    use_threads(compute, pipeline.model)
    context, levels = settings.chronos2.context_length, list(settings.forecasts.levels)

    def predict(tasks: Sequence[Task], targets: np.ndarray) -> Prediction:
        logs = [_log_closes(task, context) for task in tasks]
        raw = np.empty((len(tasks), targets.shape[1], len(levels)))
        for start in range(0, len(logs), SERIES_AT_ONCE):
            chunk = logs[start : start + SERIES_AT_ONCE]
            filled = chunk + [chunk[-1]] * (SERIES_AT_ONCE - len(chunk))
            answers, _ = pipeline.predict_quantiles(
                [torch.from_numpy(series.astype(np.float32)) for series in filled],
                prediction_length=targets.shape[1],
                quantile_levels=levels,
                context_length=context,
                batch_size=SERIES_AT_ONCE,
                cross_learning=False,
            )
            for row, answer in enumerate(answers[: len(chunk)]):
                raw[start + row] = answer[0].numpy()
        crossed = (np.diff(raw, axis=-1) < 0).mean(axis=(1, 2))
        last = np.array([series[-1] for series in logs])
        quantiles = to_prices(raw, last, levels.index(0.5) if settings.forecasts.recentre else None)
        return Prediction(("close",), quantiles[:, :, None], crossed)

    return predict


def to_prices(raw: np.ndarray, last: np.ndarray, median: int | None) -> np.ndarray:
    """Log quantiles (tasks, steps, levels) → prices, sorted; moved so that level number `median` is `last` (tasks,)."""
    ordered = np.sort(raw, axis=-1)
    if median is not None:
        ordered = ordered - ordered[..., median, None] + last[:, None, None]
    return np.exp(ordered)


def _log_closes(task: Task, context: int) -> np.ndarray:
    closes = task.history.closes_seen_from(task.index, first=max(0, task.index + 1 - context))
    if not (np.isfinite(closes) & (closes > 0)).all():
        raise CandlecastError(
            f"Chronos-2 reads finite positive closes: {task.symbol} has another one in the {len(closes)} bars up to "
            f"{task.origin}. One such value would spoil every series beside it; see the contract's checks on bars"
        )
    return np.log(closes)
