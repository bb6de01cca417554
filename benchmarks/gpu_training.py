"""Windows per second of a predictor's training step on one device: the authors' loop, and ours in fp32 and bf16.

Theirs slices a pandas frame per sample, normalises and tokenises it on the fly, and steps. Ours reads windows of
tokens, created once, and steps as `assets.training.fit.trainer` does, on CUDA with a captured graph. Without the
authors' package their loop runs with our modules, and the name of the reference says so.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assets.training.fit.gradients import Batch, Gradients, capture_graph
from benchmarks.kronos_training import BATCH, LOOKBACK, MAX_NORM, OPTIMISER, WINDOW, frame
from kronos import Kronos, KronosTokenizer
from kronos.config import KronosConfig, TokenizerConfig
from kronos.features import FEATURES, TIME_FEATURES
from kronos.losses import predictor_loss
from kronos.normalisation import Normalisation

Configs = tuple[KronosConfig, TokenizerConfig]
Step = Callable[[int, NDArray[np.int64]], None]
"""(number of the step, first rows of its windows)."""
WARM_UP = 2


@dataclass(frozen=True)
class TrainingRates:
    """Windows per second; `ours` by mode."""

    reference: float
    reference_name: str
    ours: dict[str, float]


def training_rates(configs: Configs, device: str, seed: int, steps: int, batch: int = BATCH) -> TrainingRates:
    """Rates over `steps` steps of `batch` windows, after WARM_UP steps that choose kernels and allocate."""
    starts = np.random.default_rng(seed).integers(0, 3000 - WINDOW, (steps + WARM_UP, batch))
    name, theirs = _authors_step(configs, device, seed)
    modes = {"fp32": False, "bf16": True} if device == "cuda" else {"fp32": False}
    ours = {
        mode: _rate(_our_step(configs, device, seed, starts, bf16)[1], starts, device) for mode, bf16 in modes.items()
    }
    return TrainingRates(_rate(theirs, starts, device), name, ours)


def _rate(step: Step, starts: NDArray[np.int64], device: str) -> float:
    begin = 0.0
    for number, rows in enumerate(starts):
        if number == WARM_UP:
            _wait(device)
            begin = time.perf_counter()
        step(number, rows)
    _wait(device)
    return starts[WARM_UP:].size / (time.perf_counter() - begin)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _authors_step(configs: Configs, device: str, seed: int) -> tuple[str, Step]:
    torch.manual_seed(seed)
    data = frame(3000)
    if importlib.util.find_spec("model") is not None:
        import model as authors

        name, modules = "the authors' loop (package model)", (authors.Kronos, authors.KronosTokenizer)
    else:
        name, modules = "their loop with our modules", (Kronos, KronosTokenizer)
    predictor: Any = modules[0](**configs[0].to_dict()).to(device).train()
    tokenizer: Any = modules[1](**configs[1].to_dict()).to(device).eval()
    optimiser = torch.optim.AdamW(predictor.parameters(), **OPTIMISER)

    def sample(start: int) -> tuple[torch.Tensor, torch.Tensor]:
        window = data.iloc[start : start + WINDOW]
        x = window[list(FEATURES)].to_numpy().astype(np.float32)
        x = np.clip((x - x.mean(axis=0)) / (x.std(axis=0) + 1e-5), -5, 5)
        return torch.from_numpy(x), torch.from_numpy(window[list(TIME_FEATURES)].to_numpy().astype(np.float32))

    def step(_: int, rows: NDArray[np.int64]) -> None:
        x, stamps = (part.to(device) for part in torch.utils.data.default_collate([sample(start) for start in rows]))
        with torch.no_grad():
            s1, s2 = tokenizer.encode(x, half=True)
        logits = predictor(s1[:, :-1], s2[:, :-1], stamps[:, :-1])
        losses = [
            torch.nn.functional.cross_entropy(value.flatten(0, 1), target[:, 1:].flatten())
            for value, target in zip(logits, (s1, s2), strict=True)
        ]
        optimiser.zero_grad()
        (sum(losses) / 2).backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(predictor.parameters(), MAX_NORM)
        optimiser.step()

    return name, step


def largest_difference(configs: Configs, device: str, seed: int, steps: int, batch: int = BATCH) -> float:
    """The largest difference of a weight after `steps` steps, captured and not, relative to the largest change."""
    starts = np.random.default_rng(seed).integers(0, 3000 - WINDOW, (steps, batch))
    trained = []
    for captured in (True, False):
        predictor, step = _our_step(configs, device, seed, starts, False, captured)
        before = [weight.detach().clone() for weight in predictor.parameters()]
        for number, rows in enumerate(starts):
            step(number, rows)
        trained.append([weight.detach() for weight in predictor.parameters()])
    change = max(float((a - b).abs().max()) for a, b in zip(trained[1], before, strict=True))
    return max(float((a - b).abs().max()) for a, b in zip(*trained, strict=True)) / change


def _our_step(
    configs: Configs, device: str, seed: int, starts: NDArray[np.int64], bf16: bool, captured: bool = True
) -> tuple[Kronos, Step]:
    torch.manual_seed(seed)
    predictor = Kronos(config=configs[0]).to(device).train()
    optimiser = torch.optim.AdamW(predictor.parameters(), **OPTIMISER, fused=True)
    data = frame(3000)
    values, calendar = data[list(FEATURES)].to_numpy(np.float32), data[list(TIME_FEATURES)].to_numpy(np.uint8)
    rows = starts[..., None] + np.arange(WINDOW)
    tokens = _tokens(KronosTokenizer(config=configs[1]).to(device).eval(), values[rows], device)
    stamps = calendar[rows]

    def backward(batch: Batch, factor: torch.Tensor | float) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16) if bf16 else nullcontext():
            loss = predictor_loss(predictor, *batch).total * factor
            loss.backward()
        return loss.detach()

    capture = capture_graph if captured and device == "cuda" else None
    gradients = Gradients(backward, list(predictor.parameters()), torch.device(device), capture)

    def step(number: int, _: NDArray[np.int64]) -> None:
        parts = *(part[number] for part in tokens), stamps[number]
        gradients.add(tuple(torch.from_numpy(part.astype(np.int64)) for part in parts), 1.0)
        norm = torch.nn.utils.clip_grad_norm_(predictor.parameters(), MAX_NORM)
        if not torch.isfinite(norm):
            raise RuntimeError("the gradient is not finite")
        optimiser.step()
        optimiser.zero_grad(set_to_none=not gradients.captured)

    return predictor, step


@torch.inference_mode()
def _tokens(tokenizer: KronosTokenizer, windows: NDArray[np.float32], device: str) -> list[NDArray[np.uint16]]:
    """Tokens s1, s2 (steps, batch, time) of windows (steps, batch, time, 6)."""
    pairs = []
    for batch in windows:
        values, _, _ = Normalisation().apply(batch, LOOKBACK)
        s1, s2 = tokenizer.encode(torch.from_numpy(values).to(device), half=True)
        pairs.append((s1.cpu().numpy(), s2.cpu().numpy()))
    return [np.stack(half).astype(np.uint16) for half in zip(*pairs, strict=True)]
