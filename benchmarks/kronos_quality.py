"""Peak memory, the accuracy of int8, bf16 and overflow="hop", and a profile of one forecast."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.kronos_workload import Workload, bars, models, our_run
from kronos import KronosPredictor
from kronos.inference.generate import Overflow
from kronos.inference.packed_linear import Precision


def peak_memory(size: str, threads: int) -> float:
    """Peak resident GiB of a new process that forecasts 72 of the 500 series: three batches as large as those of all.

    Read from the kernel's high-water mark, because getrusage includes the parent's.
    """
    code = (
        "import re, torch; from pathlib import Path; from benchmarks import kronos_workload as b; "
        f"torch.set_num_threads({threads}); "
        f"p = b.KronosPredictor(*b.models({size!r}), device='cpu'); "
        f"b.our_run(p, b.Workload({size!r}, 500, 400, 10, 30, 0, part=72)); "
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 2**20)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def crps_change() -> dict[str, float]:
    """CRPS of the closing price, int8 and bf16 relative to fp32, on random walks with the same seeds."""
    work = Workload("mini", 24, 120, 10, 50, 0)
    scores = {}
    for precision in get_args(Precision):
        try:
            predictor = KronosPredictor(*models("mini"), device="cpu", precision=precision)
        except ValueError:
            continue
        close = our_run(predictor, work)[..., 3]
        actual = np.stack([bars(130, seed).to_numpy()[120:, 3] for seed in range(24)])[:, None]
        spread = np.abs(close[:, :, None] - close[:, None]).mean(axis=(1, 2))
        scores[precision] = float((np.abs(close - actual).mean(axis=1) - spread / 2).mean())
    return {name: score / scores["fp32"] - 1 for name, score in scores.items() if name != "fp32"}


def overflow_change(clock: Callable[[], float]) -> dict[str, float]:
    """overflow="hop" relative to "exact" beyond max_context: 512 → 40 with 30 paths, the same seeds, mini.

    `median_shift` is the mean distance of the two median closes in units of the exact paths' standard
    deviation, `spread_ratio` the ratio of those deviations, both over steps; two exact runs with different
    seeds differ by `median_shift_by_chance`.
    """
    work = Workload("mini", 4, 512, 40, 30, 0)
    spent, closes = {}, {}
    for overflow in get_args(Overflow):
        predictor = KronosPredictor(*models("mini"), device="cpu", overflow=overflow)
        start = clock()
        closes[overflow] = our_run(predictor, work)[..., 3]
        spent[overflow] = clock() - start
    deviation = closes["exact"].std(axis=1)

    def shift(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
        return float((np.abs(np.median(a, axis=1) - np.median(b, axis=1)) / deviation).mean())

    exact = closes["exact"]
    return {
        "times_faster": spent["exact"] / spent["hop"],
        "median_shift": shift(exact, closes["hop"]),
        "median_shift_by_chance": shift(exact[:, ::2], exact[:, 1::2]) / 2**0.5,
        "spread_ratio": float((closes["hop"].std(axis=1) / deviation).mean()),
    }


def profile(size: str = "small") -> str:
    """Time by operation of one series 400 → 24 with 30 paths, as a Markdown table."""
    predictor = KronosPredictor(*models(size), device="cpu")
    work = Workload(size, 1, 400, 24, 30, 0)
    our_run(predictor, work)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as trace:
        our_run(predictor, work)
    events = sorted(trace.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    lines = [f"| {e.key[:60]} | {e.count} | {100 * e.self_cpu_time_total / total:.1f} % |" for e in events[:10]]
    return "\n".join(["| operation | calls | share |", "|---|---|---|", *lines])
