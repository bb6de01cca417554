"""What the report is about: everything that it shows, read once. Nothing here draws or writes.

Two reports with the same contents are the same report, so no wall clock is among them.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assets.backtests.plan import BacktestPlan
from assets.backtests.results import BacktestResult
from assets.backtests.signals import OmittedForecasts
from assets.forecasting.filters import IN_SCOPE, Scope
from assets.forecasting.plots import Fan, read_fan
from assets.market.history import History, read_histories
from assets.market.universe import Universe, read_universe
from resources.checkpoints import Checkpoint, CheckpointStore, Kind
from resources.settings import Settings
from resources.warehouse import Warehouse

ROOT = Path(__file__).resolve().parents[3]
KINDS: tuple[Kind, ...] = ("kronos_tokenizer", "kronos_predictor", "chronos2_model")
PACKAGES = (
    "candlecast", "dagster", "duckdb", "numpy", "pandas", "torch", "transformers", "chronos-forecasting", "pyqlib",
    "arch", "exchange-calendars", "matplotlib",
)  # fmt: skip
TABLES = (
    "payloads", "bars", "rejected_bars", "corporate_actions", "forecasts", "forecast_quantiles", "forecast_scores",
    "scoreboard", "signals", "backtest_days", "backtests",
)  # fmt: skip
FAN_CASES = 3
# Side by side there is room for four: the models, and what they must beat.
FAN_MODELS = ("random_walk_ewma", "kronos", "chronos2", "momentum")

_SCOREBOARD = "SELECT * FROM scoreboard ORDER BY metric, horizon, model, baseline"
_PAYLOADS = """
SELECT source, sum(received)::BIGINT AS received, sum(kept)::BIGINT AS kept, sum(folded)::BIGINT AS folded,
       sum(rejected)::BIGINT AS rejected
FROM payloads GROUP BY source ORDER BY source
"""
_REJECTED = "SELECT rule, count(*) AS rows FROM rejected_bars GROUP BY rule ORDER BY rows DESC, rule"
_COVERAGE = """
SELECT b.symbol, min(b.session)::VARCHAR AS first, max(b.session)::VARCHAR AS last,
       count(DISTINCT b.session) AS sessions, count(*) AS bars, count(*) FILTER (WHERE len(b.flags) > 0) AS flagged,
       any_value(coalesce(a.splits, 0)) AS splits, any_value(coalesce(a.dividends, 0)) AS dividends
FROM bars b
LEFT JOIN (SELECT symbol, count(*) FILTER (WHERE kind = 'split') AS splits,
                  count(*) FILTER (WHERE kind = 'dividend') AS dividends
           FROM corporate_actions GROUP BY symbol) a USING (symbol)
WHERE b.frequency = $frequency AND ($symbols IS NULL OR list_contains($symbols, b.symbol))
GROUP BY b.symbol ORDER BY b.symbol
"""
# A forecast's PIT is at most a level exactly where the close was at most that quantile.
_CALIBRATION = f"""
SELECT s.model, l.level, avg((s.value <= l.level + 1e-9)::INTEGER) AS share, count(*) AS forecasts
FROM (SELECT * FROM forecast_scores WHERE {IN_SCOPE}) s
JOIN forecasts f USING (model, checkpoint, symbol, origin)
CROSS JOIN (SELECT unnest($levels::DOUBLE[]) AS level) l
WHERE s.metric = 'pit' AND NOT f.in_sample AND list_contains($checkpoints, s.model || ' ' || s.checkpoint)
GROUP BY s.model, l.level ORDER BY s.model, l.level
"""
_FORECASTS = f"""
SELECT model, checkpoint, symbol, origin, in_sample FROM forecasts
WHERE list_contains($checkpoints, model || ' ' || checkpoint) AND {IN_SCOPE} ORDER BY model, origin, symbol
"""


@dataclass(frozen=True)
class FanCase:
    """One symbol and origin, by every model shown."""

    symbol: str
    origin: np.datetime64
    fans: tuple[Fan, ...]


@dataclass(frozen=True)
class MarketSummary:
    """What became of the rows, and what there is of each symbol."""

    payloads: pd.DataFrame
    rejected: pd.DataFrame
    coverage: pd.DataFrame


@dataclass(frozen=True)
class ReportContents:
    """All that the report shows. Empty frames and empty tuples are parts that are not there."""

    settings: Mapping[str, Any]
    market: MarketSummary
    universe: Universe
    forecasts: pd.DataFrame
    scoreboard: pd.DataFrame
    calibration: pd.DataFrame
    fans: tuple[FanCase, ...]
    omissions: tuple[OmittedForecasts, ...]
    backtest: BacktestResult
    checkpoints: tuple[Checkpoint, ...]
    used: Mapping[str, str]
    rows: Mapping[str, int]
    versions: Mapping[str, str]
    revision: str
    provider: str

    @property
    def plan(self) -> BacktestPlan | None:
        return self.backtest.plan if isinstance(self.backtest.plan, BacktestPlan) else None


def read_contents(
    settings: Settings,
    warehouse: Warehouse,
    checkpoints: CheckpointStore,
    used: Mapping[str, str],
    result: BacktestResult,
    omissions: Sequence[OmittedForecasts],
    provider: str,
) -> ReportContents:
    """Everything the report shows, from the warehouse, the checkpoint store and the settings.

    Forecasts, scores and coverage are of what the settings ask for (scope); what was received is of the whole home.

    Args:
        used: the checkpoint of each model whose forecasts count.
    """
    frequency, scope = settings.market.frequency, Scope.of(settings)
    pairs = {"checkpoints": [f"{model} {checkpoint}" for model, checkpoint in used.items()]}
    levels = list(settings.forecasts.levels)
    with warehouse.read() as connection:
        forecasts = connection.execute(_FORECASTS, {**pairs, **scope.parameters}).df()
        calibration = connection.execute(_CALIBRATION, {**pairs, "levels": levels, **scope.parameters}).df()
        market = MarketSummary(
            connection.execute(_PAYLOADS).df(),
            connection.execute(_REJECTED).df(),
            connection.execute(_COVERAGE, {"frequency": frequency, "symbols": scope.parameters["symbols"]}).df(),
        )
        scoreboard = connection.execute(_SCOREBOARD).df()
        rows = {table: int(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]) for table in TABLES}
    return ReportContents(
        settings=settings.model_dump(mode="json", exclude={"root", "home"}),
        market=market,
        universe=read_universe(settings, warehouse),
        forecasts=forecasts,
        scoreboard=scoreboard,
        calibration=calibration,
        fans=tuple(_fan_cases(warehouse, frequency, forecasts, settings.windows.predict_window)),
        omissions=tuple(omissions),
        backtest=result,
        checkpoints=tuple(found for kind in KINDS if (found := checkpoints.current(kind))),
        used=dict(used),
        rows=rows,
        versions=_versions(),
        revision=_revision(),
        provider=provider,
    )


def _fan_cases(warehouse: Warehouse, frequency: str, forecasts: pd.DataFrame, horizon: int) -> list[FanCase]:
    """Symbols and origins by their place in the list, evenly, so that nobody picked the good ones."""
    shown = [model for model in FAN_MODELS if (forecasts["model"] == model).any()]
    unseen = forecasts[~forecasts["in_sample"].astype(bool) & forecasts["model"].isin(shown)]
    if unseen.empty:
        return []
    histories = read_histories(warehouse, frequency, symbols=sorted(unseen["symbol"].unique()))
    known = _with_truth(unseen, histories, horizon)
    complete = known.groupby(["symbol", "origin"])["model"].nunique()
    keys = complete[complete == len(shown)].index
    symbols = sorted({symbol for symbol, _ in keys})
    cases = []
    for case in range(min(FAN_CASES, len(keys))):
        symbol = symbols[case * len(symbols) // FAN_CASES]
        origins = sorted(origin for own, origin in keys if own == symbol)
        origin = np.datetime64(origins[(2 * case + 1) * len(origins) // (2 * FAN_CASES)], "s")
        own = known[(known["symbol"] == symbol) & (known["origin"] == origin)].set_index("model")["checkpoint"]
        fans = [read_fan(warehouse, histories[symbol], model, own[model], origin) for model in shown]
        cases.append(FanCase(symbol, origin, tuple(fan for fan in fans if fan)))
    return cases


def _with_truth(forecasts: pd.DataFrame, histories: Mapping[str, History], horizon: int) -> pd.DataFrame:
    """Forecasts of which every step has come true by the newest bar; all of them where none has."""
    enough = {symbol: history.stamps[-1 - min(horizon, len(history) - 1)] for symbol, history in histories.items()}
    done = forecasts["origin"] <= forecasts["symbol"].map(enough)
    return forecasts[done] if done.any() else forecasts


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _revision() -> str:
    """The code's revision, marked where files differ from it; empty outside a git checkout."""
    if not (ROOT / ".git").exists():
        return ""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=ROOT, capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.strip()
