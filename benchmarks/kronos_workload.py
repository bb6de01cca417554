"""Workloads of the Kronos benchmark: sizes, models with random weights, random bars, and a forecast of ours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from kronos import Kronos, KronosPredictor, KronosTokenizer
from kronos.config import KRONOS_BASE, KRONOS_MINI, KRONOS_SMALL, TOKENIZER_2K, TOKENIZER_BASE
from kronos.features import time_features

SIZES = {
    "mini": (KRONOS_MINI, TOKENIZER_2K),
    "small": (KRONOS_SMALL, TOKENIZER_BASE),
    "base": (KRONOS_BASE, TOKENIZER_BASE),
}


@dataclass(frozen=True)
class Workload:
    """`series` histories of `lookback` bars, forecast `horizon` steps ahead by `paths` paths each."""

    size: str
    series: int
    lookback: int
    horizon: int
    paths: int
    goal: float
    int8_goal: float = 0
    part: int = 0
    """Series that ours runs where all would take too long; the result is scaled. 0: all."""

    def __str__(self) -> str:
        return f"{self.size}: {self.series} × {self.lookback} → {self.horizon}, {self.paths} paths"


def bars(length: int, seed: int) -> pd.DataFrame:
    """A random walk of valid bars."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, length)))
    opening = close * np.exp(rng.normal(0, 0.005, length))
    volume = rng.lognormal(10, 1, length)
    columns = (opening, np.maximum(opening, close) * 1.003, np.minimum(opening, close) * 0.997, close)
    names = ("open", "high", "low", "close")
    return pd.DataFrame({**dict(zip(names, columns, strict=True)), "volume": volume, "amount": volume * close})


def models(size: str, seed: int = 0) -> tuple[Kronos, KronosTokenizer]:
    """Predictor and tokenizer of one size, with random weights that depend on the seed only."""
    torch.manual_seed(seed)
    config, tokenizer = SIZES[size]
    return Kronos(config=config).eval(), KronosTokenizer(config=tokenizer).eval()


def our_run(predictor: KronosPredictor, work: Workload) -> NDArray[np.float32]:
    """Sample paths (series, path, step, field) of one workload."""
    series = work.part or work.series
    stamps = time_features(pd.bdate_range("2020-01-01", periods=work.lookback + work.horizon))
    values = [bars(work.lookback, seed).to_numpy() for seed in range(series)]
    past, future = [stamps[: work.lookback]] * series, [stamps[work.lookback :]] * series
    result = predictor.sample_paths(
        values, past, future, work.horizon, paths=work.paths, top_p=0.9, seeds=range(series)
    )
    return result.paths
