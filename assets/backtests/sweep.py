"""Many backtests at once: every signal under every set of trading rules, on all cores, in constant memory.

A signal is ranked once for a block of rules. Threads simulate the blocks: the compiled loop releases the GIL
(topk_compiled). Only a few blocks are in work at a time, so signals may come from a generator or a memory-mapped array
that is larger than the memory. Not here: measures of the results (measures, edge).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from assets.backtests.rules import TradingRules
from assets.backtests.topk_dropout import Simulation, ranking, simulate_ranked
from assets.backtests.topk_kernel import Sessions
from resources.compute import available_cores

RULES_PER_BLOCK = 16
BLOCKS_PER_WORKER = 2


@dataclass(frozen=True)
class SweepRun:
    """One backtest of a sweep: the name of its signal, its rules, and its daily results."""

    signal: str
    rules: TradingRules
    simulation: Simulation


def sweep(
    signals: Iterable[tuple[str, np.ndarray]],
    sessions: Sessions,
    rules: Sequence[TradingRules],
    workers: int | None = None,
    compiled: bool = True,
) -> Iterator[SweepRun]:
    """Backtests of every signal under all rules: by signal, then in the order of the rules.

    Results are the same with any number of workers, and those of `simulate`.

    Args:
        signals: name and scores, (days, symbols), NaN without a signal; read when their turn comes. Of a plan:
            `plan.scores.items()`.
        sessions: of `qlib_backtest.plan_sessions`, or of arrays by `topk_dropout.trading_sessions`.
        rules: their price limits have no effect: they are part of `sessions`.
        workers: threads; None: one per core.
        compiled: as of `simulate_ranked`.

    Raises:
        ValueError: the scores of a signal have another shape than the sessions.
    """
    workers = available_cores() if workers is None else workers
    blocks = [rules[start : start + RULES_PER_BLOCK] for start in range(0, len(rules), RULES_PER_BLOCK)]
    pending: deque[Future[list[SweepRun]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for name, scores in signals:
            if scores.shape != sessions.closes.shape:
                raise ValueError(
                    f"signal {name}: scores of shape {scores.shape} for sessions × symbols {sessions.closes.shape}"
                )
            for block in blocks:
                pending.append(pool.submit(_simulate_block, name, scores, sessions, block, compiled))
                if len(pending) >= BLOCKS_PER_WORKER * workers:
                    yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _simulate_block(
    name: str, scores: np.ndarray, sessions: Sessions, rules: Sequence[TradingRules], compiled: bool
) -> list[SweepRun]:
    ranks = ranking(scores)
    return [SweepRun(name, one, simulate_ranked(ranks, sessions, one, compiled)) for one in rules]
