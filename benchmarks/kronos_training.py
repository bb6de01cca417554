"""One training step of the predictor: the authors' loop against ours, batch 50 × 101 tokens.

Theirs slices a pandas frame per sample, normalises it, tokenises on the fly and steps. Ours reads windows of tokens,
created once, as array slices. Tokenising once counts as 0: it is done before the first of many epochs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from kronos import Kronos, KronosTokenizer
from kronos.config import KronosConfig, TokenizerConfig
from kronos.features import FEATURES, TIME_FEATURES, time_features
from kronos.losses import predictor_loss
from kronos.normalisation import Normalisation

BATCH, WINDOW, LOOKBACK = 50, 101, 90
OPTIMISER: dict[str, Any] = {"lr": 4e-5, "betas": (0.9, 0.95), "weight_decay": 0.1}
MAX_NORM = 3.0
ROUNDS = 3


def frame(rows: int) -> pd.DataFrame:
    """Random positive fields and calendar features on business days."""
    rng = np.random.default_rng(0)
    index = pd.bdate_range("2000-01-03", periods=rows)
    data = pd.DataFrame(np.exp(np.cumsum(rng.normal(0, 0.01, (rows, 6)), axis=0)), index, list(FEATURES))
    return pd.concat([data, pd.DataFrame(time_features(index), index, list(TIME_FEATURES))], axis=1)


def training_row(
    size: str, configs: tuple[KronosConfig, TokenizerConfig], clock: Callable[[], float]
) -> dict[str, Any]:
    """Windows per second of both packages, run alternately, the best of three steps each, and shares of time."""
    import model as authors

    torch.manual_seed(0)
    config, tokenizer_config = configs
    data = frame(3000)
    starts = np.random.default_rng(1).integers(0, len(data) - WINDOW, (ROUNDS + 1, BATCH))
    their_tokenizer = authors.KronosTokenizer(**tokenizer_config.to_dict()).eval()
    theirs = authors.Kronos(**config.to_dict()).train()
    their_optimiser = torch.optim.AdamW(theirs.parameters(), **OPTIMISER)

    def their_batch(which: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        samples = []
        for start in which:
            window = data.iloc[start : start + WINDOW]
            x = window[list(FEATURES)].values.astype(np.float32)
            stamps = window[list(TIME_FEATURES)].values.astype(np.float32)
            x = np.clip((x - x.mean(axis=0)) / (x.std(axis=0) + 1e-5), -5, 5)
            samples.append((torch.from_numpy(x), torch.from_numpy(stamps)))
        batch: tuple[torch.Tensor, torch.Tensor] = torch.utils.data.default_collate(samples)
        return batch

    def their_step(s1: torch.Tensor, s2: torch.Tensor, stamps: torch.Tensor) -> None:
        logits = theirs(s1[:, :-1], s2[:, :-1], stamps[:, :-1])
        loss = theirs.head.compute_loss(*logits, s1[:, 1:], s2[:, 1:])[0]
        their_optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), MAX_NORM)
        their_optimiser.step()

    tokenizer, ours = KronosTokenizer(config=tokenizer_config).eval(), Kronos(config=config).train()
    optimiser = torch.optim.AdamW(ours.parameters(), **OPTIMISER, fused=True)
    values = data[list(FEATURES)].to_numpy(np.float32)
    stamp_table = data[list(TIME_FEATURES)].to_numpy()
    offsets = np.arange(WINDOW)
    tokens, stamps_by_batch = [], []
    with torch.inference_mode():
        for which in starts:  # once, before training
            windows = values[which[:, None] + offsets]
            normalised, _, _ = Normalisation().apply(windows, LOOKBACK)
            s1, s2 = tokenizer.encode(torch.from_numpy(normalised), half=True)
            tokens.append(np.stack((s1.numpy(), s2.numpy())).astype(np.int16))
            stamps_by_batch.append(stamp_table[which[:, None] + offsets].astype(np.int8))

    def our_batch(i: int) -> list[torch.Tensor]:
        s1, s2 = torch.from_numpy(tokens[i]).long()
        return [s1, s2, torch.from_numpy(stamps_by_batch[i]).long()]

    def our_step(batch: list[torch.Tensor]) -> None:
        loss = predictor_loss(ours, *batch).total
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(ours.parameters(), MAX_NORM)
        optimiser.step()

    parts: dict[str, list[float]] = {name: [] for name in ("data", "tokenise", "step", "our_data", "our_step")}
    for i, which in enumerate(starts):
        marks = [clock()]
        x, stamps = their_batch(which)
        marks.append(clock())
        with torch.no_grad():
            s1, s2 = their_tokenizer.encode(x, half=True)
        marks.append(clock())
        their_step(s1, s2, stamps)
        marks.append(clock())
        batch = our_batch(i)
        marks.append(clock())
        our_step(batch)
        marks.append(clock())
        if i:  # the first step allocates
            for name, spent in zip(parts, np.diff(marks), strict=True):
                parts[name].append(float(spent))
    best = {name: min(spent) for name, spent in parts.items()}
    their_total = best["data"] + best["tokenise"] + best["step"]
    our_total = best["our_data"] + best["our_step"]
    return {
        "size": size,
        "authors_windows_s": round(BATCH / their_total, 2),
        "our_windows_s": round(BATCH / our_total, 2),
        "ratio": round(their_total / our_total, 2),
        "goal": 1.5 if size == "mini" else 1.3,
        "authors_shares": {name: round(best[name] / their_total, 3) for name in ("data", "tokenise", "step")},
        "our_data_share": round(best["our_data"] / our_total, 5),
    }
