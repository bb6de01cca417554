"""The Kronos models as a PyTorch library: the published weights and numbers, with a key/value cache.

Paper: "Kronos: A Foundation Model for the Language of Financial Markets" (arXiv 2508.02739). Weights:
NeoQuasar/Kronos-{mini,small,base} and NeoQuasar/Kronos-Tokenizer-{2k,base} on the Hugging Face hub.
Importing this package does not import torch; the first access to a model does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kronos.config import KronosConfig, TokenizerConfig
    from kronos.errors import CheckpointError, InputError, InputWarning, KronosError, MismatchError, ScaleWarning
    from kronos.inference.sampling import Sampling
    from kronos.model import Kronos
    from kronos.normalisation import NORMALISATION_VERSION, Normalisation
    from kronos.path_forecast import FirstStepLaw, PathResult
    from kronos.plotting import plot_forecast
    from kronos.predictor import KronosPredictor
    from kronos.tokenizer import KronosTokenizer
    from kronos.window_pool import Window

_MODULES = {
    "CheckpointError": "errors",
    "FirstStepLaw": "path_forecast",
    "InputError": "errors",
    "InputWarning": "errors",
    "Kronos": "model",
    "KronosConfig": "config",
    "KronosError": "errors",
    "KronosPredictor": "predictor",
    "KronosTokenizer": "tokenizer",
    "MismatchError": "errors",
    "NORMALISATION_VERSION": "normalisation",
    "Normalisation": "normalisation",
    "PathResult": "path_forecast",
    "Sampling": "inference.sampling",
    "ScaleWarning": "errors",
    "TokenizerConfig": "config",
    "Window": "window_pool",
    "plot_forecast": "plotting",
}

__all__ = [
    "NORMALISATION_VERSION",
    "CheckpointError",
    "FirstStepLaw",
    "InputError",
    "InputWarning",
    "Kronos",
    "KronosConfig",
    "KronosError",
    "KronosPredictor",
    "KronosTokenizer",
    "MismatchError",
    "Normalisation",
    "PathResult",
    "Sampling",
    "ScaleWarning",
    "TokenizerConfig",
    "Window",
    "plot_forecast",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'kronos' has no attribute {name!r}")
    return getattr(importlib.import_module(f"kronos.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
