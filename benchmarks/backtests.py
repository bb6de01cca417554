"""Benchmark of our TopkDropout against Qlib's loop, and of sweeps of many backtests: time and peak memory.

    python -m benchmarks.backtests [--symbols 100] [--sessions 750] [--count 1000] [--workers 2]

Random walks with suspensions and random daily scores. Qlib's time is that of its day loop alone, by the progress of its
process: without its start, and without reading the data. Compiling is not counted, but printed: it happens once per
machine.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice, product
from pathlib import Path

import numpy as np

from assets.backtests.plan import BacktestPlan
from assets.backtests.prices import PricePanel
from assets.backtests.qlib_backtest import plan_sessions, price_panel, simulate_with_qlib, simulate_without_qlib
from assets.backtests.rules import NO_LIMITS, TradingRules
from assets.backtests.sweep import SweepRun, sweep
from assets.backtests.topk_compiled import compiled_day_loop
from assets.backtests.topk_dropout import simulate
from assets.backtests.topk_kernel import Sessions
from assets.backtests.tradability import session_states
from resources.compute import available_cores
from resources.qlib import DailyBars, QlibProvider, write_provider

RULES = TradingRules(
    topk=20, n_drop=4, hold_thresh=1, open_cost=0.0005, close_cost=0.0015, min_cost=0.0, account=1e6, dropout="qlib"
)
SUSPENDED = 0.01
ROUNDS = 5


def random_scores(seed: int, sessions: int, symbols: int) -> np.ndarray:
    """A permutation of the ranks on each session: (sessions, symbols)."""
    ranks = np.tile(np.arange(1.0, symbols + 1), (sessions, 1))
    return np.random.default_rng([7, seed]).permuted(ranks, axis=1)


def random_provider(folder: Path, sessions: int, symbols: int) -> QlibProvider:
    """Random walks with suspensions in Qlib's format."""
    random = np.random.default_rng(0)
    days = np.arange(np.datetime64("2015-01-01"), np.datetime64("2015-01-01") + sessions + 5)
    closes = 50 * np.exp(np.cumsum(random.normal(0, 0.02, (sessions, symbols)), axis=0))
    traded = random.random(closes.shape) >= SUSPENDED
    traded[[0, -1]] = True
    column, day = np.nonzero(traded.T)
    names = np.array([f"S{number:04}" for number in range(symbols)], dtype=object)
    close = closes[day, column]
    opens = close * np.exp(random.normal(0, 0.005, len(close)))
    bars = DailyBars(
        symbol=names[column], session=days[day], open=opens, close=close, high=np.maximum(opens, close),
        low=np.minimum(opens, close), volume=np.full(len(close), 1e6), factor=np.ones(len(close)),
    )  # fmt: skip
    return write_provider(folder / "qlib", folder / "scratch", bars, days[:sessions], days[sessions:])


def random_plan(prices: PricePanel, models: int) -> BacktestPlan:
    """A plan of so many random models on all sessions."""
    days = prices.sessions
    scores = {f"model {seed}": random_scores(seed, len(days), len(prices.symbols)) for seed in range(models)}
    states = session_states(prices, NO_LIMITS)
    return BacktestPlan(
        days, prices.symbols, prices.ids, scores, np.zeros(len(days) - 1), (), prices.ends, states
    )  # fmt: skip


def qlib_seconds(plan: BacktestPlan, provider: QlibProvider, folder: Path) -> tuple[float, float]:
    """Seconds of Qlib's loop per backtest, and the largest difference of a daily return from ours."""
    stamps: list[float] = []
    days = simulate_with_qlib(plan, provider, RULES, folder, lambda *_: stamps.append(time.perf_counter()), 1).days
    ours = simulate_without_qlib(plan, price_panel(provider), RULES)
    # The first line is printed before the process starts, and the second after the first model.
    return min(np.diff(stamps[1:])), float(np.abs(days["net"] - ours["net"]).max())


def best_seconds(run: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The shortest of some runs."""
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def many_signals(sessions: Sessions, count: int) -> Iterator[tuple[str, np.ndarray]]:
    """Scores made when they are read, from ten random ones."""
    base = [random_scores(seed, *sessions.closes.shape) for seed in range(10)]
    for number in range(count):
        yield f"signal {number}", np.roll(base[number % len(base)], number // len(base), axis=1)


def many_rules(count: int) -> list[TradingRules]:
    """Settings that differ in topk, n_drop and costs."""
    grid = product(range(5, 30), range(1, 6), np.arange(0, 0.002, 0.0001))
    return [
        replace(RULES, topk=k, n_drop=n, open_cost=float(c), close_cost=float(c)) for k, n, c in islice(grid, count)
    ]


def consume(runs: Iterator[SweepRun]) -> float:
    """The mean net return of all runs, none of which is kept."""
    return sum(float(run.simulation.net.mean()) for run in runs)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--symbols", type=int, default=100)
    parser.add_argument("--sessions", type=int, default=750)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=available_cores())
    chosen = parser.parse_args()
    start = time.perf_counter()
    compiled_day_loop()
    print(f"loaded or compiled in {time.perf_counter() - start:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        provider = random_provider(Path(folder), chosen.sessions, chosen.symbols)
        prices = price_panel(provider)
        plan, sessions = random_plan(prices, 3), plan_sessions(random_plan(prices, 1), prices)
        work = Path(folder) / "work"
        work.mkdir()
        qlib, difference = qlib_seconds(plan, provider, work)
        scores = next(iter(plan.scores.values()))
        ours = best_seconds(lambda: simulate(scores, prices.open, prices.close, RULES, plan.ended, plan.states))
    print(f"{chosen.symbols} symbols × {chosen.sessions} sessions, topk {RULES.topk}, n_drop {RULES.n_drop}")
    print(f"one backtest: Qlib's loop {qlib:.2f} s, ours {1000 * ours:.1f} ms: {qlib / ours:,.0f} ×")
    print(f"largest difference of a daily return {difference:.1g}")
    for count in (chosen.count, 4 * chosen.count):
        for what, runs in {
            "signals": sweep(many_signals(sessions, count), sessions, [RULES], chosen.workers),
            "settings of one signal": sweep([("signal", scores)], sessions, many_rules(count), chosen.workers),
        }.items():
            start, processor = time.perf_counter(), time.process_time()
            consume(runs)
            seconds, processor = time.perf_counter() - start, time.process_time() - processor
            print(
                f"{count:,} {what}, {chosen.workers} workers: {seconds:.2f} s, {processor:.2f} s of processor time, "
                f"peak memory {peak_mib():.0f} MiB"
            )


if __name__ == "__main__":
    main()
