"""Kronos of any size by hub id or folder: sample paths of whole bars, without training.

The asset `kronos_forecasts` trains Kronos; this forecaster uses weights as they are, so that several sizes stand beside
each other. Windows, sampling and precision are those of the settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assets.forecasting.kronos_forecaster import load_predictor, read_quantiles, sample_paths
from assets.forecasting.models.pretrained import LEAST_CLOSES
from assets.forecasting.models.series import log_closes, require_at_least
from assets.forecasting.models.weights import find_weights
from assets.forecasting.plugin import ForecastInput, Paths
from resources.licences import UNKNOWN
from resources.settings import Settings

if TYPE_CHECKING:
    from kronos import KronosPredictor

NAME, VERSION = "kronos_hub", 3
DEFAULT = "NeoQuasar/Kronos-small"
# The tokenizer that each published size was trained with.
TOKENIZERS = {"NeoQuasar/Kronos-mini": "NeoQuasar/Kronos-Tokenizer-2k"}
DEFAULT_TOKENIZER = "NeoQuasar/Kronos-Tokenizer-base"


def kronos_hub(
    settings: Settings,
    *,
    model: str = DEFAULT,
    revision: str | None = None,
    tokenizer: str | None = None,
    tokenizer_revision: str | None = None,
    lookback: int | None = None,
) -> KronosHub:
    """A Kronos model.

    Args:
        model: a hub id or a folder.
        tokenizer: a hub id or a folder; default: the published one of that size.
        lookback: bars that it reads; default: windows.lookback_window.

    Raises:
        CandlecastError: the weights cannot be found.
    """
    bars = settings.windows.lookback_window if lookback is None else lookback
    require_at_least(NAME, lookback=(bars, LEAST_CLOSES))
    predictor = find_weights(settings, model, revision)
    named = tokenizer or TOKENIZERS.get(model, DEFAULT_TOKENIZER)
    encoder = find_weights(settings, named, tokenizer_revision)
    both = {predictor.licence, encoder.licence}
    windows, forecasts = settings.windows, settings.forecasts
    return KronosHub(
        settings,
        predictor.folder,
        encoder.folder,
        bars,
        licence=both.pop() if len(both) == 1 else UNKNOWN,
        cutoff=max(predictor.cutoff, encoder.cutoff) if predictor.cutoff and encoder.cutoff else None,
        recipe={
            "version": VERSION,
            "weights": predictor.identity,
            "tokenizer": encoder.identity,
            "max_context": windows.max_context,
            "clip": windows.clip,
            "sample_count": forecasts.sample_count,
            "temperature": forecasts.temperature,
            "top_k": forecasts.top_k,
            "top_p": forecasts.top_p,
            "reading": forecasts.reading,
            "dtype": settings.compute.dtype,
        },
    )


@dataclass
class KronosHub:
    """The forecaster of one predictor and its tokenizer."""

    settings: Settings
    predictor: Path
    tokenizer: Path
    lookback: int | None
    licence: str
    cutoff: date | None
    recipe: dict[str, object]
    family: str = "foundation model"

    @cached_property
    def model(self) -> KronosPredictor:
        return load_predictor(self.settings, self.predictor, self.tokenizer)

    def predict(self, inputs: Sequence[ForecastInput], levels: Sequence[float]) -> Paths:
        """Paths of bars, (inputs, paths, horizon, 6), and their quantiles by `forecasts.reading`.

        Raises:
            CandlecastError: the closes of an input cannot be used.
            kronos.InputError: its bars are not valid, with symbol, field and row.
        """
        for one in inputs:
            log_closes(one, LEAST_CLOSES)
        result = sample_paths(
            self.model,
            self.settings.forecasts,
            [one.bars for one in inputs],
            [one.stamps for one in inputs],
            [one.targets for one in inputs],
            seeds=[one.seed for one in inputs],
            names=[f"{one.symbol} from {one.origin}" for one in inputs],
        )
        # As of the asset kronos_forecasts: the same weights have the same quantiles.
        quantiles = read_quantiles(result, self.settings.forecasts.reading, levels)
        return Paths(np.asarray(result.paths, dtype=np.float64), quantiles)
