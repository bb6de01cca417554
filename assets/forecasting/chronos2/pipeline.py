"""Chronos pipelines for forecasts: loading weights, the steps of one pass, and the series of a batch.

Not here: training (assets.training.fit.chronos2), and what the input is (inputs, models.chronos_models).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from resources.compute import BYTES_PER_WEIGHT, LARGE, Compute
from resources.settings import Settings

if TYPE_CHECKING:
    from chronos import BaseChronosPipeline

    Pipeline = TypeVar("Pipeline", bound=BaseChronosPipeline)

# Series per batch of compact and of larger weights. A compact model is limited by the cost of a call; a larger one
# takes about as long per series at 8 as at 115 (68 and 64 ms on one core), and five symbols do not pay for 64.
SERIES_AT_ONCE, SERIES_AT_ONCE_LARGE = 64, 8
# On a GPU. Larger weights have fewer with contexts longer than this: at 2,048 bars, 32 cost five symbols 1.4 × and 115
# symbols 1.3 × what the bare pipeline takes on an H200, 128 cost 4.3 × and 1.1 ×.
SERIES_AT_ONCE_CUDA, CUDA_CONTEXT = 128, 512


def load_pipeline(kind: type[Pipeline], source: Path | str, compute: Compute, revision: str | None = None) -> Pipeline:
    """A pipeline ready to forecast, on the device of the settings.

    Args:
        source: a folder, or a hub id with its revision.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    options = {} if revision is None else {"revision": revision}
    pipeline: Pipeline = kind.from_pretrained(source, device_map=str(compute.device()), **options)
    pipeline.inner_model.eval()
    compute.use_threads(pipeline.inner_model)
    return pipeline


def steps_at_once(folder: Path) -> int:
    """The number of steps that the Chronos weights of a folder were made to forecast in one pass."""
    config = json.loads((folder / "config.json").read_text())["chronos_config"]
    if "max_output_patches" in config:
        return int(config["max_output_patches"] * config["output_patch_size"])
    return int(config["prediction_length"])


def series_at_once(settings: Settings, folder: Path, device: str = "cpu") -> int:
    """The number of series in every batch of Chronos-2: of the settings, else one that suits weights and device.

    Every batch has it, as the rounding of a matrix product depends on its shape. Recipes state that of the CPU on every
    machine: forecasts of a GPU are scored on machines without one, too.
    """
    if settings.chronos2.series_at_once is not None:
        return settings.chronos2.series_at_once
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return suitable_series_at_once(size // BYTES_PER_WEIGHT, settings.chronos2.context_length, device)


def suitable_series_at_once(weights: int, context: int, device: str) -> int:
    """The number of series in every batch that suits a number of weights, a context in bars and a device by name."""
    if device.startswith("cuda"):
        longer = max(1, context // CUDA_CONTEXT) if weights >= LARGE else 1
        return max(SERIES_AT_ONCE_LARGE, SERIES_AT_ONCE_CUDA // longer)
    return SERIES_AT_ONCE if weights < LARGE else SERIES_AT_ONCE_LARGE
