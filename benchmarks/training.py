"""Training steps compared with the authors' dataset and loop, and the preparation of many windows.

`python -m benchmarks.training [--steps N] [--threads N]`. The reference follows the description of the authors'
fine-tuning: one pandas slice per sample, normalised one by one, tokenised on the fly, and their model (the package
`kronos-model-arch`, installed with --no-deps). The two alternate step by step, so that other load slows both. Windows
per second are given for CPU time and wall time; ours include a share of tokenising every window once, spread over the
number of epochs that the authors train (30).
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import bokeh_sampledata
import numpy as np
import pandas as pd

BATCH, LOOKBACK, HORIZON, EPOCHS = 50, 90, 10, 30
FIELDS = ["open", "high", "low", "close", "volume", "amount"]
STAMPS = ["minute", "hour", "weekday", "day", "month"]


def bars() -> dict[str, pd.DataFrame]:
    """The daily sample bars, one frame per symbol, with the columns of the authors' dataset."""
    file = Path(bokeh_sampledata.__file__).parent / "_data" / "stocks.csv.gz"
    rows = pd.read_csv(file, parse_dates=["Date"]).rename(columns=str.lower).sort_values(["ticker", "date"])
    rows["amount"] = rows["volume"] * rows[["open", "high", "low", "close"]].mean(axis=1)
    stamp = rows["date"].dt
    rows = rows.assign(minute=0, hour=0, weekday=stamp.day_of_week, day=stamp.day, month=stamp.month)
    return {str(symbol): own.set_index("date") for symbol, own in rows.groupby("ticker") if len(own) > 2000}


class Timer:
    """CPU and wall seconds of one implementation."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0
        self.steps = 0

    def run(self, step: Callable[[], None]) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        step()
        self.cpu += time.process_time() - cpu
        self.wall += time.perf_counter() - wall
        self.steps += 1

    def speed(self, extra_cpu: float = 0.0) -> dict[str, float]:
        share = extra_cpu * self.steps * BATCH
        windows = self.steps * BATCH
        return {
            "windows_per_cpu_second": windows / (self.cpu + share),
            "windows_per_second": windows / (self.wall + share * self.wall / self.cpu),
        }


def authors_step(size: str, frames: dict[str, pd.DataFrame]) -> Callable[[], None]:
    """One step of the authors' loop: slice, normalise, tokenise, forward, backward, AdamW."""
    import torch
    from model import Kronos, KronosTokenizer

    model = Kronos(**shape(size)).train()
    tokenizer = KronosTokenizer(**tokenizer_shape(size)).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-5, betas=(0.9, 0.95), weight_decay=0.1)
    index = [(s, i) for s, frame in frames.items() for i in range(len(frame) - LOOKBACK - HORIZON)]
    rng = np.random.default_rng(7)

    def sample(number: int) -> tuple[np.ndarray, np.ndarray]:
        symbol, start = index[number]
        window = frames[symbol].iloc[start : start + LOOKBACK + HORIZON]
        x, stamps = window[FIELDS].values.astype(np.float32), window[STAMPS].values.astype(np.float32)
        mean, std = np.mean(x, axis=0), np.std(x, axis=0)
        return np.clip((x - mean) / (std + 1e-5), -5, 5), stamps

    def step() -> None:
        drawn = [sample(int(number)) for number in rng.integers(len(index), size=BATCH)]
        x, stamps = (torch.from_numpy(np.stack([pair[part] for pair in drawn])) for part in (0, 1))
        with torch.no_grad():
            s1, s2 = tokenizer.encode(x, half=True)
        logits = model(s1[:, :-1], s2[:, :-1], stamps[:, :-1, :])
        loss, _, _ = model.head.compute_loss(logits[0], logits[1], s1[:, 1:], s2[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=3.0)
        optimizer.step()

    return step


def our_step(size: str, folder: Path) -> tuple[Callable[[], None], float]:
    """One step of our loop, and the CPU seconds of tokenising one window, divided by the number of epochs."""
    import torch

    from assets.training.data.dataset import WindowArrays
    from assets.training.fit.predictor import PredictorTask
    from kronos import Kronos, KronosTokenizer, Normalisation
    from kronos.config import KronosConfig, TokenizerConfig
    from resources.settings import PredictorSettings

    model = Kronos(KronosConfig(**shape(size))).train()
    tokenizer = KronosTokenizer(TokenizerConfig(**tokenizer_shape(size))).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-5, betas=(0.9, 0.95), weight_decay=0.1)
    arrays = WindowArrays(folder)
    drawn = np.arange(0, len(arrays.windows("train")), 8)
    started = time.process_time()
    with tempfile.TemporaryDirectory() as tokens:
        task = PredictorTask(
            arrays,
            tokenizer,
            Normalisation(),
            PredictorSettings(validation_windows=1),
            drawn,
            Path(tokens),
            torch.device("cpu"),
            7,
        )
    once = (time.process_time() - started) / len(drawn)
    rng = np.random.default_rng(7)

    def step() -> None:
        task.loss(model, task.batch(rng.choice(drawn, BATCH))).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=3.0)
        optimizer.step()
        optimizer.zero_grad()

    return step, once / EPOCHS


def preparation(folder: Path, windows: int = 500_000) -> dict[str, float]:
    """Seconds and memory of building, hashing and writing `windows` windows from histories in memory."""
    from assets.market.history import BarHistory
    from assets.training.data.dataset import write_arrays
    from assets.training.data.windows import build_windows
    from resources.settings import WindowSettings

    rng = np.random.default_rng(7)
    per_symbol = 2_500
    stamps = np.datetime64("2000-01-03", "s") + np.arange(per_symbol + 700) * np.timedelta64(86_400, "s")
    histories = {}
    for number in range(windows // (per_symbol - 99) + 1):
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, len(stamps))))
        quoted = np.column_stack([close, close * 1.01, close * 0.99, close, close * 1e4, close * 1e6])
        ones = np.ones(len(stamps))
        histories[f"S{number:04d}"] = BarHistory(f"S{number:04d}", stamps, quoted, ones, ones)
    days = stamps.astype("datetime64[D]").astype(object)
    settings = WindowSettings(
        train=(days[0], days[per_symbol - 1]),
        validation=(days[per_symbol], days[per_symbol + 350]),
        test=(days[per_symbol + 351], days[-1]),
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, wall = time.process_time(), time.perf_counter()
    found = build_windows(histories, settings)
    folder.mkdir()
    write_arrays(folder, found.arrays, dict(found.manifest))
    return {
        "windows": found.total("train"),
        "cpu_seconds": time.process_time() - cpu,
        "seconds": time.perf_counter() - wall,
        "added_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "on_disk_mib": sum(file.stat().st_size for file in folder.iterdir()) / 2**20,
    }


def processes(folder: Path, scratch: Path) -> dict[str, float]:
    """Windows per second of a complete fit at the width of Kronos-mini: one process and two (gloo), one thread each."""
    from assets.training.fit.base_weights import WEIGHTS
    from assets.training.worker.job import TrainingJob
    from assets.training.worker.pipes_client import run_job
    from resources.settings import ComputeSettings, PredictorSettings, Settings

    settings = PredictorSettings(
        d_model=256, n_layers=4, n_heads=4, ff_dim=512, epochs=1, steps_per_epoch=20, batch_size=BATCH,
        validation_windows=8, select_origins=0,
    )  # fmt: skip
    speeds = {}
    for count in (1, 2):
        out = scratch / f"out{count}"
        out.mkdir()
        job = TrainingJob(
            kind="kronos_predictor",
            settings=Settings(predictor=settings, compute=ComputeSettings(device="cpu", threads=1, processes=count)),
            arrays=folder,
            tokenizer=WEIGHTS / "kronos_tokenizer",
            work=scratch / f"work{count}",
            out=out,
        )
        speeds[str(count)] = float(run_job(job).curves["windows_per_second"])
    return {**speeds, "ratio": speeds["2"] / speeds["1"]}


def shape(size: str) -> dict[str, Any]:
    """The keyword arguments of a published predictor."""
    from kronos.config import KRONOS_MINI, KRONOS_SMALL

    return asdict({"mini": KRONOS_MINI, "small": KRONOS_SMALL}[size])


def tokenizer_shape(size: str) -> dict[str, Any]:
    """The keyword arguments of its tokenizer."""
    from kronos.config import TOKENIZER_2K, TOKENIZER_BASE

    return asdict({"mini": TOKENIZER_2K, "small": TOKENIZER_BASE}[size])


def sample_windows(folder: Path) -> None:
    """Write the training arrays of the sample bars."""
    from assets.market.history import BarHistory
    from assets.training.data.dataset import write_arrays
    from assets.training.data.windows import build_windows
    from resources.settings import WindowSettings

    histories = {
        s: BarHistory(
            s,
            frame.index.to_numpy().astype("datetime64[s]"),
            frame[FIELDS].to_numpy(dtype=float),
            np.ones(len(frame)),
            np.ones(len(frame)),
        )
        for s, frame in bars().items()
    }
    found = build_windows(histories, WindowSettings())
    folder.mkdir()
    write_arrays(folder, found.arrays, dict(found.manifest))


def main() -> None:
    """Measure, print a table, and write the numbers as JSON if `--out` is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sizes", default="mini,small")
    parser.add_argument(
        "--processes", action="store_true", help="also compare one process with two; needs two free cores"
    )
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        results: dict[str, Any] = {"preparation": preparation(Path(scratch) / "many")}
        print("preparation:", {name: round(value, 2) for name, value in results["preparation"].items()})
        import torch

        torch.set_num_threads(given.threads)
        folder = Path(scratch) / "sample"
        sample_windows(folder)
        frames = bars()
        for size in given.sizes.split(","):
            torch.manual_seed(7)
            theirs, (ours, share) = authors_step(size, frames), our_step(size, folder)
            theirs()
            ours()
            timers = {"authors": Timer(), "candlecast": Timer()}
            for _ in range(given.steps):
                timers["authors"].run(theirs)
                timers["candlecast"].run(ours)
            speeds = {"authors": timers["authors"].speed(), "candlecast": timers["candlecast"].speed(share)}
            key = "windows_per_cpu_second"
            ratio = speeds["candlecast"][key] / speeds["authors"][key]
            results[size] = {**speeds, "ratio_cpu": ratio}
            for name, speed in speeds.items():
                print(
                    f"{size:6} {name:11} {speed[key]:7.1f} windows/CPU-s {speed['windows_per_second']:7.1f} windows/s"
                )
            print(f"{size:6} ratio {ratio:.2f} (CPU time)")
        if given.processes:
            results["processes"] = processes(folder, Path(scratch))
            print("windows/s by processes:", {name: round(value, 2) for name, value in results["processes"].items()})
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
