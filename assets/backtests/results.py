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
from assets.backtests.plan import BacktestPlan, NoBacktest, PricePanel, plan_backtest
from assets.backtests.qlib_backtest import price_panel, simulate_with_qlib
from assets.backtests.rules import TradingRules
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
class BacktestRequest:
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
    rules: TradingRules
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
                "members": self._member_spans(),
            }
        )

    def plan(self) -> BacktestPlan | NoBacktest:
        """What is played, or why nothing is."""
        if self.frequency != DAILY:
            return NoBacktest(
                f"The backtest trades once a session, so it plays daily signals only; these are of {self.frequency} "
                "bars. There is no backtest."
            )
        prices = price_panel(self.provider)
        return plan_backtest(self.signals, prices, self.step, self.rules, self._members(prices))

    def _members(self, prices: PricePanel) -> np.ndarray | None:
        """(sessions, symbols). That a symbol's bars have ended is known only afterwards: bars decide nothing here."""
        if self.universe.told_by == "bars":
            return None
        return np.column_stack([self.universe.holds(symbol, prices.sessions) for symbol in prices.symbols])

    def _member_spans(self) -> dict[str, list[str]] | None:
        if self.universe.told_by == "bars":
            return None
        return {
            symbol: [f"{span.first}/{span.last or ''}" for span in spans]
            for symbol, spans in self.universe.spans.items()
        }


def backtest_request(
    settings: Settings, signals: pd.DataFrame, provider: QlibProvider, universe: Universe
) -> BacktestRequest:
    """The backtest that the settings ask for."""
    return BacktestRequest(
        signals=signals,
        provider=provider,
        rules=TradingRules.of(settings.backtest),
        step=settings.backtest.signal_step or settings.windows.predict_window,
        frequency=settings.market.frequency,
        resampling=Resampling(settings.evaluation.bootstrap_draws, settings.evaluation.confidence, settings.seed),
        universe=universe,
        year=sessions_per_year(settings.market.calendar),
    )


def sessions_per_year(calendar: str) -> int:
    """The convention for exchanges, 252; 365 for a calendar that leaves no day out."""
    days = TradingCalendar(calendar).sessions(date(2019, 1, 1), date(2019, 12, 31))
    return 365 if len(days) == 365 else YEAR


@dataclass(frozen=True)
class BacktestResult:
    """What was played.

    Attributes:
        recipe: the digest of what decides it.
        plan: what was played, or why nothing was.
        days: columns model, session, gross, cost, net, benchmark, turnover, account.
        measures: columns model, metric, value.
        simulated: whether Qlib was started for it, or the days were there already.
    """

    recipe: str
    plan: BacktestPlan | NoBacktest
    days: pd.DataFrame
    measures: pd.DataFrame
    simulated: bool


def run_backtest(request: BacktestRequest, home: Home, progress: Progress = silent) -> BacktestResult:
    """Play every model's signals through Qlib and measure them, unless this order has been played before.

    Raises:
        CandlecastError: Qlib's process failed.
    """
    recipe, plan = request.recipe, request.plan()
    if isinstance(plan, NoBacktest):
        return BacktestResult(recipe, plan, pd.DataFrame(), pd.DataFrame(), simulated=False)
    kept = home.backtests / recipe
    simulated = not kept.is_dir()
    if simulated:
        scratch = home.scratch / "backtests"
        with scratch_folder(scratch) as work, publishing_folder(kept, scratch) as folder:
            days = simulate_with_qlib(plan, request.provider, request.rules, work, progress)
            days.to_parquet(folder / DAYS_FILE, index=False)
            measure(days, request.resampling, request.year).to_parquet(folder / MEASURES_FILE, index=False)
    days, measures = (pd.read_parquet(kept / name) for name in (DAYS_FILE, MEASURES_FILE))
    return BacktestResult(recipe, plan, days, measures, simulated)


def store(warehouse: Warehouse, found: BacktestResult) -> bool:
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
