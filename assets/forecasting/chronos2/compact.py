"""A compact Chronos-2 without training: the architecture of the published model in the shape of the settings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from resources.settings import Chronos2Settings

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline

QUANTILES = [0.01, *(round(0.05 * i, 2) for i in range(1, 20)), 0.99]


def new_chronos2(settings: Chronos2Settings, horizon: int, dropout: float = 0.1) -> Chronos2Pipeline:
    """A compact Chronos-2 of the shape in the settings, initialised from torch's random generator."""
    from chronos import Chronos2Pipeline
    from chronos.chronos2.config import Chronos2CoreConfig
    from chronos.chronos2.model import Chronos2Model

    patch = settings.patch_size
    config = Chronos2CoreConfig(
        d_model=settings.d_model,
        d_kv=settings.d_model // settings.num_heads,
        d_ff=settings.d_ff,
        num_layers=settings.num_layers,
        num_heads=settings.num_heads,
        dropout_rate=dropout,
        architectures=["Chronos2Model"],
        chronos_pipeline_class="Chronos2Pipeline",
        chronos_config={
            "context_length": settings.context_length,
            "input_patch_size": patch,
            "input_patch_stride": patch,
            "output_patch_size": patch,
            "max_output_patches": math.ceil(horizon / patch),
            "quantiles": QUANTILES,
            "use_arcsinh": True,
            "use_reg_token": True,
            "time_encoding_scale": settings.context_length,
        },
    )
    return Chronos2Pipeline(model=Chronos2Model(config))
