"""TiRex (package tirex-ts): an xLSTM of 35 million parameters. https://github.com/NX-AI/tirex

Quantile levels .1, .2, … .9; 2,048 bars; patches of 32 steps, each forecast after the one before. Its licence permits
commercial use to organisations with a revenue up to 100 million euros. Its weights are a file of PyTorch, which
`candlecast fetch` does not download: they are read from a folder, without running code of the file.
"""

from __future__ import annotations

import numpy as np

from assets.forecasting.models.pretrained import DECILES, LEAST_CLOSES, Network, PretrainedQuantiles
from assets.forecasting.models.series import require_at_least, require_package, versions
from assets.forecasting.models.weights import find_weights
from resources.compute import Compute
from resources.settings import Settings

NAME, CHECKPOINT = "tirex", "model.ckpt"
LICENCE = "LicenseRef-NXAI-Community"
CONTEXT = 512
# The longest horizon of its authors' evaluation.
STEPS = 720


def tirex(settings: Settings, *, model: str, context: int = CONTEXT) -> PretrainedQuantiles:
    """TiRex.

    Args:
        model: a folder with model.ckpt.
        context: bars that it reads, at most; it pads them to the context of its training.

    Raises:
        CandlecastError: its package or weights are missing, or an option is out of range.
    """
    require_package(NAME, "tirex-ts", extra="tirex")
    require_at_least(NAME, context=(context, LEAST_CLOSES))
    weights = find_weights(settings, model, None, files=(CHECKPOINT,))
    recipe = {"weights": weights.identity, **versions("tirex-ts")}

    def load() -> Network:
        import torch
        from tirex.models.tirex import TiRexZero

        compute = Compute(settings.compute)
        # Not tirex.load_model: it takes the first two parts of a path for a hub id.
        loaded = TiRexZero.from_pretrained(
            str(weights.folder / CHECKPOINT), backend="torch", device=str(compute.device())
        ).eval()
        compute.use_threads(loaded)

        def forecast(closes: np.ndarray, steps: int) -> np.ndarray:
            quantiles, _ = loaded.forecast(
                torch.from_numpy(closes), prediction_length=steps, batch_size=len(closes), output_type="numpy"
            )
            return np.asarray(quantiles)

        return forecast

    return PretrainedQuantiles(NAME, "foundation model", LICENCE, weights.cutoff, recipe, context, DECILES, STEPS, load)
