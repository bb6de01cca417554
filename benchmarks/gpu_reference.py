"""The loop that forecasts are compared with: the authors' package where it is importable, else the same loop here.

That loop computes the whole context of every path anew at every step, without a cache.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.kronos_workload import bars
from kronos import Kronos, KronosTokenizer
from kronos.features import time_features
from kronos.inference.sampling import Sampling, sample_tokens
from kronos.normalisation import Normalisation

Models = tuple[Kronos, KronosTokenizer]
Run = Callable[[int, int, int], object]
"""(lookback, horizon, paths) → one forecast of one series."""


@dataclass(frozen=True)
class Reference:
    """`load(models, device)` returns the loop with these weights."""

    name: str
    load: Callable[[Models, str], Run]


def reference_loop() -> Reference:
    if importlib.util.find_spec("model") is not None:
        return Reference("the authors' loop (package model)", _authors)
    return Reference("our eager uncached loop (the authors' package is not installed)", _uncached)


def _authors(models: Models, device: str) -> Run:
    import model as authors

    theirs: list[Any] = [
        authors.Kronos(**models[0].config.to_dict()),
        authors.KronosTokenizer(**models[1].config.to_dict()),
    ]
    for their, ours in zip(theirs, models, strict=True):
        their.eval().load_state_dict(ours.state_dict())
    predictor = authors.KronosPredictor(*theirs, device=device, max_context=512)

    def run(lookback: int, horizon: int, paths: int) -> None:
        stamps = pd.Series(pd.bdate_range("2020-01-01", periods=lookback + horizon))
        past, future = [stamps[:lookback]], [stamps[lookback:]]
        predictor.predict_batch([bars(lookback, 0)], past, future, horizon, sample_count=paths, verbose=False)

    return run


def _uncached(models: Models, device: str) -> Run:
    model, tokenizer = models[0].to(device), models[1].to(device)
    sampling = Sampling(top_p=0.9)

    @torch.no_grad()
    def run(lookback: int, horizon: int, paths: int) -> np.ndarray:
        values, _, _ = Normalisation().apply(bars(lookback, 0).to_numpy()[None], lookback)
        stamps = torch.from_numpy(time_features(pd.bdate_range("2020-01-01", periods=lookback + horizon)))
        stamps = stamps.to(device).expand(paths, -1, -1)
        s1, s2 = tokenizer.encode(torch.from_numpy(values).to(device).repeat(paths, 1, 1), half=True)
        for step in range(horizon):
            logits, context = model.decode_s1(s1, s2, stamps[:, : lookback + step])
            coarse = _draw(logits[:, -1], sampling)
            fine = _draw(model.decode_s2(context, coarse)[:, -1], sampling)
            s1, s2 = torch.cat((s1, coarse), dim=1), torch.cat((s2, fine), dim=1)
        decoded = tokenizer.decode((s1, s2), half=True)
        return decoded[:, -horizon:].cpu().numpy()

    return run


def _draw(logits: Tensor, sampling: Sampling) -> Tensor:
    return sample_tokens(logits, torch.rand(len(logits), device=logits.device), sampling)[:, None]
