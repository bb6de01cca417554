"""Fracast-0 (package fracast): a convolutional model of 85,001 parameters whose weights come inside its wheel.

Quantile levels .1, .2, … .9; up to 2,048 bars; 48 steps in one pass. https://github.com/ztxtech/fracast-0
"""

from __future__ import annotations

from datetime import date

import numpy as np

from assets.forecasting.models.pretrained import DECILES, LEAST_CLOSES, Network, PretrainedQuantiles
from assets.forecasting.models.series import require_at_least, require_package, versions
from resources.compute import Compute
from resources.errors import CandlecastError
from resources.settings import Settings

NAME = "fracast"
CONTEXT, MOST, STEPS = 512, 2048, 48
# Its authors state no end of the training data (public corpora and synthetic series): the day of the release on PyPI.
PUBLISHED = date(2026, 9, 26)


def fracast(settings: Settings, *, context: int = CONTEXT) -> PretrainedQuantiles:
    """Fracast-0. `context`: bars that it reads, at most 2,048.

    Raises:
        CandlecastError: its package is not installed or an option is out of range.
    """
    require_package(NAME, "fracast", extra="fracast")
    require_at_least(NAME, context=(context, LEAST_CLOSES))
    if context > MOST:
        raise CandlecastError(f"{NAME}: the option context = {context} exceeds the {MOST} bars that it reads")
    recipe = {"weights": "in the package, float32", **versions("fracast")}

    def load() -> Network:
        from fracast import FracastModel

        compute = Compute(settings.compute)
        model = FracastModel.from_pretrained(weights="fp32", device=compute.device())
        compute.use_threads(model.core, model.head)

        def forecast(closes: np.ndarray, steps: int) -> np.ndarray:
            return np.asarray(model.forecast_batch(closes, horizon=steps))

        return forecast

    return PretrainedQuantiles(NAME, "foundation model", "Apache-2.0", PUBLISHED, recipe, context, DECILES, STEPS, load)
