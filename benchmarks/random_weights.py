"""Folders of random weights in the structure of published ones: Chronos, Chronos-Bolt, Chronos-2 and Kronos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from assets.forecasting.chronos2.compact import new_chronos2
from assets.forecasting.models.pretrained import DECILES
from benchmarks.kronos_workload import models
from resources.settings import Chronos2Settings

# Of amazon/chronos-2.
CHRONOS_2 = {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12, "patch_size": 16}
# d_model, layers of encoder and of decoder, heads, width of the feed-forward layers; heads are 64 wide. From the
# config.json of amazon/chronos-t5-… and amazon/chronos-bolt-… of the same name.
T5_SHAPES = {
    "tiny": (256, 4, 4, 1024),
    "mini": (384, 4, 8, 1536),
    "small": (512, 6, 8, 2048),
    "base": (768, 12, 12, 3072),
}
Shape = tuple[int, int, int, int]


def save_chronos_bolt(folder: Path, shape: Shape, context: int = 2048, steps: int = 64) -> None:
    """A Chronos-Bolt model."""
    from chronos.chronos_bolt import ChronosBoltModelForForecasting

    chronos = {
        "context_length": context,
        "input_patch_size": 16,
        "input_patch_stride": 16,
        "prediction_length": steps,
        "quantiles": list(DECILES),
        "use_reg_token": True,
    }
    config = _t5_config(shape, 2, "ChronosBoltModelForForecasting", "ChronosBoltPipeline", chronos)
    torch.manual_seed(0)
    ChronosBoltModelForForecasting(config).save_pretrained(folder)


def save_chronos_t5(folder: Path, shape: Shape, context: int = 512, steps: int = 64, tokens: int = 4096) -> None:
    """A Chronos model of the first generation."""
    from transformers import T5ForConditionalGeneration

    chronos = {
        "tokenizer_class": "MeanScaleUniformBins",
        "tokenizer_kwargs": {"low_limit": -15.0, "high_limit": 15.0},
        "n_tokens": tokens,
        "n_special_tokens": 2,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "use_eos_token": True,
        "model_type": "seq2seq",
        "context_length": context,
        "prediction_length": steps,
        "num_samples": 20,
        "temperature": 1.0,
        "top_k": 50,
        "top_p": 1.0,
    }
    config = _t5_config(shape, tokens, "T5ForConditionalGeneration", "ChronosPipeline", chronos)
    torch.manual_seed(0)
    T5ForConditionalGeneration(config).save_pretrained(folder)


def save_chronos_2(folder: Path) -> None:
    """A Chronos-2 model of the published size, 120 million parameters."""
    torch.manual_seed(0)
    new_chronos2(published_chronos_2(8192), horizon=1024).save_pretrained(folder)


def published_chronos_2(context: int) -> Chronos2Settings:
    """The settings of a Chronos-2 model of the published size with a context of some steps."""
    return Chronos2Settings.model_validate({**CHRONOS_2, "context_length": context})


def save_kronos(folder: Path, size: str) -> None:
    """A Kronos predictor and its tokenizer, in the folders `predictor` and `tokenizer`."""
    predictor, tokenizer = models(size)
    predictor.save_pretrained(folder / "predictor")
    tokenizer.save_pretrained(folder / "tokenizer")


def _t5_config(shape: Shape, tokens: int, architecture: str, pipeline: str, chronos: dict[str, Any]) -> Any:
    from transformers import T5Config

    d_model, layers, heads, d_ff = shape
    options: dict[str, Any] = {
        "d_model": d_model,
        "d_kv": 64,
        "d_ff": d_ff,
        "num_layers": layers,
        "num_heads": heads,
        "vocab_size": tokens,
        "pad_token_id": 0,
        "decoder_start_token_id": 0,
        "eos_token_id": 1,
        "architectures": [architecture],
        "chronos_pipeline_class": pipeline,
        "chronos_config": chronos,
    }
    return T5Config(**options)
