"""Whether pooled windows help: `python -m benchmarks.kronos_windows --data PARQUET`.

CRPS of the close over ten sessions, of the packaged weights with the windows of `VARIANTS` against their lookback of 90
bars, on origins of 2010, which the weights were selected on but not trained on. Every variant draws 100 paths. Skill is
positive where the variant is better; the interval is that of a block bootstrap over origins. The data list symbols that
were still listed in 2021: both sides share the survivorship bias.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from assets.forecasting.forecaster import ForecastTask
from assets.market.history import CLOSE, FIELDS
from assets.training.compact_recipe import WINDOWS, read_parquet
from assets.training.fit.base_weights import WEIGHTS
from assets.training.model_selection.scoring import compare_skill, tasks_at_origins
from kronos import Kronos, KronosPredictor, KronosTokenizer

PATHS = 100
HORIZON, LOOKBACK = WINDOWS.predict_window, WINDOWS.lookback_window
REACH = 5 * LOOKBACK
Windows = tuple[int | tuple[int, int], ...]
PLAIN: Windows = (LOOKBACK,)
VARIANTS: dict[str, Windows] = {
    "another seed": PLAIN,
    "450 bars": (REACH,),
    "45 bars": (45,),
    "90, 60 and 45 bars": (90, 60, 45),
    "90, 180 and 450 bars": (90, 180, REACH),
    "90 bars of two": ((90, 2),),
    "90 bars of five": ((90, 5),),
    "90, and 90 of two": (90, (90, 2)),
    "90, and 90 of five": (90, (90, 5)),
    "90, 90 of two and of five": (90, (90, 2), (90, 5)),
}


def sample_crps(paths: np.ndarray, actual: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """CRPS of a pool of equal windows, without the bias of few paths: paths (n, paths, steps), actual (n, steps).

    `shares` is the number of paths of each window; the distance of two paths of one window is averaged without the
    zeros of a path to itself.
    """
    ends = np.cumsum(shares)[:-1]
    parts = np.split(paths, ends, axis=1)
    error = np.mean([np.abs(part - actual[:, None]).mean(axis=1) for part in parts], axis=0)
    spread = np.zeros_like(error)
    for i, a in enumerate(parts):
        for j, b in enumerate(parts):
            distance = np.abs(a[:, :, None] - b[:, None]).sum(axis=(1, 2))
            spread += distance / (a.shape[1] * (b.shape[1] - (i == j)))
    scores: np.ndarray = error - spread / len(parts) ** 2 / 2
    return scores


def losses(predictor: KronosPredictor, tasks: list[ForecastTask], windows: Windows, seed: int) -> np.ndarray:
    """Mean CRPS over the steps in per cent of the close: (tasks,)."""
    found = []
    for first in range(0, len(tasks), 64):
        part = tasks[first : first + 64]
        frames, future, actual = [], [], []
        for task in part:
            rows = slice(task.index - REACH + 1, task.index + 1)
            index = pd.DatetimeIndex(task.history.stamps[rows])
            bars = task.history.bars_as_of(task.index, rows.start)
            frames.append(pd.DataFrame(bars, columns=list(FIELDS), index=index))
            ahead = slice(task.index + 1, task.index + 1 + HORIZON)
            future.append(pd.DatetimeIndex(task.history.stamps[ahead]))
            actual.append(task.history.closes_as_of(task.index, ahead.start, ahead.stop - 1))
        result = predictor.forecast(frames, None, future, sample_count=PATHS, seed=seed, windows=windows)
        last = np.array([frame["close"].iloc[-1] for frame in frames])[:, None]
        shares = np.full(len(windows), PATHS // len(windows)) + (np.arange(len(windows)) < PATHS % len(windows))
        closes = result.paths[..., CLOSE].astype(np.float64) / last[..., None]
        found.append(100 * sample_crps(closes, np.stack(actual) / last, shares).mean(axis=1))
    return np.concatenate(found)


def scored(tasks: list[ForecastTask], crps: np.ndarray) -> pd.DataFrame:
    """The losses as `compare_skill` reads them."""
    until = [task.history.stamps[task.index + HORIZON] for task in tasks]
    names = {"symbol": [task.symbol for task in tasks], "origin": [task.origin for task in tasks]}
    return pd.DataFrame({**names, "step": 0, "until": until, "crps": crps})


def main() -> None:
    """Measure every variant and print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--every", type=int, default=5, help="sessions between two origins")
    parser.add_argument("--symbols", type=int, default=3, help="use every n-th symbol")
    given = parser.parse_args()
    histories = read_parquet(given.data)
    histories = {name: histories[name] for name in sorted(histories)[:: given.symbols]}
    sessions = max(histories.values(), key=len).stamps
    first, last = (np.datetime64(day) for day in WINDOWS.validation)
    # The last target of the last origin is in 2010 as well.
    origins = list(sessions[(sessions >= first) & (sessions <= last)][:-HORIZON][:: given.every])
    tasks = tasks_at_origins(histories, origins, REACH, HORIZON)
    predictor = KronosPredictor(
        Kronos.from_pretrained(WEIGHTS / "kronos_predictor"),
        KronosTokenizer.from_pretrained(WEIGHTS / "kronos_tokenizer"),
    )
    start = time.perf_counter()
    plain = losses(predictor, tasks, PLAIN, seed=7)
    spent = time.perf_counter() - start
    print(f"{len(tasks)} forecasts from {len(origins)} origins; 90 bars: CRPS {plain.mean():.4f} %\n")
    print("| windows | time | against 90 bars |\n|---|---|---|", flush=True)
    for place, (name, windows) in enumerate(VARIANTS.items()):
        start = time.perf_counter()
        own = losses(predictor, tasks, windows, seed=7 if place else 8)
        times = (time.perf_counter() - start) / spent
        print(
            f"| {name} | {times:.1f} × | {compare_skill(scored(tasks, own), scored(tasks, plain), 7).text} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
