"""Kronos-small on CUDA: path-steps per second of one series' paths, against the authors' loop on the same GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.kronos_workload import Workload, models, our_run
from kronos import KronosPredictor
from kronos.inference.packed_linear import Precision

SKIPPED = "No CUDA device: path-steps/s of Kronos-small with 256 and 4096 paths are not measured."
WORKS = [Workload("small", 1, 400, 64, paths, goal=100_000) for paths in (256, 4096)]
"""400 + 64 bars stay within max_context, so that both packages decode without a sliding window."""
MEMORY_BUDGET = 32 * 2**30


@dataclass
class CudaResult:
    work: str
    precision: str
    authors_path_steps_s: float | None
    """None where the authors' loop exceeds the memory of the device."""
    ours_path_steps_s: float
    goal: float
    device: str


def cuda_rows(their_run: Callable[[int, int, int], None], rounds: int) -> list[CudaResult]:
    """The best of `rounds` for both packages. `their_run(lookback, horizon, paths)` is the authors' loop on the GPU.

    Ours is the whole forecast: encoding, every step, decoding into bars. Theirs is the time between 1 and 3 steps at
    the middle length: all their steps cost the same, as each recomputes the whole context.
    """
    results = []
    precisions: tuple[Precision, ...] = "fp32", "bf16"
    for work in WORKS:
        theirs = _authors_rate(their_run, work, rounds)
        for precision in precisions:
            predictor = KronosPredictor(
                *models(work.size), device="cuda", precision=precision, memory_budget=MEMORY_BUDGET
            )
            our_run(predictor, work)  # packs the weights and captures the step
            spent = min(_seconds(partial(our_run, predictor, work)) for _ in range(rounds))
            rate = work.paths * work.horizon / spent
            results.append(CudaResult(str(work), precision, theirs, rate, work.goal, torch.cuda.get_device_name()))
    return results


def table(results: list[CudaResult]) -> str:
    lines = [
        f"path-steps/s on {results[0].device}\n",
        "| work | precision | authors' | ours | ratio | goal |",
        "|---|---|---|---|---|---|",
    ]
    for r in results:
        theirs, ratio = "out of memory", "–"
        if r.authors_path_steps_s is not None:
            theirs, ratio = f"{r.authors_path_steps_s:,.0f}", f"{r.ours_path_steps_s / r.authors_path_steps_s:.0f}×"
        lines.append(
            f"| {r.work} | {r.precision} | {theirs} | {r.ours_path_steps_s:,.0f} | {ratio} | ≥ {r.goal:,.0f} |"
        )
    return "\n".join(lines)


def _authors_rate(their_run: Callable[[int, int, int], None], work: Workload, rounds: int) -> float | None:
    middle = work.lookback + work.horizon // 2
    try:
        their_run(middle, 1, work.paths)
        one, three = (
            min(_seconds(partial(their_run, middle, horizon, work.paths)) for _ in range(rounds)) for horizon in (1, 3)
        )
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None
    return work.paths * 2 / max(three - one, 1e-9)


def _seconds(function: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    torch.cuda.synchronize()
    return time.perf_counter() - start
