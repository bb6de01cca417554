"""Chronos-2's forecasts: marginal quantiles of the close.

The input is the log of the adjusted close, adjusted as of the origin. Two corrections are applied to the output:

- Neighbouring quantiles cross in a few per cent of pairs: they are sorted, and the rate is reported.
- Weights answer a limited number of steps at once: 16 for the packaged ones, 1,024 for the published ones. Further
  steps are blocks of independent increments, see `extend_quantiles`. chronos' own long-horizon heuristic feeds
  quantiles back as history and drops their spread: the 90 % band of the packaged weights shrinks by 27 % at step 17.
- `forecasts.recentre`: the quantiles are shifted so that the median is the last close. A compact model that was trained
  on log closes and their negatives has learnt a width and a shape; its median is noise around "no change", and costs
  score. Recentred, it scores like a random walk with 252-day volatility (relative pinball loss .995–1.003 on 100 US
  stocks, 2019–20). It then predicts no direction, and has no score for it. Published weights are not recentred.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from assets.forecasting.forecaster import (
    ForecastModel,
    ForecastTask,
    Predict,
    Prediction,
    forecast_checkpoint,
    market_recipe,
    trained_until,
)
from assets.forecasting.lookbacks import fill_lookbacks
from assets.market.gaps import GapFill
from resources.checkpoints import Checkpoint, CheckpointStore
from resources.compute import Compute
from resources.errors import CandlecastError
from resources.licences import UNKNOWN
from resources.settings import Settings

MODEL = "chronos2"
VERSION = 1
BATCH_SIZE = 1024
# Every batch has this many series, padded with its last one: the rounding of a matrix product depends on its shape, and
# a forecast must not depend on the number of series beside it.
SERIES_AT_ONCE = 64


def chronos2_forecaster(settings: Settings, checkpoints: CheckpointStore) -> ForecastModel:
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
        **GapFill.of(settings, weights.card.get("training")).recipe,
    }
    steps = steps_at_once(weights.folder)
    if steps < settings.windows.predict_window:
        # Left out elsewhere: a new key would change the `checkpoint` of every stored forecast.
        recipe["independent_blocks"] = steps
    return ForecastModel(
        model=MODEL,
        checkpoint=forecast_checkpoint(recipe, weights),
        weights=weights.digest,
        recipe=recipe,
        trained_until=trained_until(weights),
        load=cache(lambda: _load(settings, weights)),
        batch_size=BATCH_SIZE,
        family="foundation model",
        licence=settings.chronos2.licence or str(weights.card.get("licence", UNKNOWN)),
    )


def steps_at_once(folder: Path) -> int:
    """The number of steps that some Chronos-2 weights were made to forecast in one pass."""
    config = json.loads((folder / "config.json").read_text())["chronos_config"]
    return int(config["max_output_patches"] * config["output_patch_size"])


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

    fill = GapFill.of(settings, weights.card.get("training"))

    def predict(tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        logs = [_log_closes(task, context) for task in fill_lookbacks(tasks, fill)]
        steps = min(targets.shape[1], steps_at_once(weights.folder))
        raw = np.empty((len(tasks), steps, len(levels)))
        for start in range(0, len(logs), SERIES_AT_ONCE):
            chunk = logs[start : start + SERIES_AT_ONCE]
            padded = chunk + [chunk[-1]] * (SERIES_AT_ONCE - len(chunk))
            outputs, _ = pipeline.predict_quantiles(
                [torch.from_numpy(series.astype(np.float32)) for series in padded],
                prediction_length=steps,
                quantile_levels=levels,
                context_length=context,
                batch_size=SERIES_AT_ONCE,
                cross_learning=False,
            )
            for row, output in enumerate(outputs[: len(chunk)]):
                raw[start + row] = output[0].numpy()
        crossed = (np.diff(raw, axis=-1) < 0).mean(axis=(1, 2))
        last_close = np.array([series[-1] for series in logs])
        median = levels.index(0.5)
        extended = extend_quantiles(np.sort(raw, axis=-1), last_close, targets.shape[1], median)
        quantiles = quantiles_to_prices(extended, last_close, median if settings.forecasts.recentre else None)
        return Prediction(("close",), quantiles[:, :, None], crossed)

    return predict


def extend_quantiles(ordered: np.ndarray, last_close: np.ndarray, horizon: int, median: int) -> np.ndarray:
    """Log quantiles of `steps` steps continued to `horizon` steps: (tasks, steps, levels) → (tasks, horizon, levels).

    The path is taken for a sum of independent increments that are distributed as those of the first block of steps. So
    medians add up, and the squared distances of the quantiles from the median do: a random walk's band keeps growing
    with the square root of the step. Distances do not shrink with the step: the packaged weights, trained for 10 steps,
    have a band at step 11 that is 12 % narrower than at step 10.

    Args:
        ordered: increasing with level. Returned as they are if they reach the horizon.
        last_close: (tasks,) log of the close at the origin.
        median: the number of the level 0.5.
    """
    steps = ordered.shape[1]
    if horizon <= steps:
        return ordered[:, :horizon]
    blocks, within = np.divmod(np.arange(horizon), steps)
    centre = ordered[..., median, None]
    known = np.maximum.accumulate(np.abs(ordered - centre), axis=1)
    distance = np.sqrt(blocks[:, None] * known[:, -1:] ** 2 + known[:, within] ** 2)
    side = np.sign(np.arange(ordered.shape[2]) - median)
    further = blocks[:, None] * (centre[:, -1:] - last_close[:, None, None])
    return np.asarray(centre[:, within] + further + side * distance)


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
