"""Embeddings of windows of bars: the hidden states of Kronos and of Chronos-2 as features for other models.

Belongs here: which bars a model reads, and what of its states is kept. Not here: the asset and its files
(assets.forecasts), a forecaster that uses them (models.embedding_ridge).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from assets.forecasting.chronos2.input_settings import with_inputs_of
from assets.forecasting.chronos2.pipeline import load_pipeline, series_at_once
from assets.forecasting.chronos2.standardised import ROWS, TARGET, anchored, origin_scale
from assets.forecasting.forecaster import ForecastTask, forecast_checkpoint, market_recipe, trained_until
from assets.forecasting.kronos_forecaster import load_predictor, tokenizer_of
from assets.forecasting.lookbacks import fill_lookbacks
from assets.market.gaps import GapFill
from assets.market.history import CLOSE
from resources.checkpoints import Checkpoint, CheckpointStore
from resources.compute import Compute
from resources.errors import CandlecastError
from resources.licences import UNKNOWN
from resources.settings import Settings

if TYPE_CHECKING:
    from kronos.inference.hidden_states import Pooling

VERSION = 1
BATCH_SIZE = 512

# Bars (rows, 6) and timestamps (rows,) of some windows → vectors (windows, dimensions) float32. The vector of a window
# depends on no other window, on their order or on their number.
Embed = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Embedder:
    """A model as a function from windows of bars to vectors.

    Attributes:
        checkpoint: digest of weights and recipe, as that of a forecast.
        trained_until: the last day whose bars the weights were trained on.
        bars: bars that a window has at most.
        load: reads the weights, once.
    """

    model: str
    checkpoint: str
    trained_until: date
    licence: str
    bars: int
    fill: GapFill
    load: Callable[[], Embed]

    def in_sample(self, origin: np.datetime64) -> bool:
        """Whether the weights may have been trained on the origin's day."""
        return bool(origin.astype("datetime64[D]").item() <= self.trained_until)


def embedder(model: str, settings: Settings, checkpoints: CheckpointStore, pooling: Pooling) -> Embedder:
    """The embedder of the checkpoint in use.

    Raises:
        CandlecastError: the model has no embeddings, or no checkpoint yet.
    """
    if model == "kronos":
        return _kronos_embedder(settings, checkpoints, pooling)
    if model == "chronos2":
        return _chronos2_embedder(settings, checkpoints, pooling)
    raise CandlecastError(f'there are embeddings of "kronos" and "chronos2", not of {model!r}')


def embed_tasks(source: Embedder, tasks: Sequence[ForecastTask]) -> np.ndarray:
    """The vectors of the bars up to each task's origin: (tasks, dimensions) float32."""
    filled = fill_lookbacks(tasks, source.fill)
    firsts = [max(0, task.index + 1 - source.bars) for task in filled]
    bars = [task.history.bars_as_of(task.index, first) for task, first in zip(filled, firsts, strict=True)]
    stamps = [task.history.stamps[first : task.index + 1] for task, first in zip(filled, firsts, strict=True)]
    return source.load()(bars, stamps)


def _kronos_embedder(settings: Settings, checkpoints: CheckpointStore, pooling: Pooling) -> Embedder:
    predictor = checkpoints.current("kronos_predictor")
    if predictor is None:
        raise CandlecastError("no Kronos checkpoint yet: materialise kronos_tokenizer and kronos_predictor first")
    tokenizer, windows = tokenizer_of(predictor, checkpoints), settings.windows
    read = {
        "tokenizer": tokenizer.digest,
        "lookback_window": windows.lookback_window,
        "clip": windows.clip,
        "dtype": settings.compute.dtype,
    }

    @cache
    def load() -> Embed:
        from kronos.features import time_features
        from kronos.inference.hidden_states import hidden_states

        model = load_predictor(settings, predictor.folder, tokenizer.folder)

        def embed(bars: Sequence[np.ndarray], stamps: Sequence[np.ndarray]) -> np.ndarray:
            return hidden_states(model, bars, [time_features(own) for own in stamps], pooling=pooling)

        return embed

    until = max(trained_until(predictor), trained_until(tokenizer))
    return _embedder("kronos", settings, predictor, until, windows.lookback_window, pooling, read, load)


def _chronos2_embedder(settings: Settings, checkpoints: CheckpointStore, pooling: Pooling) -> Embedder:
    weights = checkpoints.current("chronos2_model")
    if weights is None:
        raise CandlecastError("no Chronos-2 checkpoint yet: materialise chronos2_model first")
    context, compute = settings.chronos2.context_length, Compute(settings.compute)
    targets = with_inputs_of(weights.card, settings).chronos2.targets

    @cache
    def load() -> Embed:
        from chronos import Chronos2Pipeline

        pipeline = load_pipeline(Chronos2Pipeline, weights.folder, compute)
        at_once = series_at_once(settings, weights.folder, compute.device_name())
        patch = int(pipeline.model.chronos_config.input_patch_size)

        def embed(bars: Sequence[np.ndarray], stamps: Sequence[np.ndarray]) -> np.ndarray:
            return _chronos2_vectors(
                pipeline, _chronos2_rows([own[-context:] for own in bars], targets), context, patch, at_once, pooling
            )

        return embed

    read: dict[str, object] = {"context_length": context, "series_at_once": series_at_once(settings, weights.folder)}
    return _embedder("chronos2", settings, weights, trained_until(weights), context, pooling, read, load)


def _chronos2_rows(windows: Sequence[np.ndarray], targets: Sequence[str]) -> list[np.ndarray]:
    """The row of the target of some windows, (bars, 6) each: (bars,) each, log closes or standardised returns."""
    for place, own in enumerate(windows):
        if not (np.isfinite(own[:, CLOSE]) & (own[:, CLOSE] > 0)).all():
            raise CandlecastError(f"Chronos-2 needs finite positive closes, and those of window {place} are not")
    if TARGET in targets:
        return [anchored(ROWS[TARGET](own, origin_scale(own))[None])[0] for own in windows]
    return [np.log(own[:, CLOSE]) for own in windows]


def _chronos2_vectors(
    pipeline: Any, rows: Sequence[np.ndarray], context: int, patch: int, at_once: int, pooling: Pooling
) -> np.ndarray:
    """The states of rows: of the patch to be forecast ("last"), or the mean over patches with a bar ("mean")."""
    import torch

    # Missing bars are NaN at the left, so that all windows have one length.
    logs = np.full((len(rows), context), np.nan, dtype=np.float32)
    for padded, own in zip(logs, rows, strict=True):
        padded[context - len(own) :] = own
    found = []
    for start in range(0, len(logs), at_once):
        chunk = logs[start : start + at_once]
        padded = np.concatenate([chunk, np.repeat(chunk[-1:], at_once - len(chunk), axis=0)])
        states, _ = pipeline.embed(torch.from_numpy(padded)[:, None], at_once, context)
        # Per series: one state per patch, that of the register token, that of the patch to be forecast.
        for own, series in zip(states[: len(chunk)], rows[start:], strict=False):
            patches = -(-len(series) // patch)
            vector = own[0, -1] if pooling == "last" else own[0, -2 - patches : -2].double().mean(dim=0)
            found.append(vector.float().numpy())
    return np.stack(found) if found else np.empty((0, pipeline.model.config.d_model), np.float32)


def _embedder(
    model: str,
    settings: Settings,
    weights: Checkpoint,
    until: date,
    bars: int,
    pooling: Pooling,
    read: dict[str, object],
    load: Callable[[], Embed],
) -> Embedder:
    fill = GapFill.of(settings, weights.card.get("training"))
    recipe = {"embedding": model, "version": VERSION, "pooling": pooling, **read, **fill.recipe}
    checkpoint = forecast_checkpoint({**recipe, **market_recipe(settings.market)}, weights)
    return Embedder(model, checkpoint, until, str(weights.card.get("licence", UNKNOWN)), bars, fill, load)
