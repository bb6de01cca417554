"""What sample paths cost in CRPS, by number and reading: `python -m benchmarks.kronos_reading --data FILE`.

The packaged Kronos forecasts held-out symbols at origins up to 2010. The outcomes are the model's own: many independent
paths of each forecast, so that a cost is that of the reading alone and not of the model. The cost is the CRPS (19
levels) of quantiles read off a few paths, above that of the quantiles of all reference paths. The last table is the
cost for a forecast that takes only its scale s from Kronos, with weight 0.2: S · (s / S)^0.2, for a normal law.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from assets.training.compact_recipe import held_out_symbols, read_parquet
from assets.training.fit.base_weights import WEIGHTS
from kronos import Kronos, KronosPredictor, KronosTokenizer, PathResult
from kronos.features import FEATURES, time_features
from kronos.inference.sampling import Draws

LOOKBACK, HORIZON = 90, 10
ORIGINS = ("2008-03-14", "2009-06-10", "2010-03-12", "2010-09-15")
LEVELS = np.round(np.arange(0.05, 0.96, 0.05), 2)
CLOSE, SHOWN = FEATURES.index("close"), (1, 2, 5, 10)
WEIGHT = 0.2

Array = NDArray[np.float64]
Read = Callable[[PathResult], NDArray[np.float32]]
READINGS: dict[str, tuple[Draws, Read]] = {
    "independent paths": ("independent", lambda r: r.quantiles(LEVELS.tolist(), "median_unbiased")),
    "independent, weighted": ("independent", lambda r: r.quantiles(LEVELS.tolist())),
    "stratified": ("stratified", lambda r: replace(r, first_step=None).quantiles(LEVELS.tolist(), "median_unbiased")),
    "and exact first step": ("stratified", lambda r: r.quantiles(LEVELS.tolist(), "median_unbiased")),
    "and weighted (default)": ("stratified", lambda r: r.quantiles(LEVELS.tolist())),
}


class Workload:
    """Histories of held-out symbols and the packaged models."""

    def __init__(self, data: Path, symbols: int) -> None:
        folders = WEIGHTS / "kronos_predictor", WEIGHTS / "kronos_tokenizer"
        models = Kronos.from_pretrained(folders[0]), KronosTokenizer.from_pretrained(folders[1])
        self.predictor = KronosPredictor(*models, device="cpu", threads=1)
        histories = read_parquet(data)
        self.bars, self.past, self.future = [], [], []
        for symbol in held_out_symbols(list(histories))[:symbols]:
            history = histories[symbol]
            for origin in ORIGINS:
                index = history.index_of(np.datetime64(origin))
                if index is None or index + 1 < LOOKBACK:
                    continue
                first = index - LOOKBACK + 1
                self.bars.append(np.asarray(history.bars_as_of(index, first, index)))
                self.past.append(time_features(history.stamps[first : index + 1]))
                self.future.append(time_features(history.stamps[index + 1 : index + 1 + HORIZON]))

    def sample(self, paths: int, seed: int, draws: Draws) -> PathResult:
        """Paths of all forecasts."""
        seeds = [1_000_003 * seed + row for row in range(len(self.bars))]
        return self.predictor.sample_paths(
            self.bars, self.past, self.future, HORIZON, paths=paths, seeds=seeds, draws=draws
        )


def crps_of(quantiles: NDArray[np.float32], outcomes: NDArray[np.float32]) -> Array:
    """Mean CRPS (series, step) of quantiles (series, level, step) over outcomes (series, path, step)."""
    total = np.zeros(quantiles[:, 0].shape)
    for place, level in enumerate(LEVELS):
        error = outcomes.astype(np.float64) - quantiles[:, place, None]
        total += np.where(error > 0, level * error, (level - 1) * error).mean(axis=1)
    return np.asarray(2 * total / (len(LEVELS) + 1))


def scale_cost(few: NDArray[np.float32], many: NDArray[np.float32]) -> Array:
    """Cost (series, step) of noise in a scale that enters with WEIGHT; quantiles (series, level, step)."""
    ratio = (few[:, -1] - few[:, 0]).astype(np.float64) / (many[:, -1] - many[:, 0])
    outcomes, own = norm.ppf((np.arange(2000) + 0.5) / 2000), norm.ppf(LEVELS)

    def loss(scale: Array) -> Array:
        error = outcomes - scale[..., None, None] * own[:, None]
        losses = np.where(error > 0, LEVELS[:, None] * error, (LEVELS[:, None] - 1) * error)
        return np.asarray(losses.mean(axis=(-1, -2)))

    return np.asarray(loss(ratio**WEIGHT) / loss(np.ones(1)) - 1)


def row(name: str, count: int, costs: Sequence[Array]) -> str:
    mean = 100 * np.mean([cost.mean(axis=0) for cost in costs], axis=0)
    steps = " | ".join(f"{mean[step - 1]:.2f} %" for step in SHOWN)
    return f"| {name} | {count} | {mean.mean():.3f} % | {steps} |"


def main() -> None:
    """Print both tables and the time per forecast."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--symbols", type=int, default=12)
    parser.add_argument("--reference", type=int, default=5000, help="independent paths that serve as outcomes")
    parser.add_argument("--paths", type=int, nargs="+", default=[30, 100, 300, 1000])
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    work = Workload(given.data, given.symbols)
    outcomes = work.sample(given.reference, 10**6, "independent")
    truth = outcomes.paths[..., CLOSE]
    best = outcomes.quantiles(LEVELS.tolist(), "median_unbiased")[..., CLOSE]
    least = crps_of(best, truth)
    print(f"{len(work.bars)} forecasts, {given.reference} reference paths each, {given.seeds} seeds\n")
    header = f"| reading | paths | all steps | {' | '.join(f'step {step}' for step in SHOWN)} |"
    print(header, "|---|---|---|---|---|---|---|", sep="\n")
    scales: list[str] = []
    spent: dict[tuple[Draws, int], float] = {}
    for count in given.paths:
        drawn: dict[Draws, list[PathResult]] = {}
        for draws in ("independent", "stratified"):
            started = time.process_time()
            drawn[draws] = [work.sample(count, seed, draws) for seed in range(given.seeds)]
            spent[draws, count] = (time.process_time() - started) / given.seeds / len(work.bars)
        for name, (draws, read) in READINGS.items():
            found = [read(result)[..., CLOSE] for result in drawn[draws]]
            print(row(name, count, [crps_of(one, truth) / least - 1 for one in found]), flush=True)
            if name in ("independent paths", "and weighted (default)"):
                scales.append(row(name, count, [scale_cost(one, best) for one in found]))
    print("\nScale with weight 0.2", header, "|---|---|---|---|---|---|---|", *scales, sep="\n")
    print("\nProcessor time per forecast, one thread")
    for (draws, count), seconds in spent.items():
        print(f"{draws}, {count} paths: {1000 * seconds:.1f} ms")
    exact = work.sample(2, 0, "stratified").first_step
    assert exact is not None
    print(
        f"share of the first step in pairs of their own: mean {exact.exact.mean():.3f}, least {exact.exact.min():.3f}"
    )


if __name__ == "__main__":
    main()
