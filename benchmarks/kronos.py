"""Benchmark of the Kronos library against the authors' package (kronos-model-arch) with the same random weights.

    python -m benchmarks.kronos [--rows one batch paths] [--threads 2] [--clock cpu] [--json FILE]

`benchmarks/gpu_check.py` measures a GPU.

Both packages run alternately within a row, so that a busy machine slows both. The authors' long rows are
extrapolated from their first steps at the row's middle context (each step recomputes the whole context, so time is
proportional to the number of steps); the last column lists the part that was run. `--clock cpu` measures processor
seconds instead of wall time, for shared machines; use `--threads 1` with it, as waiting threads spin.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.kronos_quality import crps_change, overflow_change, peak_memory, profile
from benchmarks.kronos_training import training_row
from benchmarks.kronos_workload import SIZES, Workload, bars, models, our_run
from kronos import KronosPredictor
from kronos.cpu_kernels import onednn_linear

ROWS = {
    "one": [Workload("small", 1, 400, 120, 1, 15, int8_goal=25)],
    "batch": [Workload("small", 8, 90, 10, 5, 20)],
    "paths": [Workload("small", 1, 400, 24, 30, 100)],
    "many": [Workload(size, 500, 400, 10, 30, 120, part=32) for size in ("mini", "small")],
}


@dataclass
class GenerationResult:
    work: str
    precision: str
    authors_s: float
    ours_s: float
    ratio: float
    goal: str
    floor_s: float
    authors_run: str


def their_predictor(size: str) -> Any:
    import model as authors

    config, tokenizer = SIZES[size]
    mine = models(size)
    theirs = authors.Kronos(**config.to_dict()).eval(), authors.KronosTokenizer(**tokenizer.to_dict()).eval()
    for their, my in zip(theirs, mine, strict=True):
        their.load_state_dict(my.state_dict())
    return authors.KronosPredictor(*theirs, device="cpu", max_context=512)


def their_run(predictor: Any, series: int, lookback: int, horizon: int, paths: int) -> None:
    stamps = pd.Series(pd.bdate_range("2020-01-01", periods=lookback + horizon))
    frames = [bars(lookback, seed) for seed in range(series)]
    past, future = [stamps[:lookback]] * series, [stamps[lookback:]] * series
    predictor.predict_batch(frames, past, future, horizon, sample_count=paths, verbose=False)


def measure(work: Workload, precisions: list[str], clock: Callable[[], float], rounds: int) -> list[GenerationResult]:
    """Both packages alternately, `rounds` times; the best time of each."""

    def timed(function: Callable[[], object]) -> float:
        start = clock()
        function()
        return clock() - start

    theirs = their_predictor(work.size)
    modes: dict[str, dict[str, Any]] = {p: {"precision": p} for p in precisions}
    if work.lookback + work.horizon > 513:
        modes.update({f"{p}, hop": {"precision": p, "overflow": "hop"} for p in precisions})
    ours = {mode: KronosPredictor(*models(work.size), device="cpu", **how) for mode, how in modes.items()}
    middle = min(work.lookback + work.horizon // 2, 512)
    series = 1 if work.part else work.series
    for predictor in ours.values():
        our_run(predictor, Workload(work.size, 1, 30, 2, 2, 0))  # packs the weights
    their_run(theirs, 1, 30, 1, 1)
    first: list[float] = []
    several: list[float] = []
    mine: dict[str, list[float]] = {mode: [] for mode in modes}
    for _ in range(rounds):
        first.append(timed(partial(their_run, theirs, series, middle, 1, work.paths)))
        for mode, predictor in ours.items():
            mine[mode].append(timed(partial(our_run, predictor, work)))
        several.append(timed(partial(their_run, theirs, series, middle, 3, work.paths)))
    step = max((min(several) - min(first)) / 2, 1e-9)
    authors = (min(first) + step * (work.horizon - 1)) * work.series / series
    scale = work.series / (work.part or work.series)
    run = f"1 and 3 of {work.horizon} steps" + (f", {series} of {work.series} series" if work.part else "")
    floor = arithmetic_floor(work, clock)
    goals = {"fp32": f"≥ {work.goal:g}", "int8": f"≥ {work.int8_goal:g}" if work.int8_goal else "–"}
    return [
        GenerationResult(
            work=str(work) + (f" (ours: {work.part} series, scaled)" if work.part else ""),
            precision=mode,
            authors_s=authors,
            ours_s=min(times) * scale,
            ratio=authors / (min(times) * scale),
            goal=goals.get(mode, "–"),
            floor_s=floor if mode == "fp32" else float("nan"),
            authors_run=run,
        )
        for mode, times in mine.items()
    ]


def arithmetic_floor(work: Workload, clock: Callable[[], float]) -> float:
    """Seconds that fp32 products and weight reads alone need, at the rates of this machine now.

    Prefill and decoder are bound by arithmetic, a decoding step by the slower of arithmetic and reading all
    weights once. Attention, sampling and everything elementwise are not counted.
    """
    config = SIZES[work.size][0]
    d, f, v = config.d_model, config.ff_dim, 2**config.s1_bits
    block, rest = 4 * d * d + 3 * d * f, 3 * d * d + 2 * d * v
    weights = config.n_layers * block + rest
    flops_s, bytes_s = rates(clock)
    rows = max(1, min(work.series, 1024 // work.paths)) * work.paths
    steps = work.horizon * -(-work.series * work.paths // rows)
    prefill = 2 * work.series * work.lookback * (config.n_layers * block + 2 * d * d) / flops_s
    slides = range(max(0, 513 - work.lookback), work.horizon)  # steps whose window is recomputed
    recomputed = sum(512 - step + work.paths * step for step in slides if work.lookback >= step)
    recompute = 2 * work.series * recomputed * weights / flops_s
    seconds: float = prefill + recompute + steps * max(2 * weights * rows / flops_s, 4 * weights / bytes_s)
    return seconds


def rates(clock: Callable[[], float]) -> tuple[float, float]:
    """fp32 operations per second of one large product, and bytes per second of one pass over 128 MiB."""
    x, w, large = torch.randn(1024, 1024), torch.randn(1024, 1024), torch.randn(32 * 2**20)
    product, read = [], []
    for _ in range(8):
        start = clock()
        onednn_linear(x, w, None)
        product.append(clock() - start)
        start = clock()
        large.sum()
        read.append(clock() - start)
    return 2 * 1024**3 / min(product), large.numel() * 4 / min(read)


def table(results: list[GenerationResult]) -> str:
    lines = [
        "| work | precision | authors' s | ours s | ratio | goal | ours / floor | authors' part run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        above = "–" if np.isnan(r.floor_s) else f"{r.ours_s / r.floor_s:.1f}"
        lines.append(
            f"| {r.work} | {r.precision} | {r.authors_s:.1f} | {r.ours_s:.2f} | {r.ratio:.0f}× | {r.goal} | "
            f"{above} | {r.authors_run} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=[*ROWS, "training"], choices=[*ROWS, "training"])
    parser.add_argument("--precisions", nargs="*", default=["fp32", "int8"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--no-extras", action="store_true", help="no memory, CRPS and profile")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    print(f"torch {torch.__version__}, {arguments.threads} threads, {arguments.clock} time, random weights\n")
    results = [
        result
        for row in arguments.rows
        if row in ROWS
        for work in ROWS[row]
        for result in measure(work, arguments.precisions, clock, arguments.rounds)
    ]
    report: dict[str, Any] = {"generation": [asdict(result) for result in results]}
    print(table(results))
    if "training" in arguments.rows:
        report["training"] = [training_row(size, SIZES[size], clock) for size in ("mini", "small")]
        for row in report["training"]:
            print("\n" + "\n".join(f"- training {row['size']}: {key} {value}" for key, value in row.items()))
    if not arguments.no_extras:
        report["peak_gib"] = {size: peak_memory(size, arguments.threads) for size in ("mini", "small")}
        report["crps_change"] = crps_change()
        print(f"\npeak memory of 400 → 10, 30 paths: {report['peak_gib']} GiB")
        report["overflow"] = overflow_change(clock)
        print(f"CRPS relative to fp32 (random weights): {report['crps_change']}")
        print(f"hop relative to exact beyond max_context: {report['overflow']}\n\n{profile()}")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
