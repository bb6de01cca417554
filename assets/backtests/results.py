"""A backtest's results: found by the recipe that made them, or played; and the two tables that hold the newest.

A recipe is everything that decides them: signals, bars, members, rules, horizon, resampling, Qlib's version and ours.
Not here: how they are played, measured or shown.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version

import numpy as np
import pandas as pd

from assets.backtests.measures import YEAR, Resampling, measure
from assets.backtests.plan import NoPlan, Plan, Prices, make_plan
from assets.backtests.qlib_backtest import play_with_qlib, prices_of
from assets.backtests.rules import Rules
from assets.market.universe import Universe
from resources.calendar import DAILY, TradingCalendar
from resources.layout import Home
from resources.progress import Progress, silent
from resources.publish import digest_of, publishing_folder, scratch_folder
from resources.qlib import QlibProvider
from resources.settings import Settings
from resources.warehouse import Warehouse

CODE_VERSION = "4"
DAYS_FILE, MEASURES_FILE = "days.parquet", "measures.parquet"
_DAYS = """
SELECT model, session::TIMESTAMP AS session, gross, cost, net, benchmark, turnover
FROM backtest_days ORDER BY model, session
"""
_MEASURES = "SELECT model, metric, value FROM backtests ORDER BY model, metric"


@dataclass(frozen=True)
class Order:
    """Everything that decides a backtest.

    Attributes:
        signals: columns model, checkpoint, symbol, origin, value.
        step: the horizon of the signals, in bars.
        frequency: of those bars.
        universe: who is a member when.
        year: sessions in one.
    """

    signals: pd.DataFrame
    provider: QlibProvider
    rules: Rules
    step: int
    frequency: str
    resampling: Resampling
    universe: Universe
    year: int

    @property
    def recipe(self) -> str:
        return digest_of(
            {
                "code": CODE_VERSION,
                "qlib": version("pyqlib"),
                "signals": digest_of_frame(self.signals),
                "provider": self.provider.digest,
                "rules": self.rules.as_dict(),
                "step": self.step,
                "frequency": self.frequency,
                "resampling": asdict(self.resampling),
                "year": self.year,
                "members": self._told_members(),
            }
        )

    def plan(self) -> Plan | NoPlan:
        """What is played, or why nothing is."""
        if self.frequency != DAILY:
            return NoPlan(
                f"The backtest trades once a session, so it plays daily signals only; these are of {self.frequency} "
                "bars. There is no backtest."
            )
        prices = prices_of(self.provider)
        return make_plan(self.signals, prices, self.step, self.rules, self._members(prices))

    def _members(self, prices: Prices) -> np.ndarray | None:
        """(sessions, symbols). That a symbol's bars have ended is known only afterwards: bars decide nothing here."""
        if self.universe.told_by == "bars":
            return None
        return np.column_stack([self.universe.holds(symbol, prices.sessions) for symbol in prices.symbols])

    def _told_members(self) -> dict[str, list[str]] | None:
        if self.universe.told_by == "bars":
            return None
        return {
            symbol: [f"{span.first}/{span.last or ''}" for span in spans]
            for symbol, spans in self.universe.spans.items()
        }


def order_of(settings: Settings, signals: pd.DataFrame, provider: QlibProvider, universe: Universe) -> Order:
    """The backtest that the settings ask for."""
    return Order(
        signals=signals,
        provider=provider,
        rules=Rules.of(settings.backtest),
        step=settings.backtest.signal_step or settings.windows.predict_window,
        frequency=settings.market.frequency,
        resampling=Resampling(settings.evaluation.bootstrap_draws, settings.evaluation.confidence, settings.seed),
        universe=universe,
        year=sessions_a_year(settings.market.calendar),
    )


def sessions_a_year(calendar: str) -> int:
    """The convention for exchanges, 252; 365 for a calendar that leaves no day out."""
    days = TradingCalendar(calendar).sessions(date(2019, 1, 1), date(2019, 12, 31))
    return 365 if len(days) == 365 else YEAR


@dataclass(frozen=True)
class Backtest:
    """What was played.

    Attributes:
        recipe: the digest of what decides it.
        plan: what was played, or why nothing was.
        days: columns model, session, gross, cost, net, benchmark, turnover, account.
        measures: columns model, metric, value.
        played: whether Qlib was started for it, or the days were there already.
    """

    recipe: str
    plan: Plan | NoPlan
    days: pd.DataFrame
    measures: pd.DataFrame
    played: bool


def backtest(order: Order, home: Home, progress: Progress = silent) -> Backtest:
    """Play every model's signals through Qlib and measure them, unless this order has been played before.

    Raises:
        CandlecastError: Qlib's process failed.
    """
    recipe, plan = order.recipe, order.plan()
    if isinstance(plan, NoPlan):
        return Backtest(recipe, plan, pd.DataFrame(), pd.DataFrame(), played=False)
    kept = home.backtests / recipe
    played = not kept.is_dir()
    if played:
        scratch = home.scratch / "backtests"
        with scratch_folder(scratch) as work, publishing_folder(kept, scratch) as folder:
            days = play_with_qlib(plan, order.provider, order.rules, work, progress)
            days.to_parquet(folder / DAYS_FILE, index=False)
            measure(days, order.resampling, order.year).to_parquet(folder / MEASURES_FILE, index=False)
    days, measures = (pd.read_parquet(kept / name) for name in (DAYS_FILE, MEASURES_FILE))
    return Backtest(recipe, plan, days, measures, played)


def store(warehouse: Warehouse, found: Backtest) -> bool:
    """Make the two tables this backtest, in one transaction. False: they were so already, and nothing was written."""
    days = found.days.drop(columns="account", errors="ignore")
    if _same(days, read_days(warehouse)) and _same(found.measures, read_measures(warehouse)):
        return False
    with warehouse.write() as connection:
        for table, frame in (("backtest_days", days), ("backtests", found.measures)):
            connection.execute(f"DELETE FROM {table}")
            if len(frame):
                connection.register("made", frame)
                connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM made")
    return True


def read_days(warehouse: Warehouse) -> pd.DataFrame:
    """The newest backtest's days, by model and session."""
    return warehouse.frame(_DAYS)


def read_measures(warehouse: Warehouse) -> pd.DataFrame:
    """The newest backtest's measures, by model and metric."""
    return warehouse.frame(_MEASURES)


def digest_of_frame(frame: pd.DataFrame) -> str:
    """SHA-256 of a frame's columns and values, in their order; the index does not count."""
    total = hashlib.sha256("\0".join(map(str, frame.columns)).encode())
    total.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return total.hexdigest()


def _same(made: pd.DataFrame, stored: pd.DataFrame) -> bool:
    if made.empty or stored.empty:
        return made.empty and stored.empty
    return made.reset_index(drop=True).equals(stored)
