"""Time of the compact Kronos by worker processes: `python -m benchmarks.workers --data PARQUET [--origins N]`.

The file is that of benchmarks.skill. All of its symbols are forecast from some origins, 100 paths of ten steps each, by
one process and by two; the quantiles are compared byte by byte. Wall time: on cores that nothing else uses.
"""

from __future__ import annotations

import argparse
import time
from datetime import date
from pathlib import Path

import numpy as np

from assets.forecasting.kronos_forecaster import kronos_forecaster
from assets.forecasts.cost import CostMeter
from assets.forecasts.workers import Batch, predictions
from assets.training.compact_recipe import read_parquet
from benchmarks.compact import PackagedStore
from benchmarks.skill.models import benchmark_settings
from benchmarks.skill.sample import build_sample
from resources.compute import Compute
from resources.layout import Home

FIRST, LAST, EVERY = date(2011, 1, 1), date(2020, 12, 31), 23


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, help="Parquet file of daily bars")
    parser.add_argument("--origins", type=int, default=20, help="origins of all symbols")
    given = parser.parse_args()
    histories = read_parquet(given.data)
    settings = benchmark_settings()
    forecaster = kronos_forecaster(settings, PackagedStore(Home(settings.home)))
    sample = build_sample(histories, sorted(histories), FIRST, FIRST, LAST, EVERY)
    rows = np.flatnonzero(sample.origin < given.origins)
    tasks = sample.tasks(slice(0, len(rows)), histories)
    targets = sample.targets[sample.origin[rows]]
    size = forecaster.batch_size
    batches = [
        Batch(tasks[first : first + size], targets[first : first + size]) for first in range(0, len(tasks), size)
    ]
    seconds, found = {}, {}
    for workers in (1, 2):
        compute = Compute(settings.compute.model_copy(update={"workers": workers}))
        forecaster.load()  # read once, before either is measured
        began = time.perf_counter()
        made = [prediction.quantiles for _, prediction in predictions(forecaster, batches, compute, CostMeter())]
        seconds[workers] = time.perf_counter() - began
        found[workers] = np.concatenate(made).tobytes()
    print(f"{len(histories)} symbols × {given.origins} origins, {len(tasks):,} forecasts of the compact Kronos")
    print(f"one process {seconds[1]:.1f} s, two {seconds[2]:.1f} s: {seconds[1] / seconds[2]:.2f} ×")
    print("equal bytes" if found[1] == found[2] else "DIFFERENT BYTES")


if __name__ == "__main__":
    main()
