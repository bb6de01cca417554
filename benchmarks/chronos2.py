"""Benchmark of Chronos-2's forecasts against the bare pipeline and `predict_df` with the same random weights.

    python -m benchmarks.chronos2 [--size published compact] [--series 5 115 500] [--clock cpu] [--device cuda]

The forecaster of the asset, from histories to quantiles, takes turns with `pipeline.predict_quantiles` on arrays and
`pipeline.predict_df` on a frame; the best time of each counts. `--clock cpu` measures processor seconds on one thread,
for shared machines.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import torch
from chronos import Chronos2Pipeline

from assets.forecasting.chronos2.batches import SeriesForecaster
from assets.forecasting.chronos2.compact import new_chronos2
from assets.forecasting.chronos2.forecaster import MODEL, Chronos2Rows
from assets.forecasting.chronos2.inputs import Chronos2Inputs
from assets.forecasting.chronos2.pipeline import suitable_series_at_once
from assets.forecasting.cross_section import MarketReturns
from assets.forecasting.forecaster import ForecastTask, NetworkPredict
from assets.market.gaps import GapFill
from assets.market.history import BarHistory
from benchmarks.random_weights import published_chronos_2
from resources.calendar import TradingCalendar
from resources.settings import Chronos2Settings, Settings

CONTEXT, HORIZON = 512, 10
SIZES = {
    "published": published_chronos_2(CONTEXT),
    "compact": Chronos2Settings(context_length=CONTEXT),
}


def histories(count: int, stamps: np.ndarray) -> list[BarHistory]:
    """Random walks without corporate actions."""
    random = np.random.default_rng(count)
    closes = np.exp(4 + np.cumsum(random.normal(0, 0.02, size=(count, len(stamps))), axis=1))
    ones = np.ones(len(stamps))
    return [BarHistory(f"S{n:03}", stamps, np.tile(own[:, None], 6), ones, ones) for n, own in enumerate(closes)]


def frame_of(found: Sequence[BarHistory]) -> pd.DataFrame:
    """What `predict_df` reads: log closes on consecutive days, as it takes no exchange's holidays."""
    days = pd.date_range("2020-01-01", periods=CONTEXT)
    parts = [pd.DataFrame({"item_id": h.symbol, "timestamp": days, "target": np.log(h.quoted[:, 3])}) for h in found]
    return pd.concat(parts, ignore_index=True)


def predictor(pipeline: Chronos2Pipeline, settings: Settings, series_at_once: int) -> NetworkPredict:
    """The forecaster of the asset on these weights."""
    forecaster = SeriesForecaster(pipeline, 1, HORIZON, settings.forecasts.levels, series_at_once)
    inputs = Chronos2Inputs.of(settings, lambda: MarketReturns.of([]))
    rows = Chronos2Rows(settings, HORIZON, inputs, {}, GapFill.of(settings), dict)
    return NetworkPredict(MODEL, rows.prepare, lambda item: replace(forecaster, steps=item[0]).quantiles(item[1]))


def measure(
    size: str, count: int, rounds: int, clock: Callable[[], float], device: str
) -> dict[str, float | str | int]:
    """Seconds of each way for some series, and the ratios."""
    settings = Settings(chronos2=SIZES[size])
    torch.manual_seed(0)
    pipeline = new_chronos2(SIZES[size], HORIZON)
    pipeline.model.eval().to(device)
    weights = sum(weight.numel() for weight in pipeline.model.parameters())
    at_once = suitable_series_at_once(weights, CONTEXT, device)
    calendar = TradingCalendar("XNYS")
    stamps = calendar.stamps(date(2018, 1, 2), date(2022, 1, 3))[:CONTEXT].to_numpy().astype("datetime64[s]")
    found = histories(count, stamps)
    tasks = [ForecastTask(one.symbol, stamps[-1], one, CONTEXT - 1) for one in found]
    targets = np.tile(calendar.following(stamps[-1], HORIZON), (count, 1))
    ours, frame = predictor(pipeline, settings, at_once), frame_of(found)
    arrays = [np.log(one.quoted[:, 3]).astype(np.float32) for one in found]
    levels = list(settings.forecasts.levels)
    ways: dict[str, Callable[[], object]] = {
        "asset": lambda: ours(tasks, targets),
        "pipeline": lambda: pipeline.predict_quantiles(arrays, prediction_length=HORIZON, quantile_levels=levels),
        "predict_df": lambda: pipeline.predict_df(frame, prediction_length=HORIZON, quantile_levels=levels),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    best = {name: min(times) for name, times in seconds.items()}
    ratios = {f"asset / {name}": best["asset"] / best[name] for name in ("pipeline", "predict_df")}
    return {"weights": size, "series": count, "series_at_once": at_once, **best, **ratios}


def main() -> None:
    """Measure what the command line names, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--series", nargs="+", type=int, default=[5, 115, 500])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--device", default="cpu", help='"cpu" or "cuda"')
    chosen = parser.parse_args()
    if chosen.clock == "cpu":
        torch.set_num_threads(1)
    clock = time.process_time if chosen.clock == "cpu" else time.perf_counter
    where = f"{chosen.device}, {torch.get_num_threads()} threads"
    print(f"context {CONTEXT}, horizon {HORIZON}, {where}, {chosen.clock} seconds")
    for size in chosen.size:
        for count in chosen.series:
            row = measure(size, count, chosen.rounds, clock, chosen.device)
            print("  ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)


if __name__ == "__main__":
    main()
