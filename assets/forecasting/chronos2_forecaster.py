"""Chronos-2's forecasts: marginal quantiles of the close.

The input is the log of the adjusted close, adjusted as of the origin. Two corrections are applied to the output:

- Neighbouring quantiles cross in a few per cent of pairs: they are sorted, and the rate is reported.
- `forecasts.recentre`: the quantiles are shifted so that the median is the last close. A compact model that was trained
  on log closes and their negatives has learnt a width and a shape; its median is noise around "no change", and costs
  score. Recentred, it scores like a random walk with 252-day volatility (relative pinball loss .995–1.003 on 100 US
  stocks, 2019–20). It then predicts no direction, and has no score for it. Published weights are not recentred.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from assets.forecasting.forecaster import (
    Forecaster,
    ForecastTask,
    Predict,
    Prediction,
    forecast_checkpoint,
    market_recipe,
    trained_until,
)
from resources.checkpoints import Checkpoint, CheckpointStore
from resources.compute import Compute
from resources.errors import CandlecastError
from resources.settings import Settings

MODEL = "chronos2"
VERSION = 1
BATCH_SIZE = 1024
# Every batch has this many series, padded with its last one: the rounding of a matrix product depends on its shape, and
# a forecast must not depend on the number of series beside it.
SERIES_AT_ONCE = 64


def chronos2_forecaster(settings: Settings, checkpoints: CheckpointStore) -> Forecaster:
    """The forecaster of the Chronos-2 checkpoint in use.

    Raises:
        CandlecastError: there is no checkpoint yet.
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
        **market_recipe(settings.market),
    }
    return Forecaster(
        model=MODEL,
        checkpoint=forecast_checkpoint(recipe, weights),
        weights=weights.digest,
        recipe=recipe,
        trained_until=trained_until(weights),
        load=cache(lambda: _load(settings, weights)),
        batch_size=BATCH_SIZE,
    )


def _load(settings: Settings, weights: Checkpoint) -> Predict:
    import torch
    from chronos import Chronos2Pipeline
    from transformers.utils.logging import disable_progress_bar

    compute = Compute(settings.compute)
    disable_progress_bar()
    pipeline = Chronos2Pipeline.from_pretrained(weights.folder, device_map=str(compute.device()))
    pipeline.model.eval()
    compute.use_threads(pipeline.model)
    context, levels = settings.chronos2.context_length, list(settings.forecasts.levels)

    def predict(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        logs = [_log_closes(task, context) for task in tasks]
        raw = np.empty((len(tasks), targets.shape[1], len(levels)))
        for start in range(0, len(logs), SERIES_AT_ONCE):
            chunk = logs[start : start + SERIES_AT_ONCE]
            padded = chunk + [chunk[-1]] * (SERIES_AT_ONCE - len(chunk))
            outputs, _ = pipeline.predict_quantiles(
                [torch.from_numpy(series.astype(np.float32)) for series in padded],
                prediction_length=targets.shape[1],
                quantile_levels=levels,
                context_length=context,
                batch_size=SERIES_AT_ONCE,
                cross_learning=False,
            )
            for row, output in enumerate(outputs[: len(chunk)]):
                raw[start + row] = output[0].numpy()
        crossed = (np.diff(raw, axis=-1) < 0).mean(axis=(1, 2))
        last_close = np.array([series[-1] for series in logs])
        quantiles = quantiles_to_prices(raw, last_close, levels.index(0.5) if settings.forecasts.recentre else None)
        return Prediction(("close",), quantiles[:, :, None], crossed)

    return predict


def quantiles_to_prices(raw: np.ndarray, last_close: np.ndarray, median: int | None) -> np.ndarray:
    """Log quantiles (tasks, steps, levels) → sorted prices.

    Args:
        last_close: (tasks,) log of the close at the origin.
        median: the number of the level that is shifted onto `last_close`; None: no shift.
    """
    ordered = np.sort(raw, axis=-1)
    if median is not None:
        ordered = ordered - ordered[..., median, None] + last_close[:, None, None]
    return np.asarray(np.exp(ordered))


def _log_closes(task: ForecastTask, context: int) -> np.ndarray:
    closes = task.history.closes_as_of(task.index, first=max(0, task.index + 1 - context))
    if not (np.isfinite(closes) & (closes > 0)).all():
        raise CandlecastError(
            f"Chronos-2 needs finite positive closes: {task.symbol} has a close that is not, in the {len(closes)} bars "
            f"up to {task.origin}, and it would invalidate every series of its batch. See the asset checks on bars"
        )
    return np.asarray(np.log(closes))
