"""The lines of the table: each function of `LINES` yields its measurements, on homes that it makes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.orchestration.homes import END, PACKAGED, TRAINED, SimulatedHome, simulated_sessions
from benchmarks.orchestration.processes import REPEATS, Cost, cost_of, cost_of_bare, cost_of_daily

STARTS = (("settings",), ("query", "SELECT 1"), ("lineage", "bars"), ("doctor",))
# Of "+bars": raw_bars and bars.
MARKET_ASSETS = 2
SESSIONS = 4_279
# In a run of empty assets, by storage. Fewer of ours would cost less than two starts of a process differ by.
PARTITIONS = {"ours": 4_000, "dagster": 500}
# Sessions between two origins: a month, so that homes of many symbols or years are made in minutes.
MONTHLY = 21


@dataclass(frozen=True)
class Line:
    """One line of the table, in seconds of processor time if the name of the work has no other unit.

    Attributes:
        wall: seconds from start to end.
        beside: the same of what it is compared with, bare Dagster or a smaller home.
        goal: upper bound, as text.
    """

    work: str
    ours: float
    wall: float | None = None
    beside: float | None = None
    goal: str = ""

    def __str__(self) -> str:
        numbers = (self.ours, self.wall, self.beside, self.beside and self.ours / self.beside)
        shown = "".join(" " * 10 if number is None else f"{number:>10.2f}" for number in numbers)
        return f"{self.work:<52}{shown}  {self.goal}".rstrip()


HEADER = f"{'work (processor time)':<52}{'ours':>10}{'wall':>10}{'beside':>10}{'ratio':>10}  goal"


@dataclass(frozen=True)
class Bench:
    """What the lines measure.

    Attributes:
        folder: where homes are made.
        quick: smaller homes: the same lines, in a third of the time.
        every: sessions between two origins of homes with a history.
        home, settings: a finished home of your own, for the line `nothing_new`.
    """

    folder: Path
    quick: bool = False
    every: int = MONTHLY
    home: Path | None = None
    settings: Path | None = None

    def simulated(self, symbols: int, years: int) -> SimulatedHome:
        """A copy of a home with forecasts and scores of some years, which the first line that needs it makes."""
        kept = self.folder / f"{symbols}x{years}"
        if not kept.exists():
            SimulatedHome.create(kept, symbols, years, TRAINED.format(every=self.every)).call("run")
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(kept, copy)
        return SimulatedHome(copy)


def starts(bench: Bench) -> Iterator[Line]:
    """Commands that read, in a finished home."""
    home = bench.simulated(5, 2)
    dagster = cost_of("-c", "import dagster", repeats=REPEATS).processor
    for command in STARTS:
        cost = cost_of("-m", "orchestration", *command, environment=home.environment(), repeats=REPEATS)
        yield Line(f"candlecast {' '.join(command)}, beside import dagster", cost.processor, cost.wall, dagster, "1 s")


def partition(bench: Bench) -> Iterator[Line]:
    """A partition of an asset that returns at once, in a run over many."""
    each = {storage: _cost_of_a_bare_partition(storage, 1) for storage in PARTITIONS}
    ours, dagster = each["ours"], each["dagster"]
    yield Line("an empty partition beside bare Dagster's, ms", ours.processor, ours.wall, dagster.processor, "1.3 ×")


def one_symbol(bench: Bench) -> Iterator[Line]:
    """The market's assets of one symbol, in a run of many sessions, beside assets that return at once."""
    home = SimulatedHome.create(bench.folder / "one", 1, 17, "")
    first, last = simulated_sessions()[simulated_sessions() <= pd.Timestamp(END)][[-SESSIONS, -1]]
    arguments = ("--from", f"{first:%Y-%m-%d}", "--to", f"{last:%Y-%m-%d}", "--assets", "+bars")
    cost = cost_of("-m", "orchestration", "backfill", *arguments, environment=home.environment())
    # Bare Dagster would take minutes: its cost is proportional, and that of fewer partitions is enough.
    dagster = _cost_of_a_bare_partition("dagster", MARKET_ASSETS).processor
    made = SESSIONS * MARKET_ASSETS
    yield Line(f"backfill of {SESSIONS:,} sessions", cost.processor, cost.wall, dagster * made / 1e3, "20 s")
    each = 1e3 / made
    yield Line("  a partition of an asset, ms", cost.processor * each, cost.wall * each, dagster, "1.2 ms")


def nothing_new(bench: Bench) -> Iterator[Line]:
    """A run of a home in which nothing has changed."""
    if bench.home and bench.settings:
        own = SimulatedHome(bench.settings.parent)
        environment = {
            **own.environment(),
            "CANDLECAST_HOME": str(bench.home),
            "CANDLECAST_SETTINGS": str(bench.settings),
        }
        cost_of("-m", "orchestration", "run", environment=environment)  # what another version may have left to do
        cost = cost_of("-m", "orchestration", "run", environment=environment)
        yield Line(f"run with nothing new, {bench.home}", cost.processor, cost.wall, goal="20 s")
    cost = cost_of("-m", "orchestration", "run", environment=bench.simulated(5, 2).environment())
    yield Line("run with nothing new, 5 symbols", cost.processor, cost.wall, goal="10 s")


def one_origin(bench: Bench) -> Iterator[Line]:
    """All models with the weights that ship, from an origin that has no forecasts yet, with all checks."""
    for symbols, goal in ((5, "8 s"), (115, "12 s")):
        home = SimulatedHome.create(bench.folder / f"origin{symbols}", symbols, 1, PACKAGED)
        first, second = simulated_sessions()[simulated_sessions() <= pd.Timestamp(END)][[-6, -1]]
        home.call("forecast", "--origin", f"{first:%Y-%m-%d}")
        command = ("-m", "orchestration", "forecast", "--origin", f"{second:%Y-%m-%d}")
        cost = cost_of(*command, environment=home.environment())
        yield Line(f"forecast of one origin, {symbols} symbols", cost.processor, cost.wall, goal=goal)


def evening_by_history(bench: Bench) -> Iterator[Line]:
    """An evening with few and with many years of history, and what it adds to the home."""
    short: Evening | None = None
    for years in (1, 5) if bench.quick else (2, 20):
        evening = Evening.of(bench.simulated(5, years))
        yield from evening.lines(f"5 symbols, {years} years", short, "1.2 ×" if short else "")
        short = short or evening


def evening_by_symbols(bench: Bench) -> Iterator[Line]:
    """An evening with more and more symbols."""
    few: Evening | None = None
    for symbols in (5, 20) if bench.quick else (5, 50, 115):
        evening = Evening.of(bench.simulated(symbols, 2))
        yield from evening.lines(f"{symbols} symbols, 2 years", few, f"{symbols // 5} ×" if few else "")
        few = few or evening


@dataclass(frozen=True)
class Evening:
    """The step of one evening: a session's bars arrive, are ingested, forecast and scored, and the report is published.

    Attributes:
        run: `candlecast run`, everything and the report.
        daily: the daily job of another session, as the schedule starts it, without backtests and report.
        warehouse, event_log: bytes that one evening with `run` adds.
    """

    run: Cost
    daily: Cost
    warehouse: int
    event_log: int

    @classmethod
    def of(cls, home: SimulatedHome) -> Evening:
        """Measure the evenings of the next sessions; the first after the home was made is not counted."""
        home.next_session()
        home.call("run")
        before = _bytes(home)
        home.next_session()
        run = cost_of("-m", "orchestration", "run", environment=home.environment())
        after = _bytes(home)
        session = home.next_session()
        daily = cost_of_daily(session, home.environment())
        return cls(run, daily, after[0] - before[0], after[1] - before[1])

    def lines(self, name: str, other: Evening | None, goal: str) -> Iterator[Line]:
        """The lines, beside those of a smaller home."""
        run, daily = (other.run.processor, other.daily.processor) if other else (None, None)
        yield Line(f"evening, candlecast run, {name}", self.run.processor, self.run.wall, run, goal)
        yield Line(f"evening, daily job, {name}", self.daily.processor, self.daily.wall, daily, goal)
        yield Line("  added to the warehouse, KiB", self.warehouse / 1024)
        yield Line("  added to the event log, KiB", self.event_log / 1024)


LINES: dict[str, Callable[[Bench], Iterator[Line]]] = {
    line.__name__: line
    for line in (starts, partition, one_symbol, nothing_new, one_origin, evening_by_history, evening_by_symbols)
}


def _cost_of_a_bare_partition(storage: str, assets: int) -> Cost:
    """Milliseconds per partition and asset, without the start of the process."""
    partitions = PARTITIONS[storage]
    empty, full = cost_of_bare(storage, assets, 1), cost_of_bare(storage, assets, partitions)
    each = 1e3 / (partitions - 1) / assets
    return Cost((full.processor - empty.processor) * each, (full.wall - empty.wall) * each)


def _bytes(home: SimulatedHome) -> tuple[int, int]:
    """Bytes of the warehouse and of Dagster's records."""
    records = (file for file in (home.home / "dagster").rglob("*") if file.is_file())
    return (home.home / "warehouse.duckdb").stat().st_size, sum(file.stat().st_size for file in records)
