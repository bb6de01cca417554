"""Sweeps of backtests: the compiled loop, its cache on disk, and the example in the documentation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from assets.backtests.qlib_provider import publish_provider
from assets.backtests.rules import TradingRules
from assets.backtests.signals import make_signals, store_signals
from assets.backtests.sweep import BLOCKS_PER_WORKER, sweep
from assets.backtests.topk_dropout import Simulation, ranking, simulate, simulate_ranked, trading_sessions
from assets.backtests.topk_kernel import Sessions
from assets.backtests.tradability import State
from assets.market.universe import read_universe
from resources.calendar import TradingCalendar
from resources.layout import Home
from resources.settings import Settings
from resources.warehouse import Warehouse
from tests.backtests.backtest_data import USED

# One worker compiles.
pytestmark = pytest.mark.xdist_group("compiled backtest")
RULES = TradingRules(3, 1, 1, open_cost=0.0005, close_cost=0.0015, min_cost=0.0, account=1e6)
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "sweep-backtests.md"


def market(random: np.random.Generator, days: int, symbols: int) -> Sessions:
    """Random walks with missing bars and opens, refused orders and delistings."""
    closes = 20 * np.exp(np.cumsum(random.normal(0, 0.03, (days, symbols)), axis=0))
    opens = closes * np.exp(random.normal(0, 0.01, closes.shape))
    closes[random.random(closes.shape) < 0.1] = np.nan
    opens[random.random(closes.shape) < 0.05] = np.nan
    ended = np.arange(days)[:, None] > random.integers(days // 2, 3 * days, symbols)
    states = np.where(random.random(closes.shape) < 0.15, random.integers(0, len(State), closes.shape), State.OPEN)
    return trading_sessions(opens, closes, ended, states)


def scores(random: np.random.Generator, days: int, symbols: int) -> np.ndarray:
    """Scores with ties, gaps and days without any."""
    found = random.normal(size=(days, symbols)).round(1)
    found[random.random(found.shape) < 0.2] = np.nan
    found[random.random(days) < 0.1] = np.nan
    return found


def same_bits(one: Simulation, other: Simulation) -> bool:
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in vars(one))


@pytest.mark.parametrize("dropout", ["tradable", "qlib"])
def test_the_compiled_loop_has_the_bits_of_python(dropout: Literal["tradable", "qlib"]) -> None:
    random = np.random.default_rng(17)
    refused = 0
    for _ in range(25):
        days, symbols, topk = (int(random.integers(*ends)) for ends in ((2, 60), (3, 25), (1, 7)))
        rules = TradingRules(
            topk, int(random.integers(1, topk + 1)), int(random.integers(1, 6)), open_cost=random.choice([0.0, 0.002]),
            close_cost=0.001, min_cost=random.choice([0.0, 20.0]), account=random.choice([1e6, 900.0]), dropout=dropout,
        )  # fmt: skip
        sessions, ranks = market(random, days, symbols), ranking(scores(random, days, symbols))
        one, other = (simulate_ranked(ranks, sessions, rules, compiled) for compiled in (True, False))
        assert same_bits(one, other)
        refused += int(one.refused.sum())
    assert refused > 100


def test_a_sweep_has_the_results_of_single_backtests_with_any_number_of_workers() -> None:
    random = np.random.default_rng(3)
    sessions = market(random, 40, 9)
    signals = {f"s{number}": scores(random, 40, 9) for number in range(5)}
    grid = [replace(RULES, topk=topk, n_drop=n) for topk in (1, 2, 3, 4) for n in range(1, topk + 1)] * 2
    alone, shared = (list(sweep(signals.items(), sessions, grid, workers)) for workers in (1, 3))
    assert [(run.signal, run.rules) for run in shared] == [(name, rules) for name in signals for rules in grid]
    assert all(same_bits(one.simulation, other.simulation) for one, other in zip(alone, shared, strict=True))
    prices = sessions.deals, sessions.closes, grid[7], sessions.ended, sessions.states
    assert same_bits(shared[len(grid) + 7].simulation, simulate(signals["s1"], *prices))


def test_a_sweep_reads_signals_when_their_turn_comes() -> None:
    random = np.random.default_rng(4)
    sessions = market(random, 20, 5)
    read: list[int] = []

    def endless() -> Iterator[tuple[str, np.ndarray]]:
        while True:
            read.append(len(read))
            yield f"s{len(read)}", scores(random, 20, 5)

    runs = list(islice(sweep(endless(), sessions, [RULES], workers=2), 50))
    assert len(runs) == 50 and len(read) <= 50 + 2 * BLOCKS_PER_WORKER


def test_scores_of_another_shape_are_refused_by_name() -> None:
    sessions = market(np.random.default_rng(5), 20, 5)
    with pytest.raises(ValueError, match=r"mine.*\(19, 5\).*\(20, 5\)"):
        list(sweep([("mine", np.ones((19, 5)))], sessions, [RULES]))


def test_the_example_sweeps_the_signals_of_a_home(
    home: Home, settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_signals(warehouse, make_signals(warehouse, "1d", 10, USED, read_universe(settings, warehouse)))
    publish_provider(warehouse, home, TradingCalendar("XNYS"))
    monkeypatch.setenv("CANDLECAST_HOME", str(home.root))
    example = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    names: dict[str, object] = {}
    exec(example, names)
    found = names["found"]
    assert isinstance(found, pd.DataFrame)
    assert len(found) == 15 * found["model"].nunique() and found["model"].nunique() > 1
    free, dear = (found.loc[found["cost"] == cost, "annual_return"].to_numpy() for cost in (0.0, 0.002))
    assert (free > dear).all()


LOAD = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from assets.backtests.topk_compiled import compiled_day_loop
print(*(sum(counts.values()) for counts in compiled_day_loop().stats[1:]))
"""


@pytest.mark.slow
def test_the_compiled_loop_is_kept_on_disk(tmp_path: Path) -> None:
    def start() -> subprocess.Popen[str]:
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        return subprocess.Popen([sys.executable, "-c", LOAD], env=environment, stdout=subprocess.PIPE, text=True)

    def outputs(*processes: subprocess.Popen[str]) -> list[str]:
        found = [process.communicate()[0].strip() for process in processes]
        assert not any(process.returncode for process in processes)
        return found

    # Hits and misses of the cache: two processes at once compile.
    assert outputs(start(), start()) == ["0 1", "0 1"]
    assert outputs(start()) == ["1 0"]
    for file in tmp_path.rglob("*.nbc"):
        file.write_bytes(file.read_bytes()[:1000])
    (damaged,) = outputs(start())
    assert "NUMBA_CACHE_DIR" in damaged and damaged.endswith("0 1")
    assert not [file for file in tmp_path.rglob("*") if file.is_file()], "the next process compiles and keeps it"
