"""Weights in the structure of published ones, tiny and random, and inputs of real bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

from assets.forecasting.forecaster import forecast_seed
from assets.forecasting.plugin import ForecastInput
from benchmarks import random_weights
from tests.forecasts.forecast_home import real_bars

TINY: random_weights.Shape = (16, 1, 2, 32)
BOLT_STEPS = 16


def real_inputs(
    origins: Sequence[date],
    symbols: Sequence[str] = ("AAPL", "IBM", "MSFT"),
    bars: int | None = None,
    horizon: int = 10,
) -> list[ForecastInput]:
    """Inputs of the bars of bokeh-sampledata, as quoted; the last `bars` of them (None: all)."""
    inputs = []
    for origin in origins:
        for symbol in symbols:
            bars_of = real_bars()
            own = bars_of[(bars_of["symbol"] == symbol) & (bars_of["session"] <= str(origin))].sort_values("session")
            stamps = own["ts"].to_numpy().astype("datetime64[s]")
            values = own[["open", "high", "low", "close", "volume", "amount"]].to_numpy(np.float64)
            kept = slice(None if bars is None else -bars, None)
            targets = stamps[-1] + np.arange(1, horizon + 1) * np.timedelta64(86_400, "s")
            inputs.append(
                ForecastInput(symbol, stamps[kept], values[kept], targets, forecast_seed(7, symbol, stamps[-1]) % 2**31)
            )
    return inputs


def save_chronos_bolt(folder: Path) -> None:
    """A Chronos-Bolt that reads 64 bars and forecasts 16."""
    random_weights.save_chronos_bolt(folder, TINY, context=64, steps=BOLT_STEPS)


def save_chronos_t5(folder: Path) -> None:
    """A Chronos of the first generation that reads 64 bars and draws 16."""
    random_weights.save_chronos_t5(folder, TINY, context=64, steps=BOLT_STEPS, tokens=128)


def save_tirex(folder: Path) -> None:
    """A TiRex that reads 64 bars in patches of 16."""
    import torch
    from tirex.models.tirex import TiRexZero

    config = {
        "input_patch_size": 16,
        "output_patch_size": 16,
        "quantiles": [round(0.1 * number, 1) for number in range(1, 10)],
        "block_kwargs": {"embedding_dim": 16, "num_heads": 2, "num_blocks": 1},
        "input_ff_dim": 32,
    }
    torch.manual_seed(0)
    model = TiRexZero(backend="torch", model_config=config, train_ctx_len=64)
    with torch.no_grad():
        for parameter in model.parameters():  # the package leaves some without initial values
            parameter.normal_(std=0.1)
    folder.mkdir(parents=True)
    parameters = {"model_config": config, "train_ctx_len": 64}
    torch.save({"hyper_parameters": parameters, "state_dict": model.state_dict()}, folder / "model.ckpt")


def save_timesfm_3(folder: Path) -> None:
    """A TimesFM 3.0 of one layer."""
    import torch
    from timesfm3 import ResidualBlockConfig, StackedTransformersConfig, TimesFM3Torch, TransformerConfig

    shape = TransformerConfig(
        model_dims=32,
        hidden_dims=32,
        num_heads=2,
        attention_norm="rms",
        feedforward_norm="rms",
        qk_norm="rms",
        use_bias=False,
        use_rope_seq=True,
        use_rope_var=False,
        ff_activation="relu",
        deterministic=True,
    )
    torch.manual_seed(0)
    model = TimesFM3Torch(
        residual_block_config=ResidualBlockConfig(32, 32, use_bias=False, activation="relu"),
        transformer_config=StackedTransformersConfig(num_layers=1, transformer=shape),
    )
    model.save_pretrained(folder)


def small_timesfm_2() -> object:
    """The definition of a TimesFM 2.5 of one layer."""
    from timesfm.timesfm_2p5.timesfm_2p5_base import TimesFM_2p5_200M_Definition

    full = TimesFM_2p5_200M_Definition()
    layer = replace(full.stacked_transformers.transformer, model_dims=32, hidden_dims=32, num_heads=2)
    narrow = {"input_dims": 32, "hidden_dims": 32, "output_dims": 128 * 10}
    return replace(
        full,
        output_quantile_len=128,
        tokenizer=replace(full.tokenizer, hidden_dims=32, output_dims=32),
        stacked_transformers=replace(full.stacked_transformers, num_layers=1, transformer=layer),
        output_projection_point=replace(full.output_projection_point, **narrow),
        output_projection_quantiles=replace(full.output_projection_quantiles, **narrow),
    )
