"""Chronos of any generation by hub id or folder: Chronos (sample paths), Chronos-Bolt and Chronos-2 (quantiles).

The asset `chronos2_forecasts` trains Chronos-2 and reads covariates; this forecaster uses weights as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from assets.forecasting.chronos2.pipeline import load_pipeline, steps_at_once
from assets.forecasting.models.pretrained import LEAST_CLOSES, VERSION, Network, PretrainedQuantiles
from assets.forecasting.models.series import log_closes, require_at_least, versions
from assets.forecasting.models.weights import PublishedWeights, find_weights
from assets.forecasting.plugin import ForecastInput, Paths
from resources.compute import Compute
from resources.errors import CandlecastError
from resources.settings import Settings

if TYPE_CHECKING:
    from chronos import BaseChronosPipeline, ChronosPipeline

NAME, FAMILY = "chronos", "foundation model"
DEFAULT = "amazon/chronos-bolt-small"
CONTEXT = 512


def chronos(
    settings: Settings, *, model: str = DEFAULT, revision: str | None = None, context: int | None = None
) -> PretrainedQuantiles | ChronosPaths:
    """A Chronos, Chronos-Bolt or Chronos-2 model.

    Args:
        model: a hub id or a folder.
        context: bars that it reads, at most; default: 512, or as many as the weights read.

    Raises:
        CandlecastError: the weights cannot be found, are no Chronos model, or do not give the horizon.
    """
    weights = find_weights(settings, model, revision)
    config = weights.config.get("chronos_config")
    if config is None:
        raise CandlecastError(f"{NAME}: {weights.folder} is no Chronos model: its config.json has no chronos_config")
    context = min(CONTEXT, config["context_length"]) if context is None else context
    require_at_least(NAME, context=(context, LEAST_CLOSES))
    if context > config["context_length"]:
        raise CandlecastError(
            f"{NAME}: the option context = {context} exceeds the {config['context_length']} bars that {model} reads"
        )
    recipe = {"weights": weights.identity, **versions("chronos-forecasting")}
    if "quantiles" not in config:
        drawn = {"version": VERSION, "context": context, "paths": settings.forecasts.sample_count}
        return _paths(settings, weights, model, context, {**drawn, **recipe})
    own_levels, steps = tuple(config["quantiles"]), steps_at_once(weights.folder)

    def load() -> Network:
        pipeline = _load(settings, weights)

        def forecast(closes: np.ndarray, steps: int) -> np.ndarray:
            import torch

            outputs = pipeline.predict([torch.from_numpy(series) for series in closes], prediction_length=steps)
            # Chronos-2 has a dimension of variates: (1, levels, steps) instead of (levels, steps).
            return np.stack([output.numpy().reshape(-1, steps).T for output in outputs])

        return forecast

    return PretrainedQuantiles(NAME, FAMILY, weights.licence, weights.cutoff, recipe, context, own_levels, steps, load)


@dataclass
class ChronosPaths:
    """The first Chronos models: language models whose sample paths are drawn one bar at a time.

    One input at a time, from its own seed: a batch would draw the paths of all inputs from one sequence.
    """

    settings: Settings
    weights: PublishedWeights
    licence: str
    cutoff: date | None
    recipe: dict[str, object]
    lookback: int | None
    family: str = FAMILY

    @cached_property
    def pipeline(self) -> ChronosPipeline:
        loaded: Any = _load(self.settings, self.weights)
        return loaded

    def predict(self, inputs: Sequence[ForecastInput], levels: Sequence[float]) -> Paths:
        """Paths of the close, (inputs, paths, horizon).

        Raises:
            CandlecastError: the closes of an input cannot be used.
        """
        import torch

        device = self.pipeline.inner_model.device
        paths = []
        for one in inputs:
            closes = log_closes(one, LEAST_CLOSES, self.lookback, gaps=True)
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                torch.manual_seed(one.seed)
                drawn = self.pipeline.predict(
                    torch.from_numpy((closes - closes[-1]).astype(np.float32)),
                    prediction_length=len(one.targets),
                    num_samples=self.settings.forecasts.sample_count,
                )
            paths.append(np.exp(drawn[0].numpy().astype(np.float64) + closes[-1]))
        return Paths(np.stack(paths))


def _paths(
    settings: Settings, weights: PublishedWeights, model: str, context: int, recipe: dict[str, object]
) -> ChronosPaths:
    steps, horizon = weights.config["chronos_config"]["prediction_length"], settings.windows.predict_window
    if horizon > steps:
        raise CandlecastError(
            f"{NAME}: {model} draws paths of {steps} bars, not {horizon}: lower the horizon "
            "(windows.predict_window; of predict --horizon and --holdout), or use a Chronos-Bolt or Chronos-2 model"
        )
    return ChronosPaths(settings, weights, weights.licence, weights.cutoff, recipe, context)


def _load(settings: Settings, weights: PublishedWeights) -> BaseChronosPipeline:
    from chronos import BaseChronosPipeline

    return load_pipeline(BaseChronosPipeline, weights.folder, Compute(settings.compute))
