"""Time and memory of all default models for one origin of 500 symbols.

Measured from the Parquet file to the quantiles of all models: start of the processes, imports, bars, weights,
forecasts, and what is derived from them and from the stored forecasts of earlier origins. Those are random, as the time
does not depend on their values. Estimates of baselines are made before: candlecast keeps them. Where the file has fewer
symbols they are repeated under other names.
"""

from __future__ import annotations

import tempfile
import time
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from assets.training.compact_recipe import read_parquet
from benchmarks.skill.derived import derived_stages
from benchmarks.skill.forecasts import LEVELS, QuantileStore, forecast_rows, write_estimates
from benchmarks.skill.sample import HORIZON, build_sample
from benchmarks.skill.workers import Call, Workers

SYMBOLS, EARLIER_YEARS, EVERY = 500, 3, 5
GOAL = "goal: ≤ 60 s, ≤ 2,048 MiB on two cores"


def measure(data: Path, models: list[str], processes: int) -> str:
    """The measurement as text."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # In processes of its own, whose memory does not count.
        with Workers(2) as apart:
            apart.run([Call(prepare, (data, folder, models), "preparation")], "preparation")
        began = time.perf_counter()
        with Workers(processes) as workers:
            store = QuantileStore(folder / "store")
            tasks = len(store.sample)
            newest = int(np.searchsorted(store.sample.origin, len(store.sample.origins) - 1))
            parts = np.linspace(newest, tasks, processes + 1).astype(int)
            workers.run(
                [
                    Call(forecast_rows, (store, model, slice(int(first), int(end)), folder / "bars.parquet"), model)
                    for model in reversed(models)
                    for first, end in pairwise(parts)
                ],
                "forecasts",
            )
            for stage in derived_stages(store, models, slice(newest, tasks)):
                workers.run(stage, "derived forecasts")
        seconds = time.perf_counter() - began
        made = [model for model in store.models if np.isfinite(store.read(model)[newest:]).all()]
    busy = sum(workers.seconds().values())
    lines = [
        f"{tasks - newest} symbols, one origin, {len(made)} models, {processes} processes: {seconds:.1f} s, "
        f"{workers.memory_text} ({GOAL})",
        f"{busy:.1f} s of processor time:",
        *(f"  {label:34} {taken:6.1f} s" for label, taken in workers.seconds().items()),
    ]
    return "\n".join(lines)


def prepare(data: Path, folder: Path, models: list[str]) -> None:
    """Write the bars of 500 symbols, and random forecasts of the origins before the newest one."""
    rows = pd.read_parquet(data)
    # Those that trade to the end and have the longest history.
    ends = rows.groupby("symbol")["date"].agg(["max", "size"])
    names = ends[ends["max"] == ends["max"].max()].sort_values("size", ascending=False).index[:SYMBOLS]
    by_name = dict(iter(rows[rows["symbol"].isin(names)].groupby("symbol")))
    copies = [by_name[names[number % len(names)]].assign(symbol=f"S{number:04}") for number in range(SYMBOLS)]
    bars = folder / "bars.parquet"
    pd.concat(copies, ignore_index=True).to_parquet(bars)
    del rows, copies
    histories = read_parquet(bars)
    sessions = histories["S0000"].stamps.astype("datetime64[D]")
    last = sessions[-HORIZON - 1].item()
    sample = build_sample(histories, sorted(histories), last - timedelta(days=365 * EARLIER_YEARS), last, last, EVERY)
    store = QuantileStore.make(folder / "store", sample)
    write_estimates(store.folder, bars)
    generator = np.random.default_rng(1)
    earlier = slice(0, int(np.searchsorted(sample.origin, len(sample.origins) - 1)))
    spread = sample.volatility[earlier, None] * np.sqrt(np.arange(1, HORIZON + 1))
    quantiles = spread[..., None] * np.log(np.asarray(LEVELS) / (1 - np.asarray(LEVELS))) / 1.8
    for model in models:
        store.create(model)
        store.write(model, earlier, quantiles * generator.uniform(0.8, 1.2, spread.shape)[..., None])
