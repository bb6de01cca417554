"""A backtest plan simulated by Qlib, in a child process that uses every core, and by our own loop (topk_dropout)."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from assets.backtests import qlib_worker
from assets.backtests.kept_accounts import KeptBacktest
from assets.backtests.plan import BacktestPlan
from assets.backtests.prices import PricePanel
from assets.backtests.rules import TradingRules
from assets.backtests.sweep import SweepRun, sweep
from assets.backtests.topk_dropout import trading_sessions
from assets.backtests.topk_kernel import Sessions
from assets.backtests.tradability import REFUSED
from resources.child_process import run_child
from resources.compute import available_cores
from resources.errors import CandlecastError
from resources.progress import Progress, silent
from resources.qlib import QlibProvider

COLUMNS = ("model", "session", "gross", "cost", "net", "benchmark", "turnover", "account", *REFUSED)
# Days × symbols of all models: fewer take less time than loading the compiled loop, 0.1 s (100 symbols) to 0.5 s (5).
COMPILED_FROM = 150_000
# One thread: the arrays are small, and more threads would compete with other processes for the cores.
CHILD_ENVIRONMENT = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


@dataclass(frozen=True)
class QlibRun:
    """Daily results of all models, by model and session, with the columns `COLUMNS`, returns as fractions; and the
    account of each model after the last session.
    """

    days: pd.DataFrame
    accounts: dict[str, qlib_worker.Account]


def price_panel(provider: QlibProvider) -> PricePanel:
    """The bars of the provider, in the float32 precision of Qlib."""
    symbols = tuple(sorted(provider.ids, key=lambda symbol: provider.ids[symbol]))
    fields = {name: provider.panel(name, symbols) for name in ("open", "high", "low", "close", "volume", "factor")}
    return PricePanel(provider.sessions, symbols, tuple(provider.ids[symbol] for symbol in symbols), **fields)


def simulate_with_qlib(
    plan: BacktestPlan,
    provider: QlibProvider,
    rules: TradingRules,
    folder: Path,
    progress: Progress = silent,
    workers: int | None = None,
    kept: KeptBacktest | None = None,
) -> QlibRun:
    """Simulate a plan, or what follows the days of an earlier result.

    Args:
        folder: an empty folder for the files exchanged with the child process.
        workers: processes that simulate, a model each at a time; none: one per core on Linux, elsewhere one.
        kept: the part of an earlier result that holds for this plan; its days are not simulated again.

    Raises:
        CandlecastError: the Qlib process failed; the message ends with its last output.
    """
    if kept is None:
        kept = KeptBacktest(0, pd.DataFrame(), {})
    last = len(plan.days) - 1
    if kept.day == last:
        return QlibRun(_result_frame(kept.days, plan), kept.accounts)
    workers = workers or (available_cores() if sys.platform == "linux" else 1)
    _write_request(plan.span(kept.day, last), kept.accounts, provider, rules, workers, folder)
    progress(0, len(plan.scores), "starting Qlib")
    _run_qlib(folder, progress)
    days = pd.concat([kept.days, pd.read_parquet(folder / qlib_worker.DAYS)])
    accounts = json.loads((folder / qlib_worker.ACCOUNTS).read_text(encoding="utf-8"))
    return QlibRun(_result_frame(days, plan), accounts)


def plan_sessions(plan: BacktestPlan, prices: PricePanel) -> Sessions:
    """Prices and states of the days of a plan, as `sweep` reads them."""
    window = np.searchsorted(prices.sessions, plan.days)
    return trading_sessions(prices.open[window], prices.close[window], plan.ended, plan.states)


def simulate_without_qlib(plan: BacktestPlan, prices: PricePanel, rules: TradingRules) -> pd.DataFrame:
    """The same results by our own simulation, in the same columns."""
    sessions = plan_sessions(plan, prices)
    compiled = len(plan.scores) * sessions.closes.size >= COMPILED_FROM
    runs = sweep(plan.scores.items(), sessions, [rules], compiled=compiled)
    return _result_frame(pd.concat([_days_of(run, plan) for run in runs]), plan)


def _days_of(run: SweepRun, plan: BacktestPlan) -> pd.DataFrame:
    result = run.simulation
    return pd.DataFrame(
        {
            "model": run.signal,
            "session": plan.days[1:],
            "gross": result.gross,
            "cost": result.cost,
            "net": result.net,
            "turnover": result.turnover,
            "account": result.account,
            **dict(zip(REFUSED, result.refused.T, strict=True)),
        }
    )


def _write_request(
    plan: BacktestPlan,
    accounts: dict[str, qlib_worker.Account],
    provider: QlibProvider,
    rules: TradingRules,
    workers: int,
    folder: Path,
) -> None:
    days = plan.days.astype("datetime64[ns]")
    request = {
        "provider": str(provider.folder),
        "instruments": list(plan.ids),
        "days": [str(day) for day in plan.days],
        "rules": rules.as_dict(),
        "workers": workers,
        # Also those without a score on these days: they hold what is in their accounts.
        "models": sorted(plan.scores),
        "accounts": accounts,
        "ends": {name: str(end) for name, end in zip(plan.ids, plan.ends, strict=True) if not np.isnat(end)},
    }
    (folder / qlib_worker.REQUEST).write_text(json.dumps(request), encoding="utf-8")
    states = np.zeros(plan.ended.shape, dtype=np.int8) if plan.states is None else plan.states
    np.save(folder / qlib_worker.STATES, states)
    tables = []
    for model, scores in plan.scores.items():
        scores = rank_unscored_last(scores) if rules.dropout == "qlib" else scores
        day, column = np.nonzero(np.isfinite(scores))
        ids = np.array(plan.ids, dtype=object)[column]
        tables.append(
            pd.DataFrame({"model": model, "instrument": ids, "datetime": days[day], "score": scores[day, column]})
        )
    pd.concat(tables).to_parquet(folder / qlib_worker.SCORES, index=False)


def rank_unscored_last(scores: np.ndarray) -> np.ndarray:
    """Scores in which symbols without a signal rank below all others, by column, on days that have any signal.

    Qlib orders holdings without a score by Python's string hashes when it has nothing to buy. A scored day of a plan
    has at least topk + n_drop signals, so a symbol without a signal is never bought.
    """
    lowest = -np.arange(1.0, scores.shape[1] + 1)
    decided = np.isfinite(scores).any(axis=1, keepdims=True)
    return np.where(decided & ~np.isfinite(scores), lowest, scores)


def _run_qlib(folder: Path, progress: Progress) -> None:
    """Run the worker on a folder's request.

    Raises:
        CandlecastError: it failed; the message ends with its last lines of output.
    """

    def handle(line: str) -> None:
        if line.startswith(qlib_worker.PROGRESS):
            _, done, total, model = line.split(" ", 3)
            progress(int(done), int(total), model)

    command = [sys.executable, "-m", qlib_worker.__name__, str(folder)]
    exit_ = run_child(command, handle, folder=folder, environment=CHILD_ENVIRONMENT)
    if exit_.code:
        raise CandlecastError(f"the Qlib process {exit_.reason}. Run it again; its last output:\n{exit_.tail}")


def _result_frame(days: pd.DataFrame, plan: BacktestPlan) -> pd.DataFrame:
    found = days.sort_values(["model", "session"], ignore_index=True)
    found["benchmark"] = np.tile(plan.benchmark, len(plan.scores))
    found["session"] = found["session"].astype("datetime64[us]")
    return found[list(COLUMNS)]
