"""Backtest requests and results: stored under the digest of the recipe, and in two tables that hold the newest.

The recipe is everything that determines a result: signals, bars, members, rules, horizon, bootstrap, and the versions
of Qlib and of this code. Not here: the simulation (qlib_backtest), the measures (measures) and the report (report).
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import date
from functools import cached_property
from importlib.metadata import version

import numpy as np
import pandas as pd

from assets.backtests.edge import BootstrapOptions
from assets.backtests.kept_accounts import DAYS_FILE, input_digests, newest_kept, write_accounts
from assets.backtests.measures import YEAR, measure
from assets.backtests.plan import BacktestPlan, NoBacktest, plan_backtest
from assets.backtests.prices import PricePanel
from assets.backtests.qlib_backtest import price_panel, simulate_with_qlib
from assets.backtests.qlib_provider import current_provider
from assets.backtests.rules import TradingRules
from assets.backtests.signals import read_signals
from assets.backtests.tradability import REFUSED
from assets.market.universe import Universe, read_universe
from resources.calendar import DAILY, TradingCalendar
from resources.integrity import keep_if_intact
from resources.layout import Home
from resources.pointers import write_pointer
from resources.progress import Progress, silent
from resources.publish import digest_of, publishing_folder, scratch_folder
from resources.qlib import QlibProvider
from resources.settings import Settings
from resources.warehouse import Warehouse

CODE_VERSION = "6"
MEASURES_FILE, CURRENT_FILE = "measures.parquet", "current.json"
_DAYS = """
SELECT model, session::TIMESTAMP AS session, gross, cost, net, benchmark, turnover
FROM backtest_days ORDER BY model, session
"""
_MEASURES = "SELECT model, metric, value FROM backtests ORDER BY model, metric"


@dataclass(frozen=True)
class BacktestRequest:
    """Everything that determines a backtest.

    Attributes:
        signals: columns model, checkpoint, symbol, origin, value.
        step: the horizon of the signals, in bars.
        frequency: of the bars, such as 1d.
        universe: the members per session.
        year: sessions per year.
    """

    signals: pd.DataFrame
    provider: QlibProvider
    rules: TradingRules
    step: int
    frequency: str
    resampling: BootstrapOptions
    universe: Universe
    year: int

    @property
    def recipe(self) -> str:
        """The digest of everything that determines the result."""
        rules = self.rules.as_dict()
        if len(self.rules.limits.by_pattern) > 1:
            # The first pattern that matches counts, and digests do not depend on the order of keys.
            rules["limits"]["by_pattern"] = list(self.rules.limits.by_pattern.items())
        return digest_of(
            {
                **_versions(),
                "signals": digest_of_frame(self.signals),
                "provider": self.provider.digest,
                "rules": rules,
                "step": self.step,
                "frequency": self.frequency,
                "resampling": asdict(self.resampling),
                "year": self.year,
                "members": self._member_spans(),
            }
        )

    def plan(self) -> BacktestPlan | NoBacktest:
        """The plan to simulate, or the reason why there is none."""
        if self.frequency != DAILY:
            return NoBacktest(
                f"No backtest: it trades once per session and needs daily bars; market.frequency is {self.frequency}."
            )
        return plan_backtest(self.signals, self.prices, self.step, self.rules, self._members(self.prices))

    @cached_property
    def prices(self) -> PricePanel:
        """The bars of the provider."""
        return price_panel(self.provider)

    def _members(self, prices: PricePanel) -> np.ndarray | None:
        """Membership, (sessions, symbols). Not derived from bars: their end is known only in hindsight."""
        if self.universe.derived_from == "bars":
            return None
        return np.column_stack([self.universe.is_member(symbol, prices.sessions) for symbol in prices.symbols])

    def _member_spans(self) -> dict[str, list[str]] | None:
        if self.universe.derived_from == "bars":
            return None
        return {
            symbol: [f"{span.first}/{span.last or ''}" for span in spans]
            for symbol, spans in self.universe.memberships.items()
        }


def backtest_request(
    settings: Settings, signals: pd.DataFrame, provider: QlibProvider, universe: Universe
) -> BacktestRequest:
    """The backtest request of the settings."""
    return BacktestRequest(
        signals=signals,
        provider=provider,
        rules=TradingRules.of(settings.backtest, settings.market.calendar),
        step=settings.backtest.signal_step or settings.windows.predict_window,
        frequency=settings.market.frequency,
        resampling=BootstrapOptions(settings.evaluation.bootstrap_draws, settings.evaluation.confidence, settings.seed),
        universe=universe,
        year=sessions_per_year(settings.market.calendar),
    )


def current_request(settings: Settings, warehouse: Warehouse, home: Home) -> BacktestRequest:
    """The backtest of the stored signals with the current provider and universe."""
    return backtest_request(
        settings, read_signals(warehouse), current_provider(home), read_universe(settings, warehouse)
    )


def sessions_per_year(calendar: str) -> int:
    """252, the convention for exchanges; 365 for a calendar without closed days."""
    days = TradingCalendar(calendar).sessions(date(2019, 1, 1), date(2019, 12, 31))
    return 365 if len(days) == 365 else YEAR


@dataclass(frozen=True)
class BacktestResult:
    """A backtest's result.

    Attributes:
        recipe: the digest of the request.
        plan: the simulated plan, or the reason why there is none.
        days: columns model, session, gross, cost, net, benchmark, turnover, account, and the
            refused orders by reason.
        measures: columns model, metric, value.
        simulated: sessions that this call simulated with Qlib; the results of the others were stored already.
    """

    recipe: str
    plan: BacktestPlan | NoBacktest
    days: pd.DataFrame
    measures: pd.DataFrame
    simulated: int

    @property
    def engine(self) -> str:
        """What simulated the sessions, as text."""
        if isinstance(self.plan, NoBacktest):
            return "no backtest"
        total = len(self.plan.days) - 1
        earlier = "; the others in earlier runs, from the same inputs" if self.simulated < total else ""
        return f"Qlib {version('pyqlib')}: {self.simulated} of {total} sessions in this run{earlier}"


def run_backtest(request: BacktestRequest, home: Home, progress: Progress = silent) -> BacktestResult:
    """Simulate every model's signals with Qlib and measure the results, or read the stored result of the same recipe.

    Qlib resumes from the newest stored accounts whose inputs up to their session are the same.

    Raises:
        CandlecastError: the Qlib process failed.
    """
    recipe, plan = request.recipe, request.plan()
    if isinstance(plan, NoBacktest):
        return BacktestResult(recipe, plan, pd.DataFrame(), pd.DataFrame(), simulated=0)
    stored = home.backtests / recipe
    simulated = 0
    if not keep_if_intact(stored, home.root):
        digests = input_digests(plan, request.prices, request.rules, digest_of(_versions()))
        kept = newest_kept(home, plan, digests)
        simulated = len(plan.days) - 1 - (kept.day if kept else 0)
        scratch = home.scratch / "backtests"
        with scratch_folder(scratch) as work, publishing_folder(stored, scratch) as folder:
            run = simulate_with_qlib(plan, request.provider, request.rules, work, progress, kept=kept)
            run.days.to_parquet(folder / DAYS_FILE, index=False)
            measure(run.days, request.resampling, request.year).to_parquet(folder / MEASURES_FILE, index=False)
            write_accounts(folder, digests[-1], run.accounts)
    # Earlier results are kept, and not part of what the next run compares.
    write_pointer(home.backtests / CURRENT_FILE, recipe)
    days, measures = (pd.read_parquet(stored / name) for name in (DAYS_FILE, MEASURES_FILE))
    return BacktestResult(recipe, plan, days, measures, simulated)


def _versions() -> dict[str, str]:
    return {"code": CODE_VERSION, "qlib": version("pyqlib")}


def store_backtest(warehouse: Warehouse, result: BacktestResult) -> bool:
    """Replace both backtest tables with this result, in one transaction. False: they were equal already."""
    days = result.days.drop(columns=["account", *REFUSED], errors="ignore")
    if _same(days, read_days(warehouse)) and _same(result.measures, read_measures(warehouse)):
        return False
    with warehouse.write() as connection:
        for table, frame in (("backtest_days", days), ("backtests", result.measures)):
            connection.execute(f"DELETE FROM {table}")
            if len(frame):
                connection.register("new_rows", frame)
                connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM new_rows")
    return True


def read_days(warehouse: Warehouse) -> pd.DataFrame:
    """Daily results of the newest backtest, by model and session."""
    return warehouse.frame(_DAYS)


def read_measures(warehouse: Warehouse) -> pd.DataFrame:
    """Measures of the newest backtest, by model and metric."""
    return warehouse.frame(_MEASURES)


def digest_of_frame(frame: pd.DataFrame) -> str:
    """SHA-256 of a frame's columns and values, in their order, without the index."""
    total = hashlib.sha256("\0".join(map(str, frame.columns)).encode())
    total.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return total.hexdigest()


def _same(frame: pd.DataFrame, stored: pd.DataFrame) -> bool:
    if frame.empty or stored.empty:
        return frame.empty and stored.empty
    return frame.reset_index(drop=True).equals(stored)
