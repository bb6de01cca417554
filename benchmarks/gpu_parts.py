"""The parts of `benchmarks.gpu_check`: each yields its measurements as rows, on CUDA or, to try them, on the CPU.

    python -m benchmarks.gpu_parts PART ROWS_FILE [--quick] [--device cuda]

`cpu` stands in for the GPU in a dry run: a capture is then the plain step, and a lack of memory is feigned.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.gpu_reference import Reference, reference_loop
from benchmarks.gpu_training import largest_difference, training_rates
from benchmarks.kronos_training import BATCH
from benchmarks.kronos_workload import SIZES, Workload, bars, models, our_run
from kronos import KronosPredictor
from kronos.config import KronosConfig, TokenizerConfig
from kronos.features import time_features
from kronos.inference.cuda_graph import CapturedGenerate, StaticDecode
from kronos.inference.generate import SeriesGroup, generate
from kronos.inference.packed_linear import Precision
from kronos.normalisation import Normalisation

TINY = (
    KronosConfig(n_layers=2, d_model=64, n_heads=4, ff_dim=96),
    TokenizerConfig(d_model=32, n_heads=2, ff_dim=48, n_enc_layers=3, n_dec_layers=3),
)
PATH_GOAL, TRAINING_GOAL = 100_000.0, 6.0


@dataclass(frozen=True)
class Row:
    """One measurement. `goal` is a lower bound of a speed; `passed` says whether a result is right."""

    what: str
    value: float
    unit: str = ""
    reference: float | None = None
    reference_name: str = "–"
    goal: float | None = None
    passed: bool | None = None
    detail: dict[str, Any] | None = None


@dataclass(frozen=True)
class Check:
    """How a part runs: on which device, at tiny sizes (`quick`) or those of the goals, with which seed."""

    device: str
    quick: bool
    seed: int

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    def sizes(self) -> list[str]:
        return ["tiny"] if self.quick else ["mini", "small"]

    def work(self, paths: int) -> Workload:
        """400 + 64 bars stay within max_context, so that both loops decode without a sliding window."""
        if self.quick:
            return Workload("tiny", 1, 24, 5, paths, goal=0)
        return Workload("small", 1, 400, 64, paths, goal=PATH_GOAL)

    def market(self) -> Workload:
        """Many series of few paths: what a day's forecasts of a market need."""
        return Workload("tiny", 3, 24, 5, 4, goal=0) if self.quick else Workload("small", 115, 400, 10, 100, goal=0)

    def path_counts(self) -> tuple[int, int]:
        return (4, 9) if self.quick else (256, 4096)

    def predictor(self, size: str, device: str, precision: Precision = "fp32", **options: Any) -> KronosPredictor:
        predictor = KronosPredictor(*models(size, self.seed), device=device, precision=precision, **options)
        if not self.cuda and device == self.device:
            predictor.engines()
            predictor._generate = CapturedGenerate(_plain_step)
        return predictor

    def seconds(self, function: Callable[[], object]) -> float:
        self.wait()
        start = time.perf_counter()
        function()
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def environment(check: Check) -> Iterator[Row]:
    """What runs here. CUDA is asked for whatever the device is."""
    cuda = torch.cuda.is_available()
    detail: dict[str, Any] = {
        "cuda": cuda,
        "device": torch.cuda.get_device_name() if cuda and check.cuda else platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "cuda_version": torch.version.cuda,
        "python": platform.python_version(),
        "seed": check.seed,
        "quick": check.quick,
        "reference": reference_loop().name,
        "tf32": torch.backends.cuda.matmul.allow_tf32,
    }
    if cuda and check.cuda:
        detail["memory_gib"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
    yield Row("environment", 1, detail=detail)


def parity(check: Check) -> Iterator[Row]:
    """Tokens, logits and greedy forecasts of the device against those of the CPU."""
    for size in check.sizes():
        series, length, horizon = (4, 20, 4) if check.quick else (32, 256, 16)
        here, there = (check.predictor(size, device) for device in ("cpu", check.device))
        windows = np.stack([bars(length, check.seed + i).to_numpy() for i in range(series)])
        x = torch.from_numpy(Normalisation().apply(windows, length)[0])
        with torch.inference_mode():
            ours, theirs = (p.engines()[1].encode(x.to(p.device)) for p in (here, there))
            same = torch.stack([(a == b.cpu()).float().mean() for a, b in zip(ours, theirs, strict=True)]).mean()
            yield Row(f"{size}: equal tokens of {series} × {length} bars", float(same), passed=bool(same > 0.998))
            days = time_features(pd.bdate_range("2020-01-01", periods=length))
            stamps = torch.from_numpy(days).expand(series, -1, 5)
            logits = [p.model.decode_s1(*(part.to(p.device) for part in (*ours, stamps)))[0] for p in (here, there)]
            error = float((logits[0] - logits[1].cpu()).abs().max())
            yield Row(f"{size}: largest difference of a logit", error, passed=error < 2e-3)
        greedy = [_tokens(check, p, series, length, horizon, T=0.0) for p in (here, there)]
        same_paths = float((greedy[0] == greedy[1]).all(axis=(1, 2, 3)).mean())
        yield Row(f"{size}: equal greedy paths of {series}, {horizon} steps", same_paths, passed=same_paths >= 0.9)


def graph(check: Check) -> Iterator[Row]:
    """The captured step against the same draws without a graph: tokens, and seconds of both."""
    for paths in check.path_counts():
        predictor, work = check.predictor(check.sizes()[-1], check.device), check.work(paths)
        predictor.engines()
        captured = predictor._generate
        assert isinstance(captured, CapturedGenerate)
        run = partial(_tokens, check, predictor, 1, work.lookback, work.horizon, paths, top_p=0.9)
        tokens = run()
        failed = captured._failed or not captured._captured
        yield Row(f"{paths} paths: the step was captured", float(not failed), passed=not failed)
        replayed = check.seconds(run)
        predictor._generate = generate
        eager, seconds = run(), check.seconds(run)
        same = float((tokens == eager).all(axis=(2, 3)).mean())
        yield Row(f"{paths} paths: equal paths, captured and eager", same, passed=same >= 0.9)
        steps = paths * work.horizon
        yield Row(f"{paths} paths: captured", steps / replayed, "path-steps/s", steps / seconds, "eager")


def path_steps(check: Check) -> Iterator[Row]:
    """Whole forecasts (encoding, every step, decoding into bars) against the authors' loop, fp32 and bf16."""
    precisions: tuple[Precision, ...] = ("fp32", "bf16") if check.cuda else ("fp32",)
    reference, rounds = reference_loop(), 1 if check.quick else 3
    for work in (*map(check.work, check.path_counts()), check.market()):
        rate, used = _reference_rate(check, reference, work)
        name = reference.name + ("" if used == work.paths else f" with {used} paths: more exceed the memory")
        for precision in precisions:
            predictor = check.predictor(work.size, check.device, precision)
            our_run(predictor, work)  # packs the weights and captures the step
            spent = min(check.seconds(partial(our_run, predictor, work)) for _ in range(rounds))
            rate_of_ours = work.series * work.paths * work.horizon / spent
            yield Row(f"{work}, {precision}", rate_of_ours, "path-steps/s", rate, name, work.goal or None)


def training(check: Check) -> Iterator[Row]:
    """Windows per second of training steps, batches included, against the authors' loop; weights captured and eager."""
    for size in check.sizes():
        steps, batch = (2, 4) if check.quick else (20, BATCH)
        error = largest_difference(SIZES[size], check.device, check.seed, 5, batch)
        yield Row(f"{size}: weights of 5 steps, captured and eager, apart", error, passed=error < 1e-2)
        rates = training_rates(SIZES[size], check.device, check.seed, steps, batch)
        for mode, rate in rates.ours.items():
            goal = None if check.quick else TRAINING_GOAL * rates.reference
            yield Row(f"{size}: training, {mode}", rate, "windows/s", rates.reference, rates.reference_name, goal)


def memory(check: Check) -> Iterator[Row]:
    """Peak memory of forecasts at the default budget."""
    for paths in check.path_counts():
        work = check.work(paths)
        predictor = check.predictor(work.size, check.device)
        if check.cuda:
            torch.cuda.reset_peak_memory_stats()
        our_run(predictor, work)
        peak = _peak_gib(check)
        limit = 3 * predictor.memory_budget / 2**30  # buffers of two captured shapes, and what they leave cached
        yield Row(f"{work}: peak memory", peak, "GiB", passed=peak < limit if check.cuda else None)


def out_of_memory(check: Check) -> Iterator[Row]:
    """A forecast whose budget exceeds the memory: it must be halved until it fits, and give the same paths."""
    paths = check.path_counts()[1]
    work = check.work(paths)
    expected = _tokens(check, check.predictor(work.size, check.device), 1, work.lookback, work.horizon, paths)
    predictor = check.predictor(work.size, check.device, memory_budget=2**40)
    warnings = _Warnings()
    logging.getLogger("kronos").addHandler(warnings)
    with torch.inference_mode():
        predictor.engines()
    if check.cuda:
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        allowed = torch.cuda.memory_reserved() + (2**28 if check.quick else 2 * 2**30)
        torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total))
    else:
        predictor._generate = partial(_scarce, predictor._generate, paths // 2)
    halved = _tokens(check, predictor, 1, work.lookback, work.horizon, paths)
    same = float((halved == expected).all(axis=(2, 3)).mean())
    halved_as_meant = warnings.count > 0 or (check.cuda and check.quick)  # tiny sizes fit into any GPU
    what = f"{work}: equal paths after {warnings.count} halvings"
    yield Row(what, same, passed=same >= 0.9 and halved_as_meant)


PARTS = {part.__name__: part for part in (environment, parity, graph, path_steps, training, memory, out_of_memory)}


class _Warnings(logging.Handler):
    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += "out of memory" in record.getMessage()


def _plain_step(decode: StaticDecode) -> Callable[[], None]:
    return decode.step


def _scarce(decode: Callable[..., None], limit: int, engine: Any, groups: list[SeriesGroup], **options: Any) -> None:
    if sum(group.rows for group in groups) > limit:
        raise torch.cuda.OutOfMemoryError("feigned")
    decode(engine, groups, **options)


def _tokens(
    check: Check, predictor: KronosPredictor, series: int, length: int, horizon: int, paths: int = 1, **options: Any
) -> np.ndarray:
    """Tokens (series, path, step, 2) of a forecast from random bars."""
    stamps = time_features(pd.bdate_range("2020-01-01", periods=length + horizon))
    values = [bars(length, check.seed + i).to_numpy() for i in range(series)]
    result = predictor.sample_paths(
        values, [stamps[:length]] * series, [stamps[length:]] * series, horizon,
        paths=paths, seeds=[check.seed + i for i in range(series)], **options,
    )  # fmt: skip
    return result.tokens


def _reference_rate(check: Check, reference: Reference, work: Workload) -> tuple[float | None, int]:
    """Path-steps/s of the authors' loop and the number of paths it ran with, halved until they fit into memory.

    The time between 1 and 3 steps at the middle length: all its steps cost the same, as each recomputes the context.
    """
    run = reference.load(models(work.size, check.seed), check.device)
    middle, paths = work.lookback + work.horizon // 2, work.paths
    while paths:
        try:
            run(middle, 1, paths)
            one, three = (check.seconds(partial(run, middle, horizon, paths)) for horizon in (1, 3))
            return paths * 2 / max(three - one, 1e-9), paths
        except torch.cuda.OutOfMemoryError:
            paths //= 2
        torch.cuda.empty_cache()
    return None, 0


def _peak_gib(check: Check) -> float:
    if check.cuda:
        return torch.cuda.max_memory_allocated() / 2**30
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("rows", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    SIZES["tiny"] = TINY
    with given.rows.open("a") as file:
        for row in PARTS[given.part](Check(given.device, given.quick, given.seed)):
            file.write(json.dumps(asdict(row)) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
