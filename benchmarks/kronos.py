"""The Kronos engine against the authors' package (kronos-model-arch), with the same random weights, in one run.

    python -m benchmarks.kronos [--rows one batch paths] [--threads 2] [--clock cpu] [--json FILE]

Both sides take turns within a row, so that a busy machine slows both. The authors' long rows are extrapolated
from their first steps at the row's middle context (each step recomputes the whole context, so time grows
with the number of steps); the last column says what was run. `--clock cpu` counts processor seconds instead
of wall time, for machines that others use too; give `--threads 1` with it, as waiting threads spin.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.kronos_training import training_row
from kronos import Kronos, KronosPredictor, KronosTokenizer
from kronos.config import KRONOS_BASE, KRONOS_MINI, KRONOS_SMALL, TOKENIZER_2K, TOKENIZER_BASE
from kronos.features import time_features

SIZES = {
    "mini": (KRONOS_MINI, TOKENIZER_2K),
    "small": (KRONOS_SMALL, TOKENIZER_BASE),
    "base": (KRONOS_BASE, TOKENIZER_BASE),
}


@dataclass(frozen=True)
class Work:
    """`series` histories of `lookback` bars, forecast `horizon` steps ahead by `paths` paths each."""

    size: str
    series: int
    lookback: int
    horizon: int
    paths: int
    goal: float
    part: int = 0
    """Series that our side runs when all are too many; the result is scaled."""

    def __str__(self) -> str:
        return f"{self.size}: {self.series} × {self.lookback} → {self.horizon}, {self.paths} paths"


ROWS = {
    "one": [Work("small", 1, 400, 120, 1, 15)],
    "batch": [Work("small", 8, 90, 10, 5, 20)],
    "paths": [Work("small", 1, 400, 24, 30, 100)],
    "many": [Work(size, 500, 400, 10, 30, 120, part=32) for size in ("mini", "small")],
}


@dataclass
class Result:
    work: str
    precision: str
    authors_s: float
    ours_s: float
    ratio: float
    goal: str
    floor_s: float
    authors_run: str


def bars(length: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, length)))
    opening = close * np.exp(rng.normal(0, 0.005, length))
    volume = rng.lognormal(10, 1, length)
    columns = (opening, np.maximum(opening, close) * 1.003, np.minimum(opening, close) * 0.997, close)
    names = ("open", "high", "low", "close")
    return pd.DataFrame({**dict(zip(names, columns, strict=True)), "volume": volume, "amount": volume * close})


def models(size: str) -> tuple[Kronos, KronosTokenizer]:
    torch.manual_seed(0)
    config, tokenizer = SIZES[size]
    return Kronos(config=config).eval(), KronosTokenizer(config=tokenizer).eval()


def our_run(predictor: KronosPredictor, work: Work) -> np.ndarray:
    series = work.part or work.series
    stamps = time_features(pd.bdate_range("2020-01-01", periods=work.lookback + work.horizon))
    values = [bars(work.lookback, seed).to_numpy() for seed in range(series)]
    past, future = [stamps[: work.lookback]] * series, [stamps[work.lookback :]] * series
    result = predictor.sample_paths(
        values, past, future, work.horizon, paths=work.paths, top_p=0.9, seeds=range(series)
    )
    return result.paths


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


def measure(work: Work, precisions: list[str], clock: Callable[[], float], rounds: int) -> list[Result]:
    """Both sides in turns, `rounds` times; the best of each."""

    def timed(function: Callable[[], object]) -> float:
        start = clock()
        function()
        return clock() - start

    theirs = their_predictor(work.size)
    ours = {p: KronosPredictor(*models(work.size), device="cpu", precision=p) for p in precisions}  # type: ignore[arg-type]
    middle = min(work.lookback + work.horizon // 2, 512)
    series = 1 if work.part else work.series
    for predictor in ours.values():
        our_run(predictor, Work(work.size, 1, 30, 2, 2, 0))  # packs the weights
    their_run(theirs, 1, 30, 1, 1)
    first, several, mine = [], [], {p: [] for p in precisions}
    for _ in range(rounds):
        first.append(timed(partial(their_run, theirs, series, middle, 1, work.paths)))
        for precision, predictor in ours.items():
            mine[precision].append(timed(partial(our_run, predictor, work)))
        several.append(timed(partial(their_run, theirs, series, middle, 3, work.paths)))
    step = max((min(several) - min(first)) / 2, 1e-9)
    authors = (min(first) + step * (work.horizon - 1)) * work.series / series
    scale = work.series / (work.part or work.series)
    run = f"1 and 3 of {work.horizon} steps" + (f", {series} of {work.series} series" if work.part else "")
    floor = arithmetic_floor(work, clock)
    return [
        Result(
            work=str(work) + (f" (ours: {work.part} series, scaled)" if work.part else ""),
            precision=precision,
            authors_s=authors,
            ours_s=min(times) * scale,
            ratio=authors / (min(times) * scale),
            goal=f"≥ {work.goal:g}" if precision == "fp32" else ("≥ 25" if work.horizon == 120 else "–"),
            floor_s=floor if precision == "fp32" else float("nan"),
            authors_run=run,
        )
        for precision, times in mine.items()
    ]


def arithmetic_floor(work: Work, clock: Callable[[], float]) -> float:
    """Seconds that fp32 products and weight reads alone need, at the rates this machine shows just now.

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
    slides = range(max(0, 513 - work.lookback), work.horizon)  # steps whose window is computed anew
    again = sum(512 - step + work.paths * step for step in slides if work.lookback >= step)
    again_s = 2 * work.series * again * weights / flops_s
    return prefill + again_s + steps * max(2 * weights * rows / flops_s, 4 * weights / bytes_s)


def rates(clock: Callable[[], float]) -> tuple[float, float]:
    """fp32 operations and bytes a second of one large product and of one pass over 128 MiB."""
    op = torch.ops.mkldnn._linear_pointwise
    x, w, large = torch.randn(1024, 1024), torch.randn(1024, 1024), torch.randn(32 * 2**20)
    product, read = [], []
    for _ in range(8):
        start = clock()
        op(x, w, None, "none", [], "")
        product.append(clock() - start)
        start = clock()
        large.sum()
        read.append(clock() - start)
    return 2 * 1024**3 / min(product), large.numel() * 4 / min(read)


def peak_memory(size: str, threads: int) -> float:
    """Peak resident GiB of a fresh process that forecasts 96 of the 500 series: three chunks, as all would be."""
    code = (
        "import resource, torch; from benchmarks import kronos as b; "
        f"torch.set_num_threads({threads}); "
        f"p = b.KronosPredictor(*b.models({size!r}), device='cpu'); "
        f"b.our_run(p, b.Work({size!r}, 500, 400, 10, 30, 0, part=96)); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def crps_change(clock: Callable[[], float]) -> dict[str, float]:
    """CRPS of the closing price, int8 and bf16 relative to fp32, on random walks with the same seeds."""
    work = Work("mini", 24, 120, 10, 50, 0)
    scores = {}
    for precision in ("fp32", "int8", "bf16"):
        try:
            predictor = KronosPredictor(*models("mini"), device="cpu", precision=precision)  # type: ignore[arg-type]
        except ValueError:
            continue
        close = our_run(predictor, work)[..., 3]
        truth = np.stack([bars(130, seed).to_numpy()[120:, 3] for seed in range(24)])[:, None]
        spread = np.abs(close[:, :, None] - close[:, None]).mean(axis=(1, 2))
        scores[precision] = float((np.abs(close - truth).mean(axis=1) - spread / 2).mean())
    return {name: score / scores["fp32"] - 1 for name, score in scores.items() if name != "fp32"}


def overflow_change(clock: Callable[[], float]) -> dict[str, float]:
    """ "hop" against "exact" beyond max_context: 512 → 40 with 30 paths, the same seeds, mini.

    `median_shift` is the mean distance of the two median closes in units of the exact paths' standard
    deviation, `spread_ratio` the ratio of those deviations, both over steps; two exact runs with different
    seeds differ by `median_shift_by_chance`.
    """
    work = Work("mini", 4, 512, 40, 30, 0)
    spent, closes = {}, {}
    for overflow in ("exact", "hop"):
        predictor = KronosPredictor(*models("mini"), device="cpu", overflow=overflow)  # type: ignore[arg-type]
        start = clock()
        closes[overflow] = our_run(predictor, work)[..., 3]
        spent[overflow] = clock() - start
    deviation = closes["exact"].std(axis=1)

    def shift(a: np.ndarray, b: np.ndarray) -> float:
        return float((np.abs(np.median(a, axis=1) - np.median(b, axis=1)) / deviation).mean())

    exact = closes["exact"]
    return {
        "times_faster": spent["exact"] / spent["hop"],
        "median_shift": shift(exact, closes["hop"]),
        "median_shift_by_chance": shift(exact[:, ::2], exact[:, 1::2]) / 2**0.5,
        "spread_ratio": float((closes["hop"].std(axis=1) / deviation).mean()),
    }


def profile(size: str = "small") -> str:
    """Where the time of one series 400 → 24 with 30 paths goes."""
    predictor = KronosPredictor(*models(size), device="cpu")
    work = Work(size, 1, 400, 24, 30, 0)
    our_run(predictor, work)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as trace:
        our_run(predictor, work)
    events = sorted(trace.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    lines = [f"| {e.key[:60]} | {e.count} | {100 * e.self_cpu_time_total / total:.1f} % |" for e in events[:10]]
    return "\n".join(["| operation | calls | share |", "|---|---|---|", *lines])


def table(results: list[Result]) -> str:
    lines = [
        "| work | precision | authors' s | ours s | ratio | goal | ours / floor | authors' part that was run |",
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
    parser.add_argument("--no-extras", action="store_true", help="no memory, CRPS or profile")
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
        report["crps_change"] = crps_change(clock)
        print(f"\npeak memory of 400 → 10, 30 paths: {report['peak_gib']} GiB")
        report["overflow"] = overflow_change(clock)
        print(f"CRPS against fp32 (random weights): {report['crps_change']}")
        print(f"hop against exact beyond max_context: {report['overflow']}\n\n{profile()}")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
