"""TimesFM 2.5 and 3.0 (package timesfm). https://github.com/google-research/timesfm

Quantile levels .1, .2, … .9. The weights of 2.5 are under Apache-2.0, those of 3.0 forbid commercial use.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from assets.forecasting.models.pretrained import (
    DECILES,
    LEAST_CLOSES,
    SERIES_AT_ONCE,
    Network,
    PretrainedQuantiles,
)
from assets.forecasting.models.series import require_at_least, require_package, versions
from assets.forecasting.models.weights import CONFIG, SAFETENSORS, PublishedWeights, find_weights
from resources.compute import Compute
from resources.errors import CandlecastError
from resources.settings import Settings

Generation = Literal["2.5", "3.0"]
NAME = "timesfm"
DEFAULTS: dict[str, str] = {"2.5": "google/timesfm-2.5-200m-pytorch", "3.0": "google/timesfm-3.0-pytorch"}
NON_COMMERCIAL = "LicenseRef-timesfm-non-commercial-1.0"
CONTEXT = 512
# One pass of the quantile head of 2.5; 3.0 decodes patches of 64 steps, one after the other.
STEPS = 1024


def timesfm(
    settings: Settings,
    *,
    generation: Generation = "2.5",
    model: str | None = None,
    revision: str | None = None,
    context: int = CONTEXT,
) -> PretrainedQuantiles:
    """TimesFM.

    Args:
        model: a hub id or a folder with model.safetensors, and config.json for 3.0; default: the published weights.
        context: bars that it reads, at most.

    Raises:
        CandlecastError: its package or weights are missing, or an option is out of range.
    """
    if generation not in get_args(Generation):
        raise CandlecastError(f"{NAME}: the option generation = {generation!r} must be one of {', '.join(DEFAULTS)}")
    require_package(NAME, "timesfm", extra="timesfm")
    require_at_least(NAME, context=(context, LEAST_CLOSES))
    # The config of 2.5 is in its package.
    files = (CONFIG, SAFETENSORS) if generation == "3.0" else (SAFETENSORS,)
    weights = find_weights(settings, model or DEFAULTS[generation], revision, files)
    recipe = {"generation": generation, "weights": weights.identity, **versions("timesfm")}
    horizon = min(settings.windows.predict_window, STEPS)

    def load() -> Network:
        return _load_3(settings, weights) if generation == "3.0" else _load_2(settings, weights, context, horizon)

    # The hub's card names no SPDX identifier for 3.0.
    licence = NON_COMMERCIAL if generation == "3.0" else weights.licence
    return PretrainedQuantiles(NAME, "foundation model", licence, weights.cutoff, recipe, context, DECILES, STEPS, load)


def _load_2(settings: Settings, weights: PublishedWeights, context: int, horizon: int) -> Network:
    from timesfm import ForecastConfig, TimesFM_2p5_200M_torch

    compute = Compute(settings.compute)
    model = TimesFM_2p5_200M_torch.from_pretrained(str(weights.folder), torch_compile=False)
    model.model.device, model.model.device_count = compute.device(), 1
    model.model.to(compute.device())
    compute.use_threads(model.model)
    # infer_is_positive would forbid falling prices: the closes are logarithms relative to the newest one.
    model.compile(
        ForecastConfig(
            max_context=context,
            max_horizon=horizon,
            normalize_inputs=True,
            per_core_batch_size=SERIES_AT_ONCE,
            use_continuous_quantile_head=True,
            force_flip_invariance=True,
            infer_is_positive=False,
            fix_quantile_crossing=True,
        )
    )

    def forecast(closes: np.ndarray, steps: int) -> np.ndarray:
        _, quantiles = model.forecast(horizon=steps, inputs=list(closes))
        return np.asarray(quantiles)[..., 1:]  # the first is the mean

    return forecast


def _load_3(settings: Settings, weights: PublishedWeights) -> Network:
    from timesfm3 import TimesFM3Forecaster

    compute = Compute(settings.compute)
    # One series at a time: it strips what is missing at the start and pads to the longest of a batch.
    model = TimesFM3Forecaster.from_pretrained(str(weights.folder), device=str(compute.device()), per_core_batch_size=1)
    compute.use_threads(model.model)

    def forecast(closes: np.ndarray, steps: int) -> np.ndarray:
        return np.stack(
            [found.quantiles for found in model.predict_batch(list(closes), horizon=steps, return_quantiles=True)]
        )

    return forecast
